"""What an upstream is told of the turn that asks it."""

import time
from dataclasses import dataclass, field
from math import inf

from upstream.waits import Waits


@dataclass
class Limits:
    """How long to wait, in seconds: for a connection, for the first token, and between events."""

    connect_s: float = 3.0
    first_token_s: float = 10.0
    stall_s: float = 10.0


@dataclass
class Call:
    """One turn's questions to the upstream: how its waits are done, when it ends at the latest, and whose key pays.

    `key` is the caller's own where it is passed through, `signed_with` the one that was sent. Times are seconds of
    `time.monotonic()`.
    """

    waits: Waits
    until: float
    stream: bool
    key: str | None = None
    signed_with: str | None = field(default=None, init=False)
    _due: float = field(default=inf, init=False)
    _has_news: bool = field(default=False, init=False)
    retried: bool = field(default=False, init=False)

    def wake_at(self, moment: float) -> None:
        """Ask for an empty batch at that moment, if nothing has come by then; each alarm rings once."""
        self._due = min(self._due, moment)

    def ring(self) -> None:
        """Ask for an empty batch now: something that goes on beside the turn has news for it."""
        self._has_news = True  # apart from the moment, which the turn's own thread may be setting just now
        self.waits.wake()

    @property
    def alarm(self) -> float:
        """Return when the alarm rings: at once, where there is news."""
        return -inf if self._has_news else self._due

    def silence(self) -> None:
        """Take note of the alarm, if it rings; what there is to see of the news must be looked at after this."""
        self._has_news = False
        if time.monotonic() >= self._due:
            self._due = inf
