"""The caller's end of the line under gevent."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from gevent import get_hub, getcurrent

from protocol.errors import CallerHungUp
from turns.caller import FIN_CHECK_S, Caller, has_sent_fin, peek


class HubCaller(Caller):
    """A caller whose turn has a greenlet under gevent.

    A read costs two switches and no more: one watcher stays with the upstream's socket from read to read, one with
    the caller's, and the timer is set anew only when it rings or a wait is shorter than the one before.
    """

    def __init__(self, sock: socket.socket | None, write_s: float) -> None:
        super().__init__(sock, write_s)
        self._hub = get_hub()
        self._owner = getcurrent()
        self._waiting: Any = None  # the greenlet that waits, if it does
        self._working: Any = None  # the greenlet that does something which may wait by itself
        self._until = inf
        self._rings_at = inf
        self._timer: Any = None
        self._upstream: socket.socket | None = None
        self._upstream_watch: Any = None
        self._fin_check: Any = None
        self._caller_watch: Any = None
        if sock is not None:
            self._caller_watch = self._hub.loop.io(sock.fileno(), 1)
            self._caller_watch.start(self._caller_stirred)

    def readable(self, sock: socket.socket | None, until: float = inf) -> bool:
        """Wait until there is something to read, until then, or for `wake`; raise TurnOver."""
        greenlet = getcurrent()
        if greenlet is not self._owner:
            raise RuntimeError("a turn waits in its own greenlet: what runs beside it can't ask or search by it")
        if self.over is not None:
            raise self.over
        if sock is not self._upstream:
            self._watch(sock)
        watch = self._upstream_watch
        if watch is not None and not watch.active:
            watch.start(self._upstream_stirred)
        self._until = until
        if until < self._rings_at:
            self._set_timer(until)
        self._waiting = greenlet
        began = time.monotonic()
        try:
            is_readable: bool = self._hub.switch()
        finally:
            self._waiting = None
            self.waited_s += time.monotonic() - began
        if self.over is not None:
            raise self.over
        return is_readable

    @contextmanager
    def within(self, limit_s: float, late: Exception) -> Iterator[None]:
        """Let code that may wait by itself run, and end that with the turn, or when it waits longer than this."""
        greenlet = self._working = getcurrent()
        timer = self._hub.loop.timer(limit_s, limit_s)

        def overdue() -> None:
            if self._waiting is None:
                greenlet.throw(late)

        timer.start(overdue)
        try:
            yield
        finally:
            self._working = None
            timer.stop()
            timer.close()

    def forget(self, sock: socket.socket) -> None:
        """Let go of a socket that is about to be closed or handed on."""
        if sock is self._upstream:
            self._watch(None)

    def wake(self) -> None:
        """End the wait that the turn is in early; called from another greenlet of this hub."""
        self._hub.loop.run_callback(self._wake, False)

    def close(self) -> None:
        """Stop watching."""
        self._watch(None)
        for watcher in (self._caller_watch, self._timer, self._fin_check):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._caller_watch = self._timer = self._fin_check = None
        self._rings_at = inf

    def _watch(self, sock: socket.socket | None) -> None:
        if self._upstream_watch is not None:
            self._upstream_watch.stop()
            self._upstream_watch.close()
        self._upstream = sock
        self._upstream_watch = None if sock is None else self._hub.loop.io(sock.fileno(), 1)

    def _set_timer(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self._rings_at = moment
        self._timer = self._hub.loop.timer(max(0.0, moment - time.monotonic()))
        self._timer.start(self._timer_rang)

    # what follows is called by the hub, which goes on when the greenlet waits again

    def _wake(self, is_readable: bool) -> None:
        if self._waiting is not None:
            greenlet, self._waiting = self._waiting, None
            greenlet.switch(is_readable)
        elif self._working is not None and self.over is not None:
            greenlet, self._working = self._working, None
            greenlet.throw(self.over)

    def _upstream_stirred(self) -> None:
        if self._waiting is None:
            # the turn is busy elsewhere, with a slow caller perhaps: it starts the watcher again when it next waits
            self._upstream_watch.stop()
        self._wake(True)

    def _timer_rang(self) -> None:
        self._rings_at = inf
        if self._waiting is None:
            return
        if self._until > time.monotonic():
            self._set_timer(self._until)
        else:
            self._wake(False)

    def _caller_stirred(self) -> None:
        assert self.sock is not None
        is_gone, self.has_pipelined = peek(self.sock)
        if is_gone:
            self._hang_up(self._caller_watch)
        elif self.has_pipelined:
            # these bytes stay unread until this answer's end, and the watcher would stir for them without end
            self._caller_watch.stop()
            self._fin_check = self._hub.loop.timer(FIN_CHECK_S, FIN_CHECK_S)
            self._fin_check.start(self._check_fin)

    def _check_fin(self) -> None:
        assert self.sock is not None
        if has_sent_fin(self.sock):
            self._hang_up(self._fin_check)

    def _hang_up(self, watcher: Any) -> None:
        watcher.stop()
        self.over = self.over or CallerHungUp()
        self._wake(False)
