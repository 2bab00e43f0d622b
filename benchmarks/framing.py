"""Take an HTTP/1.1 response apart: bytes in, body bytes out, no I/O."""

import re

_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked *\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,18}) *\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8}) *(?:;.*)?")
_MAX_HEAD_BYTES = 16384
_MAX_LINE_BYTES = 1024


class Broken(Exception):
    """An answer is not what it must be; the message says in what."""


class Response:
    """One response; `status` is 0 until its head is whole, `over` is set with the last byte of its body."""

    __slots__ = ("_closing", "_framed", "_held", "_last", "_left", "over", "reusable", "status")

    def __init__(self) -> None:
        self.status = 0
        self.over = False
        self.reusable = False  # may the connection carry another request?
        self._framed = False
        self._held = b""  # of the head or of a chunk's size line, cut by a read
        self._left = -1  # bytes of the body or of the chunk that are to come; -1: unknown
        self._closing = False  # the line end after a chunk's data comes next
        self._last = False  # the chunk of size 0 has come

    @property
    def begun(self) -> bool:
        """Tell whether any byte has come."""
        return bool(self.status or self._held)

    @property
    def resting(self) -> bool:
        """Tell whether a chunk's size line comes next."""
        return self._framed and not (self._left or self._held or self._closing or self._last)

    def feed(self, data: bytes) -> bytes:
        """Return what of the body is in `data`; Broken if the framing is."""
        if not self.status:
            data = self._read_head(data)
        if self._framed:
            return self._unframe(data) if data else b""
        if self._left >= 0:
            if len(data) > self._left:
                raise Broken("more bytes than Content-Length says")
            self._left -= len(data)
            self.over = self._left == 0 and self.status != 0
        return data

    def close(self) -> None:
        """Take note that the peer has closed; Broken if the body was not to end so."""
        if not self.status:
            raise Broken("closed before the response's head")
        if self._framed or self._left > 0:
            raise Broken("closed inside the body")
        self.over = True

    def _read_head(self, data: bytes) -> bytes:
        data = self._held + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > _MAX_HEAD_BYTES:
                raise Broken("a head of more than 16 KiB")
            self._held = data
            return b""
        self._held = b""
        head = data[:end]
        match = _STATUS.match(head)
        if not match:
            raise Broken("not an HTTP/1.1 response")
        self.status = int(match[2])
        self._framed = _CHUNKED.search(head) is not None
        length = _LENGTH.search(head)
        if self._framed:
            self._left = 0
        elif length:
            self._left = int(length[1])
        self.reusable = match[1] == b"1" and not _CLOSE.search(head) and (self._framed or length is not None)
        return data[end:]

    def _unframe(self, data: bytes) -> bytes:
        if self._held:
            data = self._held + data
            self._held = b""
        pieces = []
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                self._closing = not self._left
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                if len(data) - position > _MAX_LINE_BYTES:
                    raise Broken("a chunk's size line of more than 1 KiB")
                self._held = data[position:]
                break
            line = data[position:end]
            position = end + 2
            if self._closing:
                if line:
                    raise Broken("a chunk is longer than its size")
                self._closing = False
            elif self._last:  # trailers, then an empty line
                if not line:
                    self.over = True
                    if position < len(data):
                        raise Broken("bytes after the body's end")
            else:
                size = _CHUNK_SIZE.fullmatch(line)
                if not size:
                    raise Broken(f"not a chunk size: {line[:20]!r}")
                self._left = int(size[1], 16)
                self._last = not self._left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
