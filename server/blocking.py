"""Name the line of a customer's agent that keeps everybody waiting.

Greenlets take turns only where they wait: while one computes, no other caller hears anything.
"""

import logging
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import gevent
from gevent import monkey

log = logging.getLogger("custom_llm")

LIMIT_S = 0.5
"""How long nothing else has had its turn when a line is named, in seconds."""
_LOOK_S = 0.1


class BlockingWatch:
    """Look, from a thread outside gevent, whether the hub still turns; name what of `folder` runs where it does not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._turned_at = time.monotonic()
        self._greenlet = gevent.spawn(self._turn)
        self._thread = monkey.get_original("_thread", "get_ident")()
        self._is_over = False
        monkey.get_original("_thread", "start_new_thread")(self._look, (monkey.get_original("time", "sleep"),))

    def close(self) -> None:
        """Stop looking."""
        self._is_over = True
        self._greenlet.kill()

    def _turn(self) -> None:
        while True:
            self._turned_at = time.monotonic()
            gevent.sleep(_LOOK_S)

    def _look(self, sleep: Any) -> None:
        named = 0.0
        while not self._is_over:
            sleep(_LOOK_S)
            turned_at = self._turned_at
            if time.monotonic() - turned_at < LIMIT_S or turned_at == named:
                continue
            place = self._place(sys._current_frames().get(self._thread))
            if place:
                named = turned_at  # once for each time that it blocks
                log.warning("an agent blocks all callers: %s", place)

    def _place(self, frame: FrameType | None) -> str | None:
        """Return the innermost line of the folder that is being run, None where none is."""
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(self._folder):
                return f"{path.name}:{frame.f_lineno}"
            frame = frame.f_back
        return None
