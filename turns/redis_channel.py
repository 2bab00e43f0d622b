"""One channel of Redis, beside the turns: who sends never waits, and all hear everything in one order.

Redis may be slow, hang or be gone: then messages are late or lost, and counted, and nothing else happens.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any, Protocol

log = logging.getLogger("custom_llm")

QUIET_S = 10.0
"""Silence after which the connection is tried with a ping."""
PONG_S = 1.0
"""Wait for the answer to it."""
PAUSES_S = (0.1, 5.0)
"""Pause before the second attempt to connect, and the longest one."""
LOG_EVERY_S = 60.0
"""Least time between the log lines of two outages: a Redis that comes and goes must not fill the log."""
MESSAGE_LIMIT = 512
"""Bytes that a message may have; a longer one is not heard."""

# both so few that they take a ms or so
_BATCH = 16
_HEARD_IN_A_ROW = 16
# then others get their turn, for that long: under gevent a sleep of 0 lets no timer and no socket in
_REST_S = 0.0005


class Letter(Protocol):
    """A message that is yet to be sent."""

    def text(self, is_late: bool) -> bytes | None:
        """Return what is to be sent now, None for nothing.

        `is_late`: it lay too long, or was tried before, and may have come through.
        """
        ...


class RedisChannel:
    """Send to a channel of Redis and hear all that is sent there, one's own messages among it, in one order for all.

    Made in the process that uses it, never before a fork: it has two connections, each with a thread of its own (a
    greenlet under gevent). `hear` is called for each message, `joined` whenever the channel is heard (again) from then
    on; both in the listening thread. A letter that could not be sent within `late_ms` is late; of more than `limit` the
    oldest is dropped.
    """

    def __init__(
        self,
        connection: Callable[[], Any],
        name: str,
        hear: Callable[[bytes], None],
        joined: Callable[[], None],
        *,
        late_ms: float = 250.0,
        limit: int = 1000,
    ) -> None:
        self.lost = 0
        self._name = name
        self._hear = hear
        self._joined = joined
        self._late_s = late_ms / 1000
        self._limit = limit
        self._letters: deque[_Waiting] = deque()
        self._outage = _Outage()
        self._is_heard = Event()
        self._has_letters = Event()
        self._closing = Event()
        self._lock = Lock()
        self._ear = connection()
        self._deadline_s: float = self._ear.socket_timeout
        self._threads = [
            Thread(target=self._keep_on, args=("listening", self._listen, self._ear), daemon=True),
            Thread(target=self._keep_on, args=("publishing", self._publish, connection()), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_heard(self) -> bool:
        """Tell whether the channel is heard at present."""
        return self._is_heard.is_set()

    def send(self, letter: Letter) -> None:
        """Have a letter sent, after those before it; return at once."""
        with self._lock:
            if len(self._letters) >= self._limit:
                self._count_lost(self._letters.popleft())
            self._letters.append(_Waiting(letter))
        self._has_letters.set()

    def close(self) -> None:
        """End both connections; what has not been sent is dropped."""
        self._closing.set()
        self._has_letters.set()
        self._ear.disconnect()
        for thread in self._threads:
            thread.join(2)

    def _keep_on(self, side: str, work: Callable[[Any], None], connection: Any) -> None:
        """Do one side's work until all is closed, with ever longer pauses while Redis is not there."""
        pause_s, longest_s = PAUSES_S
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                work(connection)
            except Exception as error:
                # of many kinds: redis-py's own, the system's, and any while another thread closes the connection
                if not self._closing.is_set():
                    self._outage.begin(side, error)
            finally:
                connection.disconnect()
            self._note_late()
            if time.monotonic() - began > longest_s:
                pause_s = PAUSES_S[0]
            # all workers lose their connections at once, and should not all come back at once
            self._closing.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(longest_s, pause_s * 2)

    def _listen(self, connection: Any) -> None:
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self._name)
            patience_s, heard = self._deadline_s, 0
            while not self._closing.is_set():
                if not connection.can_read(timeout=patience_s):
                    if patience_s != QUIET_S:
                        raise TimeoutError("no answer")
                    connection.send_command("PING")
                    patience_s = PONG_S
                    continue
                kind, *_, data = connection.read_response()
                patience_s = QUIET_S
                if kind == b"message" and len(data) <= MESSAGE_LIMIT:
                    self._tell(self._hear, data)
                elif kind == b"subscribe":
                    self._is_heard.set()
                    self._outage.end("listening", self.lost)
                    self._tell(self._joined)
                heard += 1
                if heard % _HEARD_IN_A_ROW == 0:
                    time.sleep(_REST_S)
        finally:
            self._is_heard.clear()

    def _publish(self, connection: Any) -> None:
        # heard first, so that one's own messages come back
        self._is_heard.wait(self._deadline_s)
        connection.connect()
        self._outage.end("publishing", self.lost)
        while True:
            has_letters = self._has_letters.wait(QUIET_S)
            if self._closing.is_set():
                return
            if not _is_open(connection):
                # closed while it was idle: nothing has been lost yet
                connection.disconnect()
                connection.connect()
            if not has_letters:
                connection.send_command("PING")
                connection.read_response()
            self._has_letters.clear()
            while batch := self._take():
                self._post(connection, batch)

    def _post(self, connection: Any, batch: "list[_Waiting]") -> None:
        try:
            texts = [text for one in batch if (text := one.letter.text(one.is_late)) is not None]
            connection.send_packed_command(connection.pack_commands([("PUBLISH", self._name, text) for text in texts]))
            for _ in texts:
                connection.read_response()
        except Exception:
            with self._lock:
                for one in reversed(batch):
                    self._count_lost(one)
                    if len(self._letters) < self._limit:
                        self._letters.appendleft(one)
            self._has_letters.set()
            raise

    def _take(self) -> "list[_Waiting]":
        self._note_late()
        with self._lock:
            return [self._letters.popleft() for _ in range(min(_BATCH, len(self._letters)))]

    def _note_late(self) -> None:
        late = time.monotonic() - self._late_s
        with self._lock:
            for one in self._letters:
                if one.since > late:
                    break  # those behind it are younger
                self._count_lost(one)

    def _count_lost(self, one: "_Waiting") -> None:
        self.lost += not one.is_late
        one.is_late = True

    def _tell(self, call: Callable[..., None], *heard: bytes) -> None:
        try:
            call(*heard)
        except Exception as error:
            log.error("a message of another worker could not be acted on", exc_info=error)


