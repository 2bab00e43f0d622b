"""One turn of a conversation: what the caller asked, and the means to answer."""

import secrets
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from protocol.chunks import WAITING_ID, Batch, Completion, delta
from protocol.request import ChatRequest
from turns.caller import ThreadCaller
from turns.record import Record
from turns.think import hide_thinking
from upstream.call import Call

Answer = Generator[Batch | Completion, None, None]


class Model(Protocol):
    """Whatever answers: an upstream, or the demo model."""

    is_demo: bool
    state: str

    def ask(self, body: dict[str, Any], call: Call) -> Answer:
        """Yield what the model says."""
        ...

    def models(self, call: Call) -> bytes:
        """Return the list of models as JSON."""
        ...


@dataclass(frozen=True)
class Service:
    """What all turns of this process share: the upstream, and the rules by which it is asked. Times are in seconds."""

    upstream: Model
    think: Literal["pass", "hide"] | None = None
    assistant_last: Literal["say", "forward"] = "say"
    fallback: str | None = None
    total_s: float = 300.0
    keepalive_s: float = 5.0
    write_s: float = 10.0
    drop_fields: frozenset[str] = frozenset()


class Turn:
    """One turn: `request` is what came, `ask` and `say` are what an answer is made of.

    An answer is a generator of batches: `yield from turn.ask()` is the plainest.
    """

    def __init__(
        self,
        service: Service,
        request: ChatRequest,
        caller: ThreadCaller,
        record: Record,
        *,
        key: str | None = None,
        hides_thinking: bool = False,
    ) -> None:
        self.service = service
        self.request = request
        self.caller = caller
        self.record = record
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created = int(time.time())
        self._hides_thinking = service.think == "hide" if service.think else hides_thinking
        self.call = Call(caller, record.began + service.total_s, request.stream, key)
        record.model = request.model or ""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation, without what the engine adds to it for itself."""
        messages: list[dict[str, Any]] = self.request.body["messages"]
        return messages

    def ask(self, messages: list[dict[str, Any]] | None = None, **params: Any) -> Answer:
        """Ask the language model, with other messages or parameters where they are given, and yield what it says."""
        body = {**self.request.body, **params}
        if messages is not None:
            body["messages"] = messages
        answer = self.service.upstream.ask(body, self.call)
        return hide_thinking(answer) if self._hides_thinking else answer

    def say(self, text: str) -> Batch:
        """Return a batch that says this text."""
        return Batch([delta({"content": text})])

    def wait_with(self, phrase: str) -> Batch:
        """Return a batch that says a waiting phrase, which is none of the answer's content."""
        return Batch([delta({"role": "assistant", "content": phrase}, id=WAITING_ID)])


def answered(turn: Turn, answer: Callable[[Turn], Answer]) -> Answer:
    """Return the answer to a turn: by `answer`, where there is something to answer."""
    said = turn.request.says
    if said is not None and turn.service.assistant_last == "say":
        return _saying(turn, said)
    if turn.request.is_empty_turn:
        turn.record.outcome = "empty"
        return _saying(turn, "")
    return answer(turn)


def _saying(turn: Turn, text: str) -> Answer:
    if text:
        yield turn.say(text)
