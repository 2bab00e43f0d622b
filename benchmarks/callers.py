"""Many callers on one loop, each with a connection for each question; what they hear is noted with its time."""

import contextlib
import heapq
import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from benchmarks.endpoints import Endpoint
from benchmarks.framing import Broken
from benchmarks.poller import READ, Poller

_READ_BYTES = 262_144


class Listener(Protocol):
    """Whatever takes one answer's bytes, each read with its time (monotonic ns); it raises Broken."""

    def feed(self, data: bytes, now: int) -> bool:
        """Take what was read; return whether the answer is over."""
        ...

    def close(self, now: int) -> None:
        """Take note that the peer has closed."""
        ...


class Callers:
    """Ask, listen, and do other things at their time, until told to stop; `failures` counts answers that were none."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._poller = Poller()
        self._open: dict[int, tuple[socket.socket, Listener, Callable[[], None]]] = {}
        self._actions: list[tuple[int, int, Callable[[], None]]] = []  # (monotonic ns, serial, action), a heap
        self._serial = itertools.count()

    def at(self, due: int, action: Callable[[], None]) -> None:
        """Have something done at that time (monotonic ns)."""
        heapq.heappush(self._actions, (due, next(self._serial), action))

    def ask(self, endpoint: Endpoint, request: bytes, listener: Listener, over: Callable[[], None]) -> None:
        """Send a request; `over` is called after its answer, whether that was good or not."""
        try:
            sock = socket.create_connection(endpoint.address, timeout=5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(request)
        except OSError as error:
            self._fail(f"cannot ask: {error.strerror or error}", over)
            return
        sock.setblocking(False)
        self._open[sock.fileno()] = (sock, listener, over)
        self._poller.register(sock.fileno(), READ)

    def run(self, until: int, *, until_idle: bool = False) -> None:
        """Go on until then (monotonic ns), or until no answer is under way and nothing is to be done later."""
        while (now := time.monotonic_ns()) < until and not (until_idle and not self._open and not self._actions):
            while self._actions and self._actions[0][0] <= now:
                heapq.heappop(self._actions)[2]()
            next_ns = min(self._actions[0][0], until) if self._actions else until
            for descriptor, _ in self._poller.wait(max(0, next_ns - now) / 1e9):
                self._serve(descriptor)

    def forget(self) -> None:
        """Do nothing of what was to be done later."""
        self._actions.clear()

    def close(self) -> int:
        """Hang up wherever an answer is under way; return in how many places."""
        left = list(self._open)
        for descriptor in left:
            self._shut(descriptor)
        return len(left)

    def _serve(self, descriptor: int) -> None:
        sock, listener, over = self._open[descriptor]
        try:
            data = sock.recv(_READ_BYTES)
            now = time.monotonic_ns()
            if not data:
                listener.close(now)
            elif not listener.feed(data, now):
                return
        except BlockingIOError:
            return
        except (OSError, Broken) as error:
            self._shut(descriptor)
            self._fail(str(error), over)
            return
        self._shut(descriptor)
        over()

    def _shut(self, descriptor: int) -> None:
        sock, _, _ = self._open.pop(descriptor)
        with contextlib.suppress(OSError):
            self._poller.unregister(descriptor)
        sock.close()

    def _fail(self, reason: str, over: Callable[[], None]) -> None:
        self.failures[reason] += 1
        over()