def _is_open(connection: Any) -> bool:
    try:
        return not connection.can_read(timeout=0)
    except Exception:
        return False


class _Waiting:
    __slots__ = ("letter", "since", "is_late")

    def __init__(self, letter: Letter) -> None:
        self.letter = letter
        self.since = time.monotonic()
        self.is_late = False


class _Outage:
    """Log when Redis is lost, and when it is back: once each, whatever fails meanwhile."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failing: set[str] = set()
        self._is_logged = False
        self._may_log_at = 0.0
        self._lost_before = 0

    def begin(self, side: str, error: Exception) -> None:
        with self._lock:
            self._failing.add(side)
            if self._is_logged or time.monotonic() < self._may_log_at:
                return
            self._is_logged = True
            self._may_log_at = time.monotonic() + LOG_EVERY_S
        log.warning(
            "Redis can't be used (%s: %s): calls go on, but a newer turn ends older ones of its own worker only",
            type(error).__name__,
            str(error)[:200],
        )

    def end(self, side: str, lost: int) -> None:
        with self._lock:
            self._failing.discard(side)
            if self._failing or not self._is_logged:
                return
            self._is_logged = False
            missed, self._lost_before = lost - self._lost_before, lost
        log.info("Redis is back; %d messages were late or lost", missed)
