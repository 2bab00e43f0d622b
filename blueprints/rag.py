"""`/rag/chat/completions`: the language model, told what the documents say."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Blueprint

from blueprints.completions import endpoint
from knowledge.grounding import Place, ground, shown
from knowledge.lookup import Lookup
from knowledge.passages import Passage
from knowledge.phrases import Phrases
from knowledge.question import question
from protocol.chunks import Answer, Batch, Completion, Event, event, read_body, read_completion
from protocol.language import language
from protocol.request import text_of
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
        sources = shown(passages, budget=self.budget, language=spoken) if self.cites else []
        answer = turn.ask(told)
        yield from _cited(answer, sources) if sources else answer


def _cited(answer: Answer, passages: Sequence[Passage]) -> Answer:
    """Name the sources in the chunk that finishes an answer, or in the whole of it."""
    sources = [{"title": p.title, "file": p.file, "score": round(p.score, 3)} for p in passages]
    for piece in answer:
        if isinstance(piece, Completion):
            yield read_completion(msgspec.json.encode({**piece.body, "sources": sources}))
        else:
            yield Batch(_with_sources(piece, sources))


def _with_sources(batch: Iterable[Event], sources: list[dict[str, Any]]) -> Iterator[Event]:
    for each in batch:
        if not any(choice.finish_reason for choice in each.chunk.choices or ()):
            yield each
            continue
        _, body = read_body(each.data)
        if each.text:
            # what is said in the chunk of the finish goes before it
            first, *others = body["choices"]
            yield event({**body, "usage": None, "choices": [{**first, "finish_reason": None}]})
            body = {**body, "choices": [{**first, "delta": {}}, *others]}
        yield event({**body, "sources": sources})


def blueprint(rag: Rag) -> Blueprint:
    """Return the endpoint."""
    return endpoint("/rag", rag.answer)
