"""`/rag/chat/completions`: the language model, told what the documents say."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint

from blueprints.completions import endpoint
from knowledge.grounding import Place, ground, shown
from knowledge.lookup import Lookup
from knowledge.phrases import Phrases
from knowledge.question import question
from protocol.chunks import Answer
from protocol.language import language
from protocol.request import text_of
from turns.finish import in_finish
from turns.meanwhile import meanwhile
from turns.turn import Turn


@dataclass(frozen=True)
class Rag:
    """How turns are answered from what is known; with `waits_after_s` None no waiting phrase is said."""

    knowledge: Lookup
    phrases: Phrases
    budget: int = 3000
    place: Place = "user"
    waits_after_s: float | None = 0.0
    cites: bool = False

    def answer(self, turn: Turn) -> Answer:
        """Say a waiting phrase, look the question up, and ask the language model with what was found."""
        messages = self.phrases.taken_off(turn.messages)
        if messages[-1]["role"] != "user":
            # a tool's result or a prefill: the question behind it was looked up when it was asked
            yield from turn.ask(messages)
        elif not turn.request.stream or self.waits_after_s is None:
            yield from self._grounded(turn, messages)
        else:
            phrase = self.phrases.choose(turn.messages, language(text_of(messages[-1])))
            if self.waits_after_s:
                yield turn.say_meanwhile(phrase, self.waits_after_s * 1000)
            else:
                yield turn.wait_with(phrase)
            yield from meanwhile(turn, self._grounded(turn, messages))

    def _grounded(self, turn: Turn, messages: list[dict[str, Any]]) -> Answer:
        asked = question(messages)
        spoken = language(text_of(messages[-1]))
        passages, consulted = (yield from self.knowledge.look_up(turn, asked)) if asked else ((), True)
        told = ground(messages, passages, budget=self.budget, place=self.place, language=spoken, consulted=consulted)
        answer = turn.ask(told)
        if self.cites and (cited := shown(passages, budget=self.budget, language=spoken)):
            sources = [{"title": p.title, "file": p.file, "score": round(p.score, 3)} for p in cited]
            answer = in_finish(answer, lambda: {"sources": sources})
        yield from answer


def blueprint(rag: Rag) -> Blueprint:
    """Return the endpoint."""
    return endpoint("/rag", rag.answer)
