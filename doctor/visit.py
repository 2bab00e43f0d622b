"""A visit to an endpoint: everything that is asked, in which order, and all that was heard."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

from doctor.probes import BAD, TOLERANCE, body_of
from doctor.running import BargeIn
from doctor.stream import Stream
from doctor.target import Target
from doctor.wire import FIRST_S, Heard, Shown, ask

AT_ONCE = 3
"""Requests that are under way together where it does not matter when each is answered."""

# of speech, which takes as long as it lasts, no more is heard of these answers than that they have begun
_HEARD_OUT = frozenset({"usage", "plain", "default", "assistant"})


@dataclass(frozen=True)
class Bounds:
    """How much a visit may take: `calls` that are timed, `total_s` seconds in all, `first_s` for each first byte."""

    calls: int = 3
    total_s: float = 60.0
    first_s: float = FIRST_S


class Visit:
    """Ask everything that checks look at, and keep what was heard.

    `stats_url` is a page that counts what runs behind the endpoint. What there was no time for is not in `answers`.
    """

    def __init__(self, target: Target, bounds: Bounds | None = None, stats_url: str | None = None) -> None:
        self.bounds = bounds = bounds or Bounds()
        self.target = target
        self.until = time.monotonic() + bounds.total_s
        self.answers: dict[str, Heard] = {}
        self.access: dict[str, Heard] = {}
        self.bad: dict[str, Heard] = {}
        self.together: list[Heard] = []
        self.barge_in: BargeIn | None = None
        self.next: Heard | None = None
        # one after the other: these are the ones that are timed
        self.calls: list[Heard] = []
        for _ in range(bounds.calls):
            heard = self._ask(body_of(target))
            if not self.calls or not self._is_cut_short(heard):
                self.calls.append(heard)
            if not heard.status or self.is_over:
                break
        self._go_on(stats_url)

    @property
    def is_over(self) -> bool:
        """Tell whether the time for this visit has run out."""
        return time.monotonic() >= self.until

    def _go_on(self, stats_url: str | None) -> None:
        if not any(heard.status for heard in self.calls):
            return
        shown: dict[str, Shown] = {"none": "none", "wrong": "wrong"} if self.target.key else {}
        self.access = self._all(
            {name: partial(self._ask, body_of(self.target), key, is_heard_out=False) for name, key in shown.items()}
        )
        self.bad = self._all({name: partial(self._ask, body) for name, body in BAD.items()})
        if not self.streams:
            return
        self.answers = self._all(
            {
                name: partial(self._ask, body_of(self.target, changes), is_heard_out=name in _HEARD_OUT)
                for name, changes in TOLERANCE.items()
            }
        )
        both = self._all({name: partial(self._ask, body_of(self.target)) for name in ("one", "other")})
        self.together = list(both.values())
        if not self.is_over:
            self.barge_in = BargeIn(self.target, stats_url, self.until, self.bounds.first_s)
            heard = self._ask(body_of(self.target), is_heard_out=False)
            self.next = None if self._is_cut_short(heard) else heard

    def _ask(self, body: bytes | None, shown: Shown = "own", *, is_heard_out: bool = True) -> Heard:
        leave = None if is_heard_out or not self.target.is_audio else _has_begun
        return ask(self.target, body, self.until, shown=shown, first_s=self.bounds.first_s, leave=leave)

    def _is_cut_short(self, heard: Heard) -> bool:
        """Tell whether we ended an answer ourselves, for want of time: it says nothing of the endpoint."""
        return bool(heard.trouble) and self.is_over

    def _all(self, asks: Mapping[str, Callable[[], Heard]]) -> dict[str, Heard]:
        def unless_over(asked: Callable[[], Heard]) -> Heard | None:
            if self.is_over:
                return None
            heard = asked()
            return None if self._is_cut_short(heard) else heard

        with ThreadPoolExecutor(AT_ONCE) as pool:
            heard = dict(zip(asks, pool.map(unless_over, asks.values()), strict=True))
        return {name: answer for name, answer in heard.items() if answer}

    @cached_property
    def streams(self) -> list[Stream]:
        """Return the answers to the plain question, those that were streams."""
        return [Stream(heard) for heard in self.calls if heard.status == 200 and heard.kind != "application/json"]

    @cached_property
    def audio_streams(self) -> list[Stream]:
        """Return those of them that bring sound."""
        return [stream for stream in self.streams if stream.audio]

    def stream(self, name: str) -> Stream | None:
        """Return the answer to one of the other questions, if it was a stream."""
        heard = self.answers.get(name)
        return Stream(heard) if heard and heard.status == 200 else None

    @property
    def heard(self) -> list[Heard]:
        """Return everything that was heard."""
        others = [*self.answers.values(), *self.access.values(), *self.bad.values(), *self.together]
        barge_in = [self.barge_in.heard] if self.barge_in else []
        return [*self.calls, *others, *barge_in, *([self.next] if self.next else [])]


def _has_begun(heard: Heard) -> bool:
    return bool(Stream(heard).spoken_at)
