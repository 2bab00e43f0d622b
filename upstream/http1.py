"""HTTP/1.1 responses, without I/O: bytes in, head and body out.

The message format: https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import re
import zlib

HEAD_LIMIT = 64 * 1024
"""Bytes that a response's head may have."""
INFLATED_LIMIT = 16 * 1024 * 1024
"""Bytes that one read's compressed body may swell to."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,1024})?\r\n")
_CHUNK_LINE_LIMIT = 1100
_TRAILER_LIMIT = 16 * 1024


class MalformedResponse(ValueError):
    """Say that a peer's bytes are no HTTP/1.1 response."""


class ResponseParser:
    """Parse one response as its bytes come.

    `status`, `reason`, `headers` (lower-case names) are there once `has_head`; `complete` once the body has ended.
    `reusable` then tells whether the connection may serve another request.
    """

    def __init__(self) -> None:
        self.has_head = False
        self.complete = False
        self.reusable = False
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self._rest = b""
        self._chunked = False
        self._left: int | None = 0  # bytes of this chunk or body still to come; None: until the peer closes
        self._in_chunk = False
        self._in_trailer = False
        self._inflate: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return what they bring of the body; raise MalformedResponse."""
        if not self.has_head:
            self._rest += data
            if not self._read_head():
                return b""
            data, self._rest = self._rest, b""
        if self.complete:
            self.reusable = self.reusable and not data
            return b""
        if self._chunked:
            body = self._chunks(data)
        elif self._left is None:
            body = data
        else:
            body = data[: self._left]
            self.reusable = self.reusable and len(data) <= self._left
            self._left -= len(body)
            self.complete = not self._left
        return self._inflated(body) if self._inflate else body

    def eof(self) -> None:
        """Take the peer's end of the connection; raise MalformedResponse where the response is cut by it."""
        self.reusable = False
        if not self.complete:
            if not self.has_head or self._left is not None:
                raise MalformedResponse("the connection was closed in the middle of a response")
            self.complete = True

    def _read_head(self) -> bool:
        while True:
            end = self._rest.find(b"\r\n\r\n")
            if end < 0:
                if len(self._rest) > HEAD_LIMIT:
                    raise MalformedResponse("the head has no end")
                return False
            if end > HEAD_LIMIT:
                raise MalformedResponse("the head is too long")
            status_line, *lines = self._rest[:end].split(b"\r\n")
            self._rest = self._rest[end + 4 :]
            match = _STATUS_LINE.fullmatch(status_line)
            if not match:
                raise MalformedResponse("no HTTP/1.1 status line")
            self.status = int(match[2])
            if self.status == 101:
                raise MalformedResponse("the protocol was switched unasked")
            # an interim response (100 Continue, 103 Early Hints) comes before the real one
            if self.status >= 200:
                break
        self.reason = (match[3] or b"").decode("latin-1")
        self.headers = _headers(lines)
        self._frame_body(http11=match[1] == b"1")
        self.has_head = True
        return True

    def _frame_body(self, http11: bool) -> None:
        connection = self.headers.get("connection", "").lower()
        self.reusable = "close" not in connection and (http11 or "keep-alive" in connection)
        encoding = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self.complete = True
        elif encoding:
            if encoding != "chunked":
                raise MalformedResponse("an unknown transfer encoding")
            self._chunked = True
            # both framings at once is how responses are smuggled: this connection ends with this one
            self.reusable = self.reusable and length is None
        elif length is not None:
            if not re.fullmatch(r"[0-9]{1,15}", length):
                raise MalformedResponse("Content-Length is no number")
            self._left = int(length)
            self.complete = not self._left
        else:
            self._left = None
        coding = self.headers.get("content-encoding", "identity").lower()
        if coding in ("gzip", "x-gzip", "deflate"):
            # never asked for, sent all the same by some servers; 47: either format
            self._inflate = zlib.decompressobj(47)
        elif coding != "identity":
            raise MalformedResponse("an unknown content encoding")

    def _chunks(self, data: bytes) -> bytes:
        if not (self._rest or self._left or self._in_chunk or self._in_trailer):
            # a read that brings one chunk and nothing else: most of a paced stream
            match = _CHUNK_SIZE.match(data)
            size = int(match[1], 16) if match else 0
            if match and size and match.end() + size + 2 == len(data) and data.endswith(b"\r\n"):
                return data[match.end() : -2]
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end, parts = 0, len(data), []
        left = self._left or 0
        while at < end:
            if left:
                part = data[at : at + left]
                parts.append(part)
                at += len(part)
                left -= len(part)
            elif self._in_chunk:
                if end - at < 2 and data[at:] == b"\r":
                    break
                if data[at : at + 2] != b"\r\n":
                    raise MalformedResponse("a chunk is longer than its size")
                at += 2
                self._in_chunk = False
            elif self._in_trailer:
                at = self._trailer(data, at)
                break
            else:
                match = _CHUNK_SIZE.match(data, at)
                if not match:
                    if end - at > _CHUNK_LINE_LIMIT or b"\n" in data[at:]:
                        raise MalformedResponse("a chunk without its size")
                    break
                at = match.end()
                left = int(match[1], 16)
                self._in_chunk = left > 0
                self._in_trailer = not left
        self._left = left
        self._rest = data[at:] if not self.complete else b""
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _trailer(self, data: bytes, at: int) -> int:
        """Pass over the trailer, which ends with an empty line, and return where it ends."""
        if data.startswith(b"\r\n", at):
            end = at + 2
        else:
            found = data.find(b"\r\n\r\n", at)
            if found < 0:
                if len(data) - at > _TRAILER_LIMIT:
                    raise MalformedResponse("the trailer has no end")
                return at
            end = found + 4
        self.complete = True
        self.reusable = self.reusable and end == len(data)
        return end

    def _inflated(self, body: bytes) -> bytes:
        assert self._inflate
        try:
            whole = self._inflate.decompress(body, INFLATED_LIMIT)
        except zlib.error as error:
            raise MalformedResponse("the compressed body is damaged") from error
        if self._inflate.unconsumed_tail:
            raise MalformedResponse("the compressed body swells too far")
        return whole


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if not match:
            raise MalformedResponse("a header line is malformed")
        name, value = match[1].decode("ascii").lower(), match[2].strip(b" \t").decode("latin-1")
        if name in headers:
            if name == "content-length" and headers[name] != value:
                raise MalformedResponse("two different lengths")
            if name != "content-length":
                value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def request_head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """Write a request's head; raise ValueError for a header that would break out of its line."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise ValueError("a header holds a line end")
    return head.encode("latin-1") + b"\r\n\r\n"
