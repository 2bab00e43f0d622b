"""Let a turn go on while something else is waited for."""

import socket
from collections.abc import Callable, Generator
from threading import Thread
from typing import TypeVar

from protocol.chunks import Batch
from turns.caller import ThreadCaller
from turns.turn import Turn
from upstream.reading import has_rung
from upstream.waits import Waits

T = TypeVar("T")


def aside(turn: Turn, work: Callable[[Waits], T]) -> Generator[Batch, None, T]:
    """Do some work in a thread of its own (a greenlet under gevent), and return or raise what came of it.

    Meanwhile the turn's alarms ring, as empty batches. When the turn ends before, the work's waits end too: it sees
    the turn as a caller who hangs up.
    """
    outcomes: list[T | BaseException] = []
    ours, theirs = socket.socketpair()

    def run() -> None:
        with theirs:  # closing it is what wakes the turn
            try:
                outcomes.append(work(ThreadCaller(theirs, turn.service.write_s)))
            except BaseException as error:
                outcomes.append(error)

    with ours:
        Thread(target=run, daemon=True).start()
        try:
            while not turn.caller.readable(ours, min(turn.call.alarm, turn.call.until)):
                if has_rung(turn.call, turn.call.until):
                    yield Batch()
        finally:
            turn.caller.forget(ours)
    outcome = outcomes[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
