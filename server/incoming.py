"""A caller's bytes on their way in: how long they may take, how many they may be, and what becomes of the rest."""

import contextlib
import socket
import time
from math import inf
from typing import Any

import gevent
from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader
from gunicorn.http.unreader import SocketUnreader

from protocol.errors import BadRequest, Failure

HEAD_LIMIT = 64 * 1024
"""Bytes of a head; more would be scanned again with each that comes."""
REST_LIMIT = 64 * 1024
"""Bytes of a body that nobody wanted which are read all the same, so that the connection can be kept."""
LINGER_S = 2.0
LINGER_LIMIT = 16 * 1024 * 1024
"""Bytes that are thrown away before a connection is closed."""

_TURN_S = 0.002  # how long one caller's bytes are worked on before the others have their turn
_PAUSE_S = 0.0001  # of 0 seconds, the hub would go on without a look at any socket
# what a method can begin with, and the empty line that may precede it; a TLS hello begins otherwise
_BEGINNINGS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~\r\n")


class TooSlow(Failure):
    """Give up a request that does not come in time."""

    status = 408
    type = "invalid_request_error"
    outcome = "caller_too_slow"


class Incoming(SocketUnreader):
    """What a connection brings, read under a deadline and up to a limit of bytes."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._until = inf
        self._left: float = inf
        self._turn_began = 0.0

    def allow(self, seconds: float, limit: float = inf) -> None:
        """Let what comes next take so many seconds, and be at most so many bytes beyond what has come already."""
        self._until = time.monotonic() + seconds
        self._left = limit

    def begins(self, idle_s: float) -> bool:
        """Wait so many seconds for a next request's first bytes, and tell whether they have come."""
        self._give_way()
        if not self.buf.tell():
            self.sock.settimeout(idle_s)
            try:
                self.unread(self.sock.recv(self.mxchunk))
            except TimeoutError:
                return False
        first: bytes = self.buf.getvalue()[:1]
        if first and first[0] not in _BEGINNINGS:
            # it will never become a head: a caller who means TLS learns that now and not when the time is over
            raise errors.InvalidRequestMethod("")
        return bool(first)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Read what has come, or wait for it; raise TooSlow, LimitRequestHeaders."""
        now = self._give_way()
        if self._left <= 0:
            raise errors.LimitRequestHeaders("limit request head")
        if now >= self._until:
            raise _too_slow()
        before = self.sock.gettimeout()
        self.sock.settimeout(self._until - now)
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self.sock.settimeout(before)
        self._left -= len(data)
        return data

    def _give_way(self) -> float:
        """Let others have their turn if this one has had its own, and return the time.

        Bytes that are there are read without a switch to the hub: one who sends fast would keep all others out.
        """
        now = time.monotonic()
        if now - self._turn_began > _TURN_S:
            gevent.sleep(_PAUSE_S)
            now = self._turn_began = time.monotonic()
        return now

    def linger(self) -> None:
        """End what we send and throw away what still comes, for a while.

        Bytes that are unread when a connection is closed have the caller's system throw our answer away.
        """
        left = LINGER_LIMIT
        self.allow(LINGER_S)
        with contextlib.suppress(OSError, TooSlow):
            self.sock.shutdown(socket.SHUT_WR)
            while left > 0 and (data := self.chunk(REST_LIMIT)):
                left -= len(data)


def _too_slow() -> TooSlow:
    return TooSlow("The request took too long to come.", code="request_timeout")


class RequestBody:
    """A request's body, whose malformed chunks are the caller's fault and no fault of ours.

    With `invites` the caller waits for leave to send it, and is told to go on when it is first read.
    """

    def __init__(self, body: Any, sock: Any, invites: bool) -> None:
        self._body = body
        self._sock = sock
        self._invites = invites

    def read(self, size: int | None = None) -> bytes:
        """Read so many bytes, or all; raise BadRequest where the body is no HTTP, TooSlow where it does not come."""
        if self._invites:
            self._invites = False
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            data: bytes = self._body.read(size)
        except errors.ParseException:
            raise BadRequest("The body is no HTTP/1.1 body.", code="invalid_http") from None
        return data

    @property
    def rest(self) -> float:
        """Return how many bytes of it have not been read; infinity where that can't be told."""
        reader = self._body.reader
        if self._body.failed or self._invites:
            return inf
        if isinstance(reader, ChunkedReader):
            return inf if reader.parser is not None else 0
        left: int = reader.length
        return left

    def read_rest(self) -> bool:
        """Read what nobody wanted, and tell whether the connection can be used for a next request."""
        try:
            while self.rest and self.read(REST_LIMIT):
                pass
        except (OSError, Failure):
            return False
        return True
