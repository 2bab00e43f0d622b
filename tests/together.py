"""Many turns at once, so that tests of what takes long take no longer than the longest."""

import time
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from running_server import Answer, RunningServer, turn
from scripted_upstream import Asked, ScriptedUpstream, Step

Name = TypeVar("Name", bound=Hashable)


@dataclass
class Told:
    """What came of one script: the answer, how long it took, and what the upstream had been asked."""

    answer: Answer
    seconds: float
    asked: Asked


def ask_together(
    server: RunningServer,
    upstream: ScriptedUpstream,
    scripts: Mapping[Name, list[Step]],
    at_once: int = 16,
    **changes: Any,
) -> dict[Name, Told]:
    """Have each of these scripts answer a turn, so many of them at once, and return what came of each.

    No script may bring about a second try: it would be answered by another's.
    """

    def ask(number: int) -> tuple[Answer, float]:
        began = time.monotonic()
        answer = server.ask(turn(user=str(number), **changes))
        return answer, time.monotonic() - began

    upstream.say(*scripts.values())
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(ask, range(len(scripts))))
    assert len(upstream.asked) == len(scripts), "a turn was tried twice"
    # a script answers whoever comes first
    told = [Told(*answers[int(asked.body["user"])], asked) for asked in upstream.asked]
    return dict(zip(scripts, told, strict=True))
