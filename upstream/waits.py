"""Wait for a socket, or for a moment."""

import select
import time
from math import inf
from socket import socket


class Waits:
    """Wait with `poll`, in a thread of one's own.

    A turn has its own kind, which also sees its caller hang up, and adds up in `waited_s` how long it has waited. Times
    are seconds of `time.monotonic()`.
    """

    def __init__(self, connect_s: float = 3.0, send_s: float = 10.0) -> None:
        self.connect_s = connect_s
        self.send_s = send_s
        self.waited_s = 0.0

    def readable(self, sock: socket | None, until: float = inf) -> bool:
        """Wait until there is something to read (or the end) and return True, else return False.

        That is at `until` at the latest; `wake` brings it about earlier.
        """
        return sock is not None and bool(poll([sock], until))

    def pause(self, until: float) -> None:
        """Wait until then."""
        time.sleep(max(0.0, until - time.monotonic()))

    def wake(self) -> None:
        """End a wait early, where this kind of it can be."""

    def forget(self, sock: socket) -> None:
        """Let go of a socket that is about to be closed or handed on."""


def poll(socks: list[socket], until: float) -> list[int]:
    """Return the file numbers of those sockets that can be read, none if it became too late."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    timeout_ms = None if until == inf else max(0, (until - time.monotonic()) * 1000)
    return [number for number, _ in poll.poll(timeout_ms)]
