"""A worker process with shared sessions, in threads or under gevent, that does what a test says through a socket.

As a program it is the worker: `session_worker.py URL FILENO [gevent]`.
"""

import sys

if __name__ == "__main__" and "gevent" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """The test's end of a worker process."""

    def __init__(self, url: str, *words: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-W", "error", __file__, url, str(theirs.fileno()), *words]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT)
        ours.settimeout(20)
        self._sock = ours
        self._lines = ours.makefile("rb")

    def enter(self, key: str, name: str) -> tuple[float, float]:
        """Have a turn in which a caller speaks enter, and return from when to when: in seconds of time.monotonic()."""
        began, ended = self._do("enter", key, name)
        return began, ended

    def is_shared(self) -> bool:
        """Tell whether it hears the other workers."""
        return bool(self._do("is_shared"))

    def ended(self) -> dict[str, float]:
        """Return the turns that have been ended, and when: in seconds of time.monotonic()."""
        ended: dict[str, float] = self._do("ended")
        return ended

    def stop(self) -> int:
        """End the process in good order, and return its exit code."""
        self._lines.close()
        self._sock.close()
        return self._process.wait(20)

    def _do(self, *words: Any) -> Any:
        self._sock.sendall(json.dumps(words).encode() + b"\n")
        return json.loads(self._lines.readline())


@contextmanager
def worker(url: str, *words: str) -> Iterator[Worker]:
    """Run a worker that hears all others."""
    running = Worker(url, *words)
    try:
        until(running.is_shared)
        yield running
    finally:
        assert running.stop() == 0


def until(is_so: Any, seconds: float = 20.0) -> None:
    """Wait until this is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.002)


class NotedTurn:
    """A turn that notes when it was ended, and how often."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []
        self.has_ended = threading.Event()

    def supersede(self) -> None:
        """End it."""
        self.ended_at.append(time.monotonic())
        self.has_ended.set()


def _work(url: str, sock: socket.socket) -> None:
    sys.path.insert(0, str(ROOT))
    from turns.shared_sessions import SharedSessions

    sessions = SharedSessions(url, deadline_ms=500, late_ms=5000)
    sessions.start()
    turns: dict[str, NotedTurn] = {}
    with sock, sock.makefile("rb") as lines:
        for line in lines:
            what, *words = json.loads(line)
            answer: Any = None
            if what == "enter":
                key, name = words
                turns[name] = NotedTurn()
                began = time.monotonic()
                sessions.enter(key, turns[name], True, True)
                answer = (began, time.monotonic())
            elif what == "is_shared":
                answer = sessions.is_shared
            else:
                answer = {name: turn.ended_at[0] for name, turn in turns.items() if turn.ended_at}
            sock.sendall(json.dumps(answer).encode() + b"\n")
    sessions.close()


if __name__ == "__main__":
    _work(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
