"""The caller's end of the line: a turn's waits, which a hang-up ends at once.

Under WSGI a closed connection shows only at the next write, and a silent upstream brings none: so the caller's socket
is watched wherever a turn waits. Under gevent the hub's own event loop does it, else `poll` in the turn's thread.
"""

import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

from protocol.errors import CallerHungUp, TurnOver
from upstream.waits import Waits, poll

FIN_CHECK_S = 0.1
# the first byte of Linux's TCP_INFO is the connection's state: closed, and closed by the peer
_CLOSED_STATES = (b"\x07", b"\x08")


class Caller(Waits):
    """The caller of one turn, whose every wait raises TurnOver when the turn is over.

    A write to a caller who does not read ends after `write_s` seconds. `sock` is None where the server shows none.
    """

    def __init__(self, sock: socket.socket | None, write_s: float) -> None:
        super().__init__()
        self.sock = sock
        self.over: TurnOver | None = None
        self.has_pipelined = False
        if sock is not None:
            sock.settimeout(write_s)

    def end(self, over: TurnOver) -> None:
        """End the turn from outside: the wait that it is in, or its next one, raises this."""
        if self.over is None:
            self.over = over
            self.wake()

    def look(self) -> None:
        """See whether the turn is over; raise TurnOver."""
        if self.over is not None:
            raise self.over

    @contextmanager
    def within(self, limit_s: float, late: Exception) -> Iterator[None]:
        """Let code that may wait by itself run, and end that with the turn, or when it waits longer than this.

        Then `late` is raised in it. Waits like those of this class have limits of their own, and don't count. Only a
        greenlet can be ended so; a thread runs on until it comes back to a wait like these.
        """
        yield

    def pause(self, until: float) -> None:
        """Wait until then; raise TurnOver."""
        while not self.readable(None, until) and time.monotonic() < until:
            pass

    @property
    def is_too_slow(self) -> bool:
        """Tell, of a caller to whom a write failed, whether the connection is there all the same."""
        if self.sock is None or self.over:
            return False
        return not peek(self.sock)[0] and not has_sent_fin(self.sock)

    def close(self) -> None:
        """Stop watching."""


class ThreadCaller(Caller):
    """A caller whose turn has a thread of its own, as under Flask's development server."""

    def __init__(self, sock: socket.socket | None, write_s: float) -> None:
        super().__init__(sock, write_s)
        self._bell, self._rope = socket.socketpair()

    def readable(self, sock: socket.socket | None, until: float = inf) -> bool:
        """Wait until there is something to read, until then, or for `wake`; raise TurnOver."""
        while True:
            watched = self.sock if self.sock is not None and not self.has_pipelined else None
            soon = min(until, time.monotonic() + FIN_CHECK_S) if self.has_pipelined else until
            began = time.monotonic()
            ready = poll([s for s in (sock, watched, self._bell) if s is not None], soon)
            self.waited_s += time.monotonic() - began
            self._look_at_socket()
            self.look()
            if sock is not None and sock.fileno() in ready:
                return True
            if self._bell.fileno() in ready:
                self._bell.recv(4096)
                return False
            if time.monotonic() >= until:
                return False

    def _look_at_socket(self) -> None:
        if self.sock is None or self.over:
            return
        if self.has_pipelined:
            is_gone = has_sent_fin(self.sock)
        else:
            is_gone, self.has_pipelined = peek(self.sock)
        if is_gone:
            self.over = CallerHungUp()

    def wake(self) -> None:
        """End the wait that the turn is in, or its next one, early."""
        with suppress(OSError):  # the turn has ended
            self._rope.send(b"!")

    def close(self) -> None:
        """Stop watching."""
        self._bell.close()
        self._rope.close()


def peek(sock: socket.socket) -> tuple[bool, bool]:
    """Tell whether the caller has hung up, and whether bytes of a next request lie before what could tell."""
    timeout = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        data = sock.recv(1, socket.MSG_PEEK)
        return not data, bool(data)
    except BlockingIOError:
        return False, False
    except (OSError, ValueError):
        return True, False
    finally:
        sock.settimeout(timeout)


def has_sent_fin(sock: socket.socket) -> bool:
    """Tell whether the caller has closed behind the bytes that it sent."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) in _CLOSED_STATES
    except (AttributeError, OSError):
        # not Linux: the next write will tell
        return False


def caller_of(environ: Mapping[str, Any], write_s: float) -> Caller:
    """Return the caller of a WSGI request, by the socket that gunicorn or the development server shows."""
    sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        from turns.hub_caller import HubCaller

        return HubCaller(sock, write_s)
    return ThreadCaller(sock, write_s)
