"""The answers that a process is giving: how many it bears, and their common end."""

from protocol.errors import Failure, TurnOver
from turns.caller import Caller

RETRY_AFTER_S = 1


class Overload(Failure):
    """Refuse a turn, so that those inside are not harmed."""

    status = 503
    type = "server_error"
    outcome = "server_overload"


class Streams:
    """The callers of one process who are being answered, at most `limit` of them.

    Once it drains, no turn begins any more. Every thread and greenlet of the process may use it.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._callers: set[Caller] = set()
        self._draining: Failure | None = None

    def __len__(self) -> int:
        return len(self._callers)

    @property
    def is_draining(self) -> bool:
        """Tell whether the process is about to end."""
        return self._draining is not None

    def admit(self) -> None:
        """Raise the Failure that a new turn is refused with, if it is; before any work is done for it."""
        if self._draining:
            raise self._draining
        if len(self._callers) >= self._limit:
            raise Overload(
                "The server has as many calls as it can bear; try again soon.",
                code="overloaded",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )

    def enter(self, caller: Caller) -> None:
        """Count a caller in."""
        self._callers.add(caller)

    def leave(self, caller: Caller) -> None:
        """Count a caller out."""
        self._callers.discard(caller)

    def drain(self, refusal: Failure) -> None:
        """Begin no turn any more."""
        self._draining = refusal

    def end(self, over: TurnOver) -> None:
        """End all turns now."""
        for caller in list(self._callers):
            caller.end(over)
