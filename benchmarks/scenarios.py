"""What is measured: how many streams, how fast, for how long."""

from dataclasses import dataclass, replace

_FIRST = ("TTFT p50, ms", "TTFT p95, ms", "TTFT p99, ms")
_TIMES = (*_FIRST, "transit p50, ms", "transit p99, ms", "gap p50, ms", "gap p99, ms")
_PACED = ("delivered / due", "CPU ms / 1k chunks", "server cores", *_TIMES)
_UNPACED = ("chunks / s", "CPU ms / 1k chunks", "server cores")
_SHORT = ("requests / s", "CPU µs / request", "server cores")


@dataclass(frozen=True)
class Scenario:
    """A number of concurrent streams, over a window of time after a warm-up."""

    name: str
    meaning: str
    chunks: int | None  # of each answer; None: unknown, the upstream is not the mock
    interval_ms: int  # between two chunks; 0: none
    streams: int
    ramp_s: float  # over which the streams are opened
    warm_s: float  # before the window, the ramp included
    seconds: float  # the window
    figures: tuple[str, ...]
    plain: bool = False  # stream: false
    other_model: str = ""  # in the place of the mock's

    @property
    def model(self) -> str:
        """Return the model that is asked for."""
        return self.other_model or f"bench-{self.chunks}x{self.interval_ms}ms"

    @property
    def due_per_s(self) -> float | None:
        """Return how many chunks a second must arrive, where the model paces them."""
        return self.streams * 1000 / self.interval_ms if self.interval_ms else None

    def on_model(self, model: str) -> "Scenario":
        """Return the same for a model that is not the mock's: slower, and of unknown length."""
        return replace(self, other_model=model, chunks=None, interval_ms=0, warm_s=self.ramp_s, seconds=30)


@dataclass(frozen=True)
class HangUpScenario:
    """Callers that hang up, one after another, while chunks come and while the upstream is silent."""

    name: str
    meaning: str
    models: tuple[tuple[str, str], ...]  # (what the upstream does meanwhile, model)
    callers: int
    wait_s: float


WARM_UP = Scenario("warm-up", "4 streams", 8, 5, 4, 0, 0, 0.4, ())
SCENARIOS: tuple[Scenario | HangUpScenario, ...] = (
    Scenario("S1", "one stream, 20 ms chunks", 10, 20, 1, 0, 0.5, 3, (*_TIMES, "PSS idle, MiB")),
    Scenario("S2s", "20 streams, 50 ms chunks", 100, 50, 20, 2, 2.5, 5, _PACED),
    Scenario("S5", "plain JSON answers, 32 at a time", 1, 0, 32, 0, 0.5, 2, _SHORT, plain=True),
    Scenario("S4", "answers of 8 chunks, 32 at a time", 8, 0, 32, 0, 0.5, 2, _SHORT),
    HangUpScenario(
        "S6",
        "20 callers hang up: until the upstream's connection is closed",
        (("active", "bench-2000x20ms"), ("silent", "bench-2000x20ms-stall5")),
        callers=20,
        wait_s=3,
    ),
    Scenario("S3", "64 streams without pauses", 500, 0, 64, 0, 1, 2.5, _UNPACED),
    Scenario("S2a", "500 streams, 50 ms chunks", 100, 50, 500, 4.5, 5, 3, _PACED),
    Scenario("S2b", "2,000 streams, 50 ms chunks", 100, 50, 2000, 5, 6, 4, (*_PACED, "PSS KiB / stream")),
)
