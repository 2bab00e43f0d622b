"""Wait for many sockets at once: epoll on Linux, poll(2) elsewhere."""

import select
import sys

# poll's numbers; epoll's are the same
READ = select.POLLIN
WRITE = select.POLLOUT

# epoll counts whole milliseconds and rounds up: shorter waits go through select(2), which counts microseconds
_PRECISE_S = 0.005


class Poller:
    """Tell which of the registered file descriptors can be read or written."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._poll = select.epoll()
        else:
            self._poll = select.poll()
        self.register = self._poll.register
        self.modify = self._poll.modify
        self.unregister = self._poll.unregister

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """Return (descriptor, bits) of those that are ready, after `seconds` at most; a hang-up has bits of its own."""
        if sys.platform == "linux":
            if 0 < seconds < _PRECISE_S:
                select.select([self._poll], (), (), seconds)
                seconds = 0
            return self._poll.poll(seconds)
        return self._poll.poll(seconds * 1000)
