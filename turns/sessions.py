"""Which turn of a session ends which, within one process.

A newer turn in which the caller speaks ends the older ones of its session: two of them are on their way when a pause
cuts a sentence in two, or when an engine starts anew and leaves the old connection open.
"""

import time
import weakref
from collections.abc import Iterator
from itertools import count
from threading import Lock
from typing import NamedTuple, Protocol

from protocol.request import ChatRequest


class Ending(Protocol):
    """A turn that can be ended from outside."""

    def supersede(self) -> None:
        """End the turn where it waits, or where it waits next; do nothing if it has ended.

        Called from any thread or greenlet; must not block, and must not run the turn itself.
        """
        ...


class Standing(NamedTuple):
    """What a turn may do to the others of its session."""

    supersedes: bool
    can_be_superseded: bool


def standing(request: ChatRequest) -> Standing:
    """Tell by its last message what a turn may do to the others of its session.

    The caller speaks: it ends older turns, and newer ones end it. The result of a tool: it goes on with what the caller
    said before, so it ends nothing, and is ended when the caller speaks. Anything else, such as a text that is to be
    said as it stands, or a caller who said nothing: it takes no part.
    """
    role = request.last["role"]
    if role == "user" and not request.is_empty_turn:
        return Standing(True, True)
    return Standing(False, role in ("tool", "function"))


class Running:
    """A running turn that can be superseded.

    `number` counts the turns of this process. `is_placed` is for sessions that are shared: whether the turn has its
    place in the order that all processes see. The turn is held weakly, so that one which never left is not kept alive.
    """

    __slots__ = ("key", "identity", "number", "until", "is_placed", "_turn")

    def __init__(self, key: str, turn: Ending, number: int, until: float) -> None:
        self.key = key
        self.identity = id(turn)
        self.number = number
        self.until = until
        self.is_placed = False
        self._turn = weakref.ref(turn)

    @property
    def turn(self) -> Ending | None:
        """Return the turn, None if nobody has it any more."""
        return self._turn()


class RunningTurns:
    """The running turns that can be superseded, by session and by age: at most `limit`, each for `expiry_s` seconds.

    For more than that the oldest are forgotten; they run on. Each step costs the same however many there are. For one
    thread at a time.
    """

    def __init__(self, limit: int, expiry_s: float) -> None:
        self._limit = limit
        self._expiry_s = expiry_s
        self._numbers = count()
        self._by_age: dict[int, Running] = {}
        self._by_session: dict[str, dict[int, Running]] = {}

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[Running]:
        return iter(self._by_age.values())

    @property
    def sessions(self) -> int:
        """Return the number of sessions with a running turn."""
        return len(self._by_session)

    def add(self, key: str, turn: Ending) -> Running:
        """Take a turn in."""
        now = time.monotonic()
        while self._by_age:
            oldest = next(iter(self._by_age.values()))
            if len(self._by_age) < self._limit and now < oldest.until:
                break
            self._drop(oldest)
        self.remove(key, turn)
        running = Running(key, turn, next(self._numbers), now + self._expiry_s)
        self._by_age[running.number] = running
        self._by_session.setdefault(key, {})[id(turn)] = running
        return running

    def remove(self, key: str, turn: Ending) -> None:
        """Let a turn go, if it is here."""
        running = self._by_session.get(key, {}).get(id(turn))
        if running:
            self._drop(running)

    def find(self, number: int) -> Running | None:
        """Return the turn of this number, if it is here."""
        return self._by_age.get(number)

    def take(self, key: str, *, placed: bool = False) -> list[Ending]:
        """Let all turns of a session go, or those that are placed, and return them."""
        taken = [one for one in self._by_session.get(key, {}).values() if one.is_placed or not placed]
        for one in taken:
            self._drop(one)
        return [turn for one in taken if (turn := one.turn) is not None]

    def _drop(self, running: Running) -> None:
        del self._by_age[running.number]
        session = self._by_session[running.key]
        del session[running.identity]
        if not session:
            del self._by_session[running.key]


class Sessions:
    """The sessions of one process.

    A turn enters when its request has been read, and leaves when its response is closed. Only turns that can be
    superseded are kept, and weakly: what is entered must be held by who runs it. Any number of threads and greenlets
    may share it.
    """

    def __init__(self, limit: int = 10_000, expiry_s: float = 900.0) -> None:
        self._lock = Lock()
        self._running = RunningTurns(limit, expiry_s)

    def __len__(self) -> int:
        return len(self._running)

    def enter(self, key: str, turn: Ending, supersedes: bool, can_be_superseded: bool) -> None:
        """Take a turn in as the newest of its session, and end the older ones if it supersedes."""
        with self._lock:
            older = self._running.take(key) if supersedes else []
            if can_be_superseded:
                self._running.add(key, turn)
        for one in older:
            one.supersede()

    def leave(self, key: str, turn: Ending) -> None:
        """Let a turn go that has ended, in whatever way; one that is not here is nothing to worry about."""
        with self._lock:
            self._running.remove(key, turn)

    def close(self) -> None:
        """End what goes on besides turns: nothing, in one process."""
