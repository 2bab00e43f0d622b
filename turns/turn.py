"""One turn of a conversation: what the caller asked, and the means to answer."""

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from protocol.chunks import CONTROL, WAITING_ID, Answer, Batch, delta, event
from protocol.errors import Failure, Superseded
from protocol.language import Language, language
from protocol.request import ChatRequest, text_of
from turns.caller import Caller
from turns.record import Record
from turns.think import hide_thinking
from turns.tools import Ran, Tool, ToolRules, with_tools
from turns.trace import Trace
from upstream.call import Call


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


class Library(Protocol):
    """Whatever knows something: what `Turn.search` asks."""

    def look_up(self, turn: "Turn", question: str) -> Generator[Batch, None, tuple[Sequence[Any], bool]]:
        """Return the passages that bear on a question, and whether they could be looked for."""
        ...


@dataclass(frozen=True)
class Service:
    """What all turns of this process share: the upstream, and the rules by which it is asked. Times are in seconds."""

    upstream: Model
    think: Literal["pass", "hide"] | None = None
    assistant_last: Literal["say", "forward"] = "say"
    fallback: str | None = None
    first_token_s: float = 10.0
    stall_s: float = 10.0
    total_s: float = 300.0
    keepalive_s: float = 5.0
    write_s: float = 10.0
    drop_fields: frozenset[str] = frozenset()
    notes_interruptions: bool = False
    traces: bool = False
    repeats_audio_id: bool = False
    library: Library | None = None
    tools: Sequence[Tool] = ()
    tool_rules: ToolRules = ToolRules()


class AgentTimeout(Failure):
    """Report that an agent's own code took too long."""

    status = 504

    def __init__(self) -> None:
        super().__init__("The agent did not answer in time.", code="agent_timeout")


class Waiting(NamedTuple):
    """A phrase that is to be said if nothing else is by then, in seconds of `time.monotonic()`."""

    due: float
    phrase: str


class Turn:
    """One turn: `request` is what came, `ask` and `say` are what an answer is made of.

    An answer is a generator of batches: `yield from turn.ask()` is the plainest.
    """

    def __init__(
        self,
        service: Service,
        request: ChatRequest,
        caller: Caller,
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
        self.session: str | None = None
        self.trace: Trace | None = None
        self.to_say_meanwhile: Waiting | None = None
        self._has_begun = False
        self._hides_thinking = service.think == "hide" if service.think else hides_thinking
        self.call = Call(caller, record.began + service.total_s, request.stream, key)
        record.model = request.model or ""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation, without what the engine adds to it for itself."""
        messages: list[dict[str, Any]] = self.request.body["messages"]
        return messages

    @property
    def text(self) -> str:
        """Return what the caller said last, "" if nothing yet."""
        return next((text_of(m) for m in reversed(self.request.messages) if m["role"] == "user"), "")

    @property
    def language(self) -> Language:
        """Return the language that the caller speaks; a turn without a letter is in that of the turns before."""
        said = [text_of(m) for m in self.request.messages[-8:] if m["role"] == "user"]
        return language(said[-1], language(" ".join(said))) if said else "en"

    @property
    def metadata(self) -> dict[str, Any]:
        """Return what the engine says of the last message: its source, the user who spoke."""
        found = self.request.last.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def says(self) -> str | None:
        """Return the text that is to be said as it stands, if the request asks for that."""
        return self.request.says if self.service.assistant_last == "say" else None

    def ask(
        self, messages: list[dict[str, Any]] | None = None, *, tools: Sequence[Any] | None = None, **params: Any
    ) -> Answer:
        """Ask the language model, with other messages or parameters where they are given, and yield what it says.

        `tools` are what it can call, beside those that the request brings: functions with `@tool`, which are run here.
        """
        body = {**self.request.body, **params}
        if messages is not None:
            body["messages"] = messages
        if tools is None:
            tools = self.service.tools
        return with_tools(self, body, tools, self.service.tool_rules) if tools else self.ask_plainly(body)

    def ask_plainly(self, body: dict[str, Any]) -> Answer:
        """Send the language model this request, and yield what it says."""
        answer = self.service.upstream.ask(body, self.call)
        return hide_thinking(answer) if self._hides_thinking else answer

    def search(self, question: str) -> Generator[Batch, None, Sequence[Any]]:
        """Look a question up, and return the passages that bear on it, the best first; none where nothing is known.

        It is to be written `passages = yield from turn.search(question)`. A passage has `title`, `text`, `file` and
        `score`.
        """
        if self.service.library is None:
            return ()
        passages, _ = yield from self.service.library.look_up(self, question)
        return passages

    def clocked(self) -> AbstractContextManager[None]:
        """Let an agent's own code run, within the time that a first token, and then any next one, may take."""
        limit_s = self.service.stall_s if self._has_begun else self.service.first_token_s
        self._has_begun = True
        return self.caller.within(limit_s, AgentTimeout())

    def supersede(self) -> None:
        """End this turn because a newer one of its session has begun."""
        self.caller.end(Superseded())

    def note_tools(self, ran: Sequence[Ran]) -> None:
        """Note the calls to tools that were run."""
        self.record.tool_calls += len(ran)
        self.record.failed_tool_calls += sum(each.failed for each in ran)
        if self.trace:
            self.trace.note_tools(ran)

    def say(self, text: str) -> Batch:
        """Return a batch that says this text."""
        return Batch([delta({"content": text})])

    def wait_with(self, phrase: str) -> Batch:
        """Return a batch that says a waiting phrase, which is none of the answer's content."""
        return Batch([delta({"role": "assistant", "content": phrase}, id=WAITING_ID)])

    def say_meanwhile(self, phrase: str, after_ms: float = 800) -> Batch:
        """Have a waiting phrase said if nothing else is within so many ms from now; return an empty batch to yield.

        Answers that are not streamed need none.
        """
        if self.request.stream:
            self.to_say_meanwhile = Waiting(time.monotonic() + after_ms / 1000, f"{phrase.strip()} ")
            self.call.wake_at(self.to_say_meanwhile.due)
        return Batch()

    def control(self, *, interruptable: bool | None = None, tts_params: dict[str, Any] | None = None) -> Batch:
        """Return a batch that tells the engine how to speak this answer; it comes before anything else.

        `interruptable` says whether the caller may interrupt it, `tts_params` changes the voice: Agora's "custom
        metadata", https://docs.agora.io/en/conversational-ai/develop/custom-llm
        """
        given = {"interruptable": interruptable, "tts_params": tts_params}
        metadata = {name: value for name, value in given.items() if value is not None}
        return Batch([event({"object": CONTROL, "choices": [], "metadata": metadata})])


def answered(turn: Turn, answer: Callable[[Turn], Answer]) -> Answer:
    """Return the answer to a turn: by `answer`, where there is something to answer."""
    if turn.says is not None:
        return _saying(turn, turn.says)
    if turn.request.is_empty_turn:
        turn.record.outcome = "empty"
        return _saying(turn, "")
    return answer(turn)


def _saying(turn: Turn, text: str) -> Answer:
    if text:
        yield turn.say(text)
