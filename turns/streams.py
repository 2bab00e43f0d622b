"""The answers that a process is giving: how many it bears, and their common end."""

from collections.abc import Callable

from protocol.errors import CutShort, Draining, Failure
from turns.caller import Caller

RETRY_AFTER_S = 1


class Overload(Failure):
    """Refuse a turn, so that those inside are not harmed."""

    status = 503
    type = "server_error"
    outcome = "server_overload"


class Streams:
    """The callers of one process who are being answered, at most `limit` of them; `watch` is told 1 and -1.

    Once it drains no turn begins any more: each is refused in a way that has the caller try elsewhere.
    """

    def __init__(self, limit: int = 1000, watch: Callable[[int], None] | None = None) -> None:
        self._limit = limit
        self._watch = watch
        self._callers: set[Caller] = set()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._callers)

    def admit(self) -> None:
        """Raise the Failure that a new turn is refused with, if it is; before any work is done for it."""
        if self.is_draining:
            raise Draining(
                "The server is about to restart; try again.",
                code="server_draining",
                headers={"Retry-After": str(RETRY_AFTER_S), "Connection": "close"},
            )
        if len(self._callers) >= self._limit:
            raise Overload(
                "The server has as many calls as it can bear; try again soon.",
                code="overloaded",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )

    def enter(self, caller: Caller) -> None:
        """Count a caller in; raise as `admit` does, for the bound may have been reached since."""
        self.admit()
        self._callers.add(caller)
        if self._watch:
            self._watch(1)

    def leave(self, caller: Caller) -> None:
        """Count a caller out, if it has been counted in."""
        if caller in self._callers:
            self._callers.discard(caller)
            if self._watch:
                self._watch(-1)

    def drain(self) -> None:
        """Begin no turn any more."""
        self.is_draining = True

    def cut_short(self) -> None:
        """End all turns now, each with an error and a proper end."""
        for caller in list(self._callers):
            caller.end(CutShort())
