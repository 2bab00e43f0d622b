"""Server-Sent Events: bytes in, the data of each event out.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re

from protocol.lenient import BOM

DONE = b"[DONE]"
KEEPALIVE = b": keepalive\n\n"
EVENT_LIMIT = 4 * 1024 * 1024
"""Bytes an event may have before its end has come: an upstream's line that never ends must not fill the memory."""

# bytes that keeping a line takes besides its own
_LINE_COST = 64
# the only line ends of the format: U+2028, U+0085 and their like are text
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLong(ValueError):
    """Say that an event had no end within the limit."""


class EventDecoder:
    """Cut a stream of bytes, as it comes, into the data of its events.

    Lenient where real upstreams are: no space after the colon, CRLF or a lone CR, a BOM, comments, other fields,
    a last event without its empty line. The lines of one event are joined by a space, not by the format's line feed:
    the data is JSON, where both are white space, and so it can go on as one line.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._rest: list[bytes] = []  # the parts of an unfinished line, or events not yet looked at
        self._data: list[bytes] = []  # the data lines of an unfinished event
        self._rest_size = 0
        self._data_size = 0
        self._after_cr = False  # a line feed now would be the second half of a CRLF
        self._started = False

    def feed(self, block: bytes) -> list[bytes]:
        """Take the next bytes and return the data of the events that they complete; raise EventTooLong."""
        if self._rest or not self._started:
            if not block:
                return []
            self._rest.append(block)
            self._rest_size += len(block)
            self._check()
            if self._started and b"\n" not in block and b"\r" not in block:
                # joined only when a line has ended: a long one may come in thousands of reads
                return []
            block = b"".join(self._rest)
            if not self._started:
                if len(block) < len(BOM) and BOM.startswith(block):
                    return []
                self._started = True
                block = block.removeprefix(BOM)
            self._keep(b"")
        # nearly every stream is nothing but `data: …` and an empty line: one cut does for all of a block's events
        if not self._data and not self._after_cr and block.startswith(b"data: ") and b"\r" not in block:
            end = block.rfind(b"\n\n")
            if end >= 0:
                events = block[6:end].split(b"\n\ndata: ")
                if block.count(b"\n", 0, end) == 2 * (len(events) - 1) and b"" not in events:
                    self._keep(block[end + 2 :])
                    return events
        return self._lines(block)

    def _lines(self, block: bytes) -> list[bytes]:
        if self._after_cr and block:
            block = block.removeprefix(b"\n")
            self._after_cr = False
        # a CR ends its line at once; whether a line feed belongs to it, the next block tells
        self._after_cr = self._after_cr or block.endswith(b"\r")
        *lines, rest = _LINE_END.split(block)
        events = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append(b" ".join(self._data))
                self._data, self._data_size = [], 0
        self._keep(rest)
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            if value:
                self._data.append(value)
                self._data_size += len(value) + _LINE_COST
                self._check()

    def _keep(self, rest: bytes) -> None:
        self._rest, self._rest_size = [rest] if rest else [], len(rest)
        self._check()

    def _check(self) -> None:
        if self._rest_size + self._data_size > self._limit:
            raise EventTooLong("an event has no end")

    def end(self) -> list[bytes]:
        """Return the data of a last event that had no empty line after it."""
        events = self._lines(b"".join(self._rest) + b"\n\n")
        self._after_cr = False
        return events


def frame(datas: list[bytes]) -> bytes:
    """Write events that each hold one line of data."""
    return b"data: " + b"\n\ndata: ".join(datas) + b"\n\n"
