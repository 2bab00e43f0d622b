"""Calls that are spoken all the time, and a text stream beside them."""

import itertools
import time
from collections.abc import Callable
from functools import partial

from benchmarks import processes
from benchmarks.answers import Answer, Tally
from benchmarks.callers import Callers
from benchmarks.endpoints import Endpoint
from benchmarks.framing import Broken
from benchmarks.hangups import Mock
from benchmarks.measurements import Meter, percentile_ms
from benchmarks.replies import Reply, Spoken, spoken
from benchmarks.reports import Result
from benchmarks.sayings import ANSWERS

SCENARIO = "calls"
SPEAKER = "echo-20ms"
"""The mock's model that is spoken: a word each 20 ms."""
_TEXT_CHUNKS = 100
_TEXT = f"bench-{_TEXT_CHUNKS}x20ms"
_BEGIN_S = 6.0  # over which the calls begin, as long as an answer lasts: later ones find the others anywhere in theirs
_RETRY_NS = 50_000_000
_ASK_AGAIN_NS = 100_000_000
_REST_S = 30.0  # for the answers that are under way at the end


class Calls:
    """So many callers, each of whom asks again when the answer has been heard to its end, at the pace of speech.

    One more reads a stream of text, a chunk each 20 ms; another asks, hangs up at the first sound, and asks again.
    """

    def __init__(self, speaking: Endpoint, writing: Endpoint, mock: Mock, calls: int) -> None:
        self._speaking = speaking
        self._writing = writing
        self._mock = mock
        self._calls = calls
        self._callers = Callers()
        self._tags = itertools.count(time.monotonic_ns() // 1000)  # unlike those of any run before
        self._tally = Tally()
        self._replies: list[Reply] = []
        self._begun: list[Reply] = []  # those of which the first sound alone is heard
        self._is_over = False

    def warm_up(self, seconds: float) -> None:
        """Speak for so long, and hang up."""
        for index in range(self._calls):
            self._callers.at(0, partial(self._speak, index))
        self._callers.run(time.monotonic_ns() + int(seconds * 1e9))
        self._callers.close()

    def run(self, meter: Meter, seconds: float, one_core: bool) -> Result:
        """Measure for so long after all calls have begun."""
        before = processes.memory_kib(meter.server)
        now = time.monotonic_ns()
        begin_s = min(_BEGIN_S, seconds) if self._calls else 0.0
        for index in range(self._calls):
            self._callers.at(now + int(begin_s * 1e9) * index // self._calls, partial(self._speak, index))
        self._callers.at(now, self._read)
        self._callers.at(now, self._begin)
        window = now + int((begin_s + 1) * 1e9)
        self._callers.run(window)
        self._tally.reset()
        meter.start()
        self._callers.run(window + int(seconds * 1e9))
        usage = meter.stop()
        after = processes.memory_kib(meter.server)
        transits = sorted(self._tally.transits)
        self._finish()
        figures = self._spoken_figures(self._heard(), window)
        if usage.server is not None:
            figures["server cores"] = usage.server
        if self._calls and usage.server is not None:
            figures["CPU ms / s of a call"] = 1000 * usage.server / self._calls
        if self._calls and before is not None and after is not None:
            figures["PSS KiB / call"] = (after - before) / self._calls
        figures["text p50, ms"] = percentile_ms(transits, 0.5)
        figures["text p99, ms"] = percentile_ms(transits, 0.99)
        return Result(
            f"{self._calls} calls",
            SCENARIO,
            figures={name: value for name, value in figures.items() if value is not None},
            failures=self._callers.failures + self._tally.failures,
            limit=usage.limit(one_core=one_core),
            others=usage.others,
        )

    def _speak(self, index: int) -> None:
        reply = Reply(time.monotonic_ns(), tag := next(self._tags))
        request = self._speaking.request(SPEAKER, tag, says=ANSWERS[index % len(ANSWERS)])
        self._callers.ask(self._speaking, request, reply, partial(self._listen, index, reply))

    def _listen(self, index: int, reply: Reply) -> None:
        self._replies.append(reply)
        self._later(max(reply.heard_at, time.monotonic_ns() + _RETRY_NS), partial(self._speak, index))

    def _begin(self) -> None:
        reply = Reply(time.monotonic_ns(), tag := next(self._tags), first_only=True)
        self._begun.append(reply)
        request = self._speaking.request(SPEAKER, tag, says=ANSWERS[len(self._begun) % len(ANSWERS)])
        self._callers.ask(self._speaking, request, reply, self._begin_again)

    def _begin_again(self) -> None:
        self._later(time.monotonic_ns() + _ASK_AGAIN_NS, self._begin)

    def _read(self) -> None:
        answer = Answer(self._tally, time.monotonic_ns(), _TEXT_CHUNKS)
        self._callers.ask(self._writing, self._writing.request(_TEXT, next(self._tags)), answer, self._read_again)

    def _read_again(self) -> None:
        self._later(time.monotonic_ns(), self._read)

    def _later(self, due: int, action: Callable[[], None]) -> None:
        if not self._is_over:
            self._callers.at(due, action)

    def _finish(self) -> None:
        self._is_over = True
        self._callers.forget()
        self._callers.run(time.monotonic_ns() + int(_REST_S * 1e9), until_idle=True)
        if left := self._callers.close():
            self._callers.failures["not over in time"] += left

    def _heard(self) -> list[Spoken]:
        heard = []
        for reply in self._replies:
            if reply.response.over:
                try:
                    heard.append(spoken(reply))
                except Broken as error:
                    self._callers.failures[str(error)] += 1
        if self._calls and not heard:
            self._callers.failures["no answer was heard"] += 1
        return heard

    def _spoken_figures(self, heard: list[Spoken], since: int) -> dict[str, float | None]:
        """Return how long the first sounds took of those who asked since then, and how many chunks were late."""
        ends = self._mock.sentences()
        asked = [reply for reply in [*self._begun, *self._replies] if reply.asked >= since]
        waits = sorted(at - ends[reply.tag] for reply in asked if (at := reply.first_sound) and reply.tag in ends)
        figures = {"first sound p50, ms": percentile_ms(waits, 0.5), "first sound p95, ms": percentile_ms(waits, 0.95)}
        if self._calls:
            figures["chunks"] = sum(len(sound.times) for sound in heard)
            figures["late chunks"] = sum(sound.late for sound in heard)
        return figures
