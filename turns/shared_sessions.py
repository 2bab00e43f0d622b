"""Which turn of a session ends which, among all workers and machines, through Redis.

A turn that enters is announced to all. Redis gives all announcements one order, which every worker sees, so no clock is
needed: a turn is ended by an announcement of its session that comes after its own. Nothing is stored in Redis.
"""

import os
import secrets
from collections.abc import Callable
from threading import Lock
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from turns.redis_channel import RedisChannel
from turns.redis_connections import connections_to
from turns.sessions import Ending, RunningTurns

CHANNEL = "custom-llm:turns"

_NONE = -1


class Announcement(msgspec.Struct):
    """What the workers tell each other: turn `turn` of this worker has entered, and whether it supersedes."""

    key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    worker: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    turn: Annotated[int, Meta(ge=-1, le=2**53)]
    supersedes: bool


class SharedSessions:
    """The sessions of all workers that share a Redis server, as Sessions are those of one; keys are SessionKeys'.

    Turns of one worker end each other at once, as without Redis. To others a turn is announced beside its work, and no
    turn ever waits for Redis: while it can't be used, older turns of other workers run on. An announcement that was
    late, or that may have been sent before, only gives its turn a place in the order and ends nothing: else it could
    end one that is newer in truth. Connections are made with a process's first turn, so it may be made before a fork.

    `deadline_ms` is for each step of a connection, `late_ms` for an announcement. Raises ValueError for a URL that is
    not Redis'.
    """

    def __init__(
        self,
        url: str,
        *,
        limit: int = 10_000,
        expiry_s: float = 900.0,
        deadline_ms: float = 50.0,
        late_ms: float = 250.0,
        channel: str = CHANNEL,
    ) -> None:
        self._connection = connections_to(url, deadline_ms)
        self._limit = limit
        self._expiry_s = expiry_s
        self._late_ms = late_ms
        self._name = channel
        self._starting = Lock()
        self._here: _Here | None = None

    def __len__(self) -> int:
        return len(self._here.running) if self._here else 0

    @property
    def lost(self) -> int:
        """Return how many announcements of this process were late or lost."""
        return self._here.channel.lost if self._here else 0

    @property
    def is_shared(self) -> bool:
        """Tell whether the other workers are heard at present."""
        return self._here is not None and self._here.channel.is_heard

    def start(self) -> None:
        """Connect now, in this process, and not with its first turn."""
        self._of_this_process()

    def enter(self, key: str, turn: Ending, supersedes: bool, can_be_superseded: bool) -> None:
        """Take a turn in as the newest of its session, and end the older ones if it supersedes, wherever they run."""
        self._of_this_process().enter(key, turn, supersedes, can_be_superseded)

    def leave(self, key: str, turn: Ending) -> None:
        """Let a turn go that has ended, in whatever way; one that is not here is nothing to worry about."""
        here = self._here
        if here and here.process == os.getpid():
            here.leave(key, turn)

    def close(self) -> None:
        """End this process's connections to Redis."""
        here, self._here = self._here, None
        if here and here.process == os.getpid():
            here.channel.close()

    def _of_this_process(self) -> "_Here":
        here = self._here
        if here is None or here.process != os.getpid():
            with self._starting:
                here = self._here
                if here is None or here.process != os.getpid():
                    here = self._here = _Here(
                        RunningTurns(self._limit, self._expiry_s), self._connection, self._name, self._late_ms
                    )
        return here


class _Here:
    """What one process has: its turns, its name, its connections."""

    def __init__(self, running: RunningTurns, connection: Callable[[], Any], name: str, late_ms: float) -> None:
        self.process = os.getpid()
        self.name = secrets.token_hex(8)
        self.running = running
        # held where a turn enters, so that turns are announced in the order in which they ended each other
        self._lock = Lock()
        with self._lock:  # the channel may be heard before it has a name here
            self.channel = RedisChannel(connection, name, self._hear, self._place_again, late_ms=late_ms)

    def enter(self, key: str, turn: Ending, supersedes: bool, can_be_superseded: bool) -> None:
        with self._lock:
            older = self.running.take(key) if supersedes else []
            number = self.running.add(key, turn).number if can_be_superseded else _NONE
            if supersedes or can_be_superseded:
                self.channel.send(_Letter(self, key, number, supersedes))
        for one in older:
            one.supersede()

    def leave(self, key: str, turn: Ending) -> None:
        with self._lock:
            self.running.remove(key, turn)

    def _hear(self, data: bytes) -> None:
        try:
            said = msgspec.json.decode(data, type=Announcement)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # not of our kind: whoever reaches Redis can write there
        older: list[Ending] = []
        with self._lock:
            if said.worker == self.name:
                # its own turns have ended each other when it entered
                own = self.running.find(said.turn)
                if own:
                    own.is_placed = True
            elif said.supersedes:
                older = self.running.take(said.key, placed=True)
        for one in older:
            one.supersede()

    def _place_again(self) -> None:
        """Announce again what was announced while nobody listened here."""
        with self._lock:
            for one in self.running:
                if not one.is_placed:
                    self.channel.send(_Letter(self, one.key, one.number, False))


class _Letter:
    __slots__ = ("_here", "_key", "_number", "_supersedes")

    def __init__(self, here: _Here, key: str, number: int, supersedes: bool) -> None:
        self._here = here
        self._key = key
        self._number = number
        self._supersedes = supersedes

    def text(self, is_late: bool) -> bytes | None:
        supersedes = self._supersedes and not is_late
        if not supersedes and self._here.running.find(self._number) is None:
            return None  # it has ended meanwhile
        return msgspec.json.encode(Announcement(self._key, self._here.name, self._number, supersedes))
