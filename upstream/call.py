"""What an upstream is told of the turn that asks it."""

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
    alarm: float = field(default=inf, init=False)
    retried: bool = field(default=False, init=False)

    def wake_at(self, moment: float) -> None:
        """Ask for an empty batch at that moment, if nothing has come by then; each alarm rings once."""
        self.alarm = min(self.alarm, moment)

    def ring(self) -> None:
        """Ask for an empty batch now: something that goes on beside the turn has news for it."""
        self.alarm = -inf
        self.waits.wake()
