"""The language model calls our tools: rounds of asking and running, as one answer."""

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from protocol.chunks import Answer, Batch, Completion, event, read_body, read_completion
from protocol.language import Language
from protocol.redaction import for_log
from turns.aside import Aside, TimeIsUp, idle
from turns.meanwhile import meanwhile
from turns.tool_round import Round
from turns.usage import summed

if TYPE_CHECKING:
    from turns.turn import Turn, Waiting

log = logging.getLogger("custom_llm")


class ToolError(ValueError):
    """Tell the model what is wrong with its call; a plain ValueError does so, too."""


class Tool(Protocol):
    """Whatever the model can call; `deadline_s` is None where the server's own is to do."""

    name: str
    schema: dict[str, Any]
    deadline_s: float | None

    def run(self, arguments: str, turn: Any) -> str:
        """Return what the model gets to read; a ValueError's text tells the model what it did wrong."""
        ...


@dataclass(frozen=True)
class ToolRules:
    """How tools are called: at most `rounds` times in one answer, each call within `deadline_s` seconds.

    A result is cut after `result_limit` characters. With `holds_text` nothing is said before it is certain that no tool
    is called. `phrases` are said while a tool takes longer than `waits_after_ms`; None: never.
    """

    rounds: int = 5
    deadline_s: float = 10.0
    result_limit: int = 8000
    holds_text: bool = False
    waits_after_ms: float | None = None
    phrases: Mapping[Language, str] = field(default_factory=dict)


class Ran(NamedTuple):
    """One call that was run, and what came of it."""

    name: str
    arguments: str
    result: str
    ms: float
    failed: bool


def with_tools(turn: "Turn", body: dict[str, Any], tools: Sequence[Tool | dict[str, Any]], rules: ToolRules) -> Answer:
    """Ask the language model, run what it calls of `tools`, and ask again with the results, until it answers.

    The tools that the request brings stay the caller's: calls of them go out as they come. Where a round calls both,
    the caller's go out alone, for the model asks again in the follow-up. A dict in `tools` is one more of the caller's.
    """
    theirs = [*(body.get("tools") or []), *(tool for tool in tools if isinstance(tool, dict))]
    taken = {_name_of(tool) for tool in theirs}
    ours = {tool.name: tool for tool in tools if not isinstance(tool, dict) and tool.name not in taken}
    offered = [*theirs, *(tool.schema for tool in ours.values())]
    if not offered:
        yield from turn.ask_plainly(body)
        return
    body = {**body, "tools": offered}
    yield from meanwhile(turn, _rounds(turn, body, ours, bool(theirs), rules))


def _rounds(turn: "Turn", body: dict[str, Any], ours: Mapping[str, Tool], has_theirs: bool, rules: ToolRules) -> Answer:
    usages = []
    for number in range(rules.rounds + 1):
        if number == rules.rounds:
            body = {**body, "tool_choice": "none"}
        said = Round(frozenset(ours), has_theirs, has_to_answer=number == rules.rounds)
        yield from _ask(turn, body, said, rules)
        usages.append(said.usage)
        calls = said.own_calls
        if not calls:
            yield from _ended(said, usages)
            return
        results = yield from _run(turn, calls, ours, rules)
        message = {"role": "assistant", "content": said.text or None, "tool_calls": calls}
        body = {**body, "messages": [*body["messages"], message, *results]}
        if body.get("tool_choice") not in (None, "auto", "none"):
            body["tool_choice"] = "auto"  # the tool that was required has been called


def _ask(turn: "Turn", body: dict[str, Any], said: Round, rules: ToolRules) -> Answer:
    held = Batch()
    with closing(turn.ask_plainly(body)) as pieces:
        for piece in pieces:
            if isinstance(piece, Completion):
                said.take_whole(piece)
                continue
            passed = Batch(out for each in piece for out in said.take(each))
            if rules.holds_text and piece:
                held += passed
            elif passed or not piece:
                yield passed
    if held and not said.own_calls:
        yield held


