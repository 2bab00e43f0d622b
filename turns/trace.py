"""What the playground is told of an answer: where it came from, and what took how long."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.chunks import Answer, Batch, Completion, delta, read_completion
from turns.finish import in_finish

if TYPE_CHECKING:
    from turns.turn import Turn

TEXT_LIMIT = 2000
"""Characters that are told of a passage's text, and of a tool's result."""


class Trace:
    """What is noted while a turn is answered, for a caller who asked for it with `X-Trace: 1`."""

    def __init__(self) -> None:
        self.passages: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []
        self.audio_hz: int | None = None

    def note_passages(self, passages: Sequence[Any]) -> None:
        """Note what was found for the turn's question."""
        for each in passages:
            told = {"title": each.title, "file": each.file, "score": round(each.score, 3)}
            self.passages.append({**told, "text": each.text[:TEXT_LIMIT]})

    def note_tools(self, ran: Sequence[Any]) -> None:
        """Note the calls to tools that were run."""
        for each in ran:
            told = {"name": each.name, "arguments": each.arguments[:TEXT_LIMIT], "result": each.result[:TEXT_LIMIT]}
            self.tools.append({**told, "ms": each.ms, "failed": each.failed})


def traced(turn: "Turn", trace: Trace, pieces: Answer) -> Answer:
    """Tell what was noted in a field `trace` of the finish, or of the whole answer; times are in ms."""

    def fields() -> dict[str, Any]:
        told = {"passages": trace.passages, "tools": trace.tools, "audio_hz": trace.audio_hz}
        timings = {name: value for name, value in turn.record.fields().items() if name.endswith("_ms")}
        return {"trace": {**told, "timings": timings, "outcome": turn.record.outcome}}

    has_finish = False
    for piece in in_finish(pieces, fields):
        has_finish = has_finish or isinstance(piece, Completion) or _finishes(piece)
        yield piece
    if has_finish:
        return
    if turn.request.stream:
        yield Batch([delta({}, "stop", **fields())])
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
        body = {"model": turn.request.model or "default", "choices": [choice], **fields()}
        yield read_completion(msgspec.json.encode(body))


def _finishes(piece: Any) -> bool:
    return any(choice.finish_reason for each in piece for choice in each.chunk.choices or ())
