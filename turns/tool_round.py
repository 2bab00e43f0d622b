"""What the model says in one round of calling tools, and whose calls are whose."""

from dataclasses import dataclass, field
from typing import Any

from protocol.chunks import Batch, Completion, Event, event, read_body
from turns.tool_calls import ToolCalls


@dataclass
class Round:
    """What the model says in one round: its text, its calls, its finish."""

    ours: frozenset[str]
    has_theirs: bool  # the request brought tools of its own
    has_to_answer: bool = False  # it is the last one: what is called all the same is not run
    calls: ToolCalls = field(default_factory=ToolCalls)
    text: str = ""
    finish: Event | Completion | None = None
    usage: Any = None
    _waiting: list[dict[str, Any]] = field(default_factory=list)  # pieces of calls whose name is still to come

    def is_ours(self, name: str) -> bool:
        """Tell whether a call is run here; so is what nobody offered: the model must hear that it is not there."""
        return name in self.ours or not self.has_theirs

    @property
    def own_calls(self) -> list[dict[str, Any]]:
        """Return the calls that are ours to run, none if the caller has to run some: they go first."""
        return [] if self.has_to_answer or self.callers_calls else self.calls.whole()

    @property
    def callers_calls(self) -> list[dict[str, Any]]:
        """Return the calls that the caller has to run."""
        return [call for call in self.calls.whole() if not self.is_ours(call["function"]["name"])]

    def take(self, each: Event) -> Batch:
        """Note what an event means for the round, and return what of it goes on to the caller."""
        chunk = each.chunk
        choices = chunk.choices
        if chunk.usage:
            self.usage = chunk.usage
        if not choices:
            return Batch() if chunk.usage else Batch([each])
        self.text += each.text
        choice = choices[0]
        calls = choice.delta.tool_calls if choice.delta else None
        if not calls and not choice.finish_reason and not chunk.usage:
            return Batch([each])
        _, body = read_body(each.data)
        head = {name: value for name, value in body.items() if name not in ("choices", "usage")}
        first, *others = body["choices"]
        rest = {name: value for name, value in (first.get("delta") or {}).items() if name != "tool_calls"}
        passed = Batch()
        if any(rest.values()) or others:
            passed.append(event({**head, "choices": [{**first, "delta": rest, "finish_reason": None}, *others]}))
        for piece in self._of_the_callers(calls or []):
            passed.append(event({**head, "choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]}))
        if choice.finish_reason:
            self.finish = event({**head, "choices": [{**first, "delta": {}}]})
        return passed

    def _of_the_callers(self, pieces: list[Any]) -> list[dict[str, Any]]:
        self._waiting += self.calls.renumbered(pieces)
        names = [call["function"]["name"] for call in self.calls.whole()]
        known = [piece for piece in self._waiting if names[piece["index"]]]
        self._waiting = [piece for piece in self._waiting if not names[piece["index"]]]
        return [piece for piece in known if not self.is_ours(names[piece["index"]])]

    def take_whole(self, completion: Completion) -> None:
        """Note what an answer that was not streamed means for the round."""
        message = completion.body["choices"][0].get("message") or {}
        self.text = completion.text
        self.usage = completion.body.get("usage")
        self.calls.renumbered(message.get("tool_calls") or [])
        self.finish = completion