def _ended(said: Round, usages: list[Any]) -> Answer:
    """Yield the end of the last round, with the usage of all of them."""
    usage = summed(usages)
    if isinstance(said.finish, Completion):
        body = {**said.finish.body, **({"usage": usage} if usage else {})}
        choice = body["choices"][0]
        message = choice.get("message") or {}
        calls = said.callers_calls
        if calls != message.get("tool_calls", []):
            message = {name: value for name, value in message.items() if name != "tool_calls"}
            choice = {**choice, "message": message | ({"tool_calls": calls} if calls else {})}
            if not calls:
                choice["finish_reason"] = "stop"  # nobody has anything to run
            body["choices"] = [choice]
        yield read_completion(msgspec.json.encode(body))
        return
    if said.finish:
        finish = said.finish
        if finish.chunk.choices and finish.chunk.choices[0].finish_reason == "tool_calls" and not said.callers_calls:
            _, body = read_body(finish.data)
            finish = event({**body, "choices": [{**body["choices"][0], "finish_reason": "stop"}]})
        yield Batch([finish])
    if usage:
        yield Batch([event({"choices": [], "usage": usage})])


def _run(
    turn: "Turn", calls: list[dict[str, Any]], ours: Mapping[str, Tool], rules: ToolRules
) -> Generator[Batch, None, list[dict[str, Any]]]:
    """Run the calls of one round, all at once, and return the messages that answer them."""
    phrase: Waiting | None = None
    if rules.waits_after_ms is not None and turn.to_say_meanwhile is None:
        turn.say_meanwhile(rules.phrases[turn.language], rules.waits_after_ms)
        phrase = turn.to_say_meanwhile
    runs: list[_Running] = []
    try:
        for call in calls:
            runs.append(_Running(turn, call["function"], ours, rules))
        while not all(run.is_over for run in runs):
            yield from idle(turn, min(run.until for run in runs if not run.is_over))
        ran = [run.ran() for run in runs]
    finally:
        for run in runs:
            run.leave()
    if phrase is not None and turn.to_say_meanwhile is phrase:
        turn.to_say_meanwhile = None
    turn.note_tools(ran)
    return [
        {"role": "tool", "tool_call_id": call["id"], "content": each.result}
        for call, each in zip(calls, ran, strict=True)
    ]


class _Running:
    """One call under way, beside the turn."""

    def __init__(self, turn: "Turn", function: dict[str, Any], ours: Mapping[str, Tool], rules: ToolRules) -> None:
        self._name: str = function["name"]
        self._arguments: str = function["arguments"]
        self._limit = rules.result_limit
        tool = ours.get(self._name)
        self._deadline_s = (tool.deadline_s if tool else None) or rules.deadline_s
        self._began = time.monotonic()
        self.until = self._began + self._deadline_s
        self._is_left = False
        self._ended = self._began

        def work(_: Any) -> str:
            if tool is None:
                raise ValueError("there is no such tool")
            try:
                return tool.run(self._arguments, turn)
            finally:
                self._ended = time.monotonic()
                if self._is_left:
                    log.info("tool %s ended after its call had; its result is dropped", self._name)

        self._work = Aside(turn, work, self._deadline_s)

    @property
    def is_over(self) -> bool:
        """Tell whether it has a result, or no time left for one."""
        return self._work.is_done or time.monotonic() >= self.until

    def leave(self) -> None:
        """Let it run on by itself, if it is not over: what has begun may be an order that must not be cut in two."""
        self._is_left = not self._work.is_done
        self._work.close()

    def ran(self) -> Ran:
        """Return what came of it: a failure is something for the model to read, never the end of the call."""
        result, failed = self._result()
        if len(result) > self._limit:
            result = f"{result[: self._limit]}\n(cut: {len(result) - self._limit} more characters)"
        ended = self._ended if self._work.is_done else time.monotonic()
        return Ran(self._name, self._arguments, result, round((ended - self._began) * 1000, 1), failed)

    def _result(self) -> tuple[str, bool]:
        if not self._work.is_done:
            return f"Error: {self._name} gave no result within {self._deadline_s:g} s.", True
        try:
            return self._work.result(), False
        except TimeIsUp:
            return f"Error: {self._name} gave no result within {self._deadline_s:g} s.", True
        except Exception as error:
            # a library's ValueErrors hold what is none of the model's business, such as a URL
            if isinstance(error, ToolError) or type(error) is ValueError:
                log.info("tool %s was called wrongly: %s", self._name, for_log(str(error)))
                return f"Error: {error}", True
            log.error("tool %s failed", self._name, exc_info=error)
            return f"Error: {self._name} failed.", True


def _name_of(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    return str(function.get("name")) if isinstance(function, dict) else ""
