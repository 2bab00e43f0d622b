"""Check one answer of a chat completions endpoint while its bytes arrive, and note when its chunks came."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.framing import Broken, Response

_MAX_LINE_BYTES = 1 << 20
_FIELDS = (b"event:", b"id:", b"retry:", b":")


@dataclass
class Tally:
    """What came since the last reset, and every failure; times in ns."""

    chunks: int = 0
    reads: int = 0  # that brought chunks
    completed: int = 0
    first_tokens: list[int] = field(default_factory=list)
    transits: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def reset(self) -> None:
        """Begin anew, but forget no failure."""
        self.chunks = self.reads = self.completed = 0
        self.first_tokens.clear()
        self.transits.clear()
        self.gaps.clear()

    def fail(self, reason: str) -> None:
        """Count a failed answer; reasons beyond the first hundred are summed up."""
        self.failures[reason if reason in self.failures or len(self.failures) < 100 else "other reasons"] += 1


class Answer:
    """One answer: 200, its chunks in order, every data line one JSON object, [DONE] last, a well-formed end.

    `chunks` is how many marks of the mock upstream must come, each "@@<seq>:<monotonic ns>@@"; None counts what any
    upstream says. `asked` is when the request was sent, in monotonic ns.
    """

    __slots__ = (
        *("_around", "_chunks", "_done", "_last", "_line", "_mark_bytes", "_shape", "_streamed", "_tally"),
        *("asked", "response", "seen"),
    )

    def __init__(self, tally: Tally, asked: int, chunks: int | None, streamed: bool = True) -> None:
        self.response = Response()
        self.asked = asked
        self.seen = 0
        self._tally = tally
        self._chunks = chunks
        self._streamed = streamed
        self._line = b""  # a line, or a body that is no stream, as far as it has come
        self._last = 0
        self._done = False
        self._shape: list[bytes] = []  # the last event, without its mark
        self._around: list[bytes] = []  # the last read, where it was one event, without its mark
        self._mark_bytes = 0

    def feed(self, data: bytes, now: int) -> bool:
        """Take what was read at `now` (monotonic ns); return whether the answer is over, Broken if it is none."""
        parts = data.split(b"@@")
        if len(parts) == 3 and len(parts[1]) == self._mark_bytes and parts[::2] == self._around:
            self._read_mark(parts[1], now)
            self._tally.reads += 1
            return False
        seen = self.seen
        resting = self._resting()
        body = self.response.feed(data)
        if body:
            if self._streamed and self.response.status == 200:
                self._read_lines(body, now)
            elif len(self._line) + len(body) > _MAX_LINE_BYTES:
                raise Broken("a body of more than 1 MiB")
            else:
                self._line += body
        if self.seen > seen:
            self._tally.reads += 1
        if self.response.over:
            self._end(now)
        elif len(parts) == 3 and self._chunks and self.seen == seen + 1 and resting and self._resting():
            self._around, self._mark_bytes = parts[::2], len(parts[1])
        else:
            self._mark_bytes = 0
        return self.response.over

    def close(self, now: int) -> None:
        """Take note that the peer has closed the connection; Broken if the answer was not whole."""
        self.response.close()
        self._end(now)

    def _resting(self) -> bool:
        """Tell whether a read that begins here begins a chunk and a line.

        From one such place to the next, a read that differs from the last in the digits of its mark only is as good.
        """
        return not self._line and self.response.resting

    def _end(self, now: int) -> None:
        if self.response.status != 200:
            raise Broken(f"status {self.response.status}: {_describe(self._line)}")
        if not self._streamed:
            self._read_completion(now)
        elif self._line:
            raise Broken("ended inside a line")
        elif not self._done:
            raise Broken("ended without [DONE]")
        if self._chunks and not self.seen:
            raise Broken("no chunk bears the mock upstream's mark (--model measures what is behind other upstreams)")
        if self._chunks is not None and self.seen != self._chunks:
            raise Broken(f"{self.seen} chunks of {self._chunks}")
        self._tally.completed += 1

    def _read_lines(self, body: bytes, now: int) -> None:
        lines = (self._line + body).split(b"\n")
        self._line = lines.pop()
        if len(self._line) > _MAX_LINE_BYTES:
            raise Broken("a line of more than 1 MiB")
        for line in lines:
            if line.startswith(b"data: {") and not self._done:
                self._read_event(line, now)
            elif line and line != b"\r":
                self._read_other(line.rstrip(b"\r"), now)

    def _read_other(self, line: bytes, now: int) -> None:
        if not line.startswith(b"data:"):
            if not line.startswith(_FIELDS):
                raise Broken(f"not an SSE line: {line[:40]!r}")
        elif self._done:
            raise Broken("data after [DONE]")
        elif line[5:].lstrip(b" ") == b"[DONE]":
            self._done = True
        else:
            self._read_event(line, now)

    def _read_event(self, line: bytes, now: int) -> None:
        # a line that differs from the last one in its mark only needs no second look
        parts = line.split(b"@@")
        if self._chunks is None:
            if _has_content(_decode(line[5:])):
                self._count(now)
        elif len(parts) == 3 and parts[0::2] == self._shape:
            self._read_mark(parts[1], now)
        else:
            _decode(line[5:])
            for mark in parts[1::2]:
                self._read_mark(mark, now)
            self._shape = parts[0::2]

    def _read_mark(self, mark: bytes, now: int) -> None:
        sequence, _, stamp = mark.partition(b":")
        if not (sequence.isdigit() and stamp.isdigit()):
            raise Broken(f"not a mark: {mark[:40]!r}")
        if int(sequence) != self.seen:
            raise Broken(f"chunk {int(sequence)} in the place of {self.seen}")
        self._tally.transits.append(now - int(stamp))
        self._count(now)

    def _count(self, now: int) -> None:
        tally = self._tally
        if self.seen:
            tally.gaps.append(now - self._last)
        else:
            tally.first_tokens.append(now - self.asked)
        self._last = now
        self.seen += 1
        tally.chunks += 1

    def _read_completion(self, now: int) -> None:
        completion = _decode(self._line)
        try:
            content = completion["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise Broken(f"not a chat.completion: {self._line[:80]!r}") from None
        if self._chunks is None:
            self._count(now)
        else:
            for mark in str(content).encode().split(b"@@")[1::2]:
                self._read_mark(mark, now)


def _decode(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        raise Broken(f"not one JSON object: {line[:40]!r}") from None
    if not isinstance(event, dict):
        raise Broken(f"not one JSON object: {line[:40]!r}")
    if event.get("error"):
        raise Broken(f"an error frame: {_describe(line)}")
    return event


def _has_content(event: dict[str, Any]) -> bool:
    try:
        delta = event["choices"][0]["delta"]
        return any(delta.get(key) for key in ("content", "reasoning_content", "tool_calls", "audio"))
    except (KeyError, IndexError, TypeError, AttributeError):
        return False


def _describe(body: bytes) -> str:
    """Return an error's message, or the beginning of what came in its place."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return " ".join(str(message).split())[:120] or "no body"
