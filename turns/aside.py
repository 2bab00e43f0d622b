"""Let a turn go on while something else is done."""

import socket
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from math import inf
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from protocol.chunks import Batch
from protocol.errors import CallerHungUp
from turns.pool import has_hub
from upstream.reading import has_rung
from upstream.waits import Waits, poll

if TYPE_CHECKING:
    from turns.turn import Turn

T = TypeVar("T")


class _WaitsBeside(Waits):
    """Waits that end when the turn closes its end of a pair of sockets."""

    def __init__(self, turn: socket.socket, write_s: float) -> None:
        super().__init__(send_s=write_s)
        self._turn = turn

    def readable(self, sock: socket.socket | None, until: float = inf) -> bool:
        ready = poll([s for s in (sock, self._turn) if s is not None], until)
        if self._turn.fileno() in ready:
            raise CallerHungUp
        return bool(ready)

    def pause(self, until: float) -> None:
        self.readable(None, until)


class TimeIsUp(Exception):
    """Say that work took longer than it may."""


def _within(limit_s: float | None) -> AbstractContextManager[Any]:
    if limit_s is None or not has_hub():
        return nullcontext()
    from gevent import Timeout

    timeout: AbstractContextManager[Any] = Timeout(limit_s, TimeIsUp())
    return timeout


class Aside(Generic[T]):
    """Some work in a thread of its own (a greenlet under gevent), at whose end the turn's alarm rings.

    When the turn closes it, the work's waits end too: it sees the turn as a caller who hangs up. Work that waits in its
    own way ends with TimeIsUp after `limit_s`, if it is a greenlet's: a thread can't be ended.
    """

    def __init__(self, turn: "Turn", work: Callable[[Waits], T], limit_s: float | None = None) -> None:
        self._ours, theirs = socket.socketpair()
        self._outcome: T | BaseException | None = None
        self.is_done = False

        def run() -> None:
            with theirs:
                try:
                    with _within(limit_s):
                        self._outcome = work(_WaitsBeside(theirs, turn.service.write_s))
                except BaseException as error:
                    self._outcome = error
            self.is_done = True
            turn.call.ring()

        Thread(target=run, daemon=True).start()

    def result(self) -> T:
        """Return or raise what came of the work."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        outcome: T = self._outcome  # type: ignore[assignment]  # once it is done it is there
        return outcome

    def close(self) -> None:
        """End the work's waits, if it is not done."""
        self._ours.close()


def aside(turn: "Turn", work: Callable[[Waits], T]) -> Generator[Batch, None, T]:
    """Do some work in a thread of its own, and return or raise what came of it; meanwhile the turn's alarms ring."""
    with closing(Aside(turn, work)) as task:
        while not task.is_done:
            yield from idle(turn)
        return task.result()


def idle(turn: "Turn", until: float = inf) -> Generator[Batch, None, None]:
    """Wait until then, but for the turn's next alarm at the longest, and yield an empty batch for it."""
    call = turn.call
    if time.monotonic() < until:
        call.waits.readable(None, min(until, call.alarm, call.until))
        if has_rung(call, call.until):
            yield Batch()
