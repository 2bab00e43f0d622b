"""What is counted of all requests, as Prometheus reads it; loaded only where that is wanted."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from protocol.errors import Outcome
from turns.counts import Counts, Name
from turns.record import Record

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_PREFIX = "custom_llm_"
_OPEN = "open_streams"
_REQUESTS = "requests"
_HEARD_S = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_WORKED_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_TIMES: dict[str, tuple[str, tuple[float, ...]]] = {
    "llm_ttfb_seconds": ("Until a stream's first byte", _HEARD_S),
    "llm_ttfs_seconds": ("Until a stream's first sentence", _HEARD_S),
    "first_audio_seconds": ("Until a stream's first sound", _HEARD_S),
    "overhead_seconds": ("Of a turn, all but its waits for the upstream and the clock", _WORKED_S),
    "knowledge_seconds": ("Looking up what documents say, a turn", _WORKED_S),
    "synthesis_seconds": ("A voice's work, a turn", _WORKED_S),
}
_AMOUNTS = {
    "chunks": "Chunks that were sent",
    "tokens": "Tokens that upstreams have reported",
    "retries": "Second tries to reach the upstream",
    "late_audio_chunks": "Chunks of sound that were sent late",
}
_TOOL_CALLS = "tool_calls"


class Metrics(Collector):
    """The counts of this process, and the page that shows those of all that share a folder.

    Labels are an endpoint's rule and the closed list of outcomes: nothing that a caller can make up.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.app: WSGIApplication = make_wsgi_app(self._registry)
        """What serves the page on a port of its own."""

    def begin(self, endpoints: Iterable[str]) -> None:
        """Begin to count the requests to these endpoints, which are all that there are."""
        names: list[Name] = [(_OPEN,)]
        names += [(name, bound) for name, (_, bounds) in _TIMES.items() for bound in (*map(str, bounds), "+Inf", "sum")]
        names += [(name,) for name in _AMOUNTS]
        names += [(_TOOL_CALLS, failed) for failed in ("false", "true")]
        names += [(_REQUESTS, rule, outcome) for rule in sorted(endpoints) for outcome in get_args(Outcome)]
        self._places = {name: place for place, name in enumerate(names)}
        self._times = {name: self._places[name, str(bounds[0])] for name, (_, bounds) in _TIMES.items()}
        self._counts = Counts(names, self._folder)
        self._numbers = self._counts.numbers

    def note_open(self, change: int) -> None:
        """Count an answer that begins (1) or has ended (-1)."""
        with self._lock:
            self._numbers[0] += change

    def count(self, record: Record) -> None:
        """Count a request that has ended."""
        with self._lock:
            self._add((_REQUESTS, record.endpoint, record.outcome), 1)
            if record.waited_s is None:
                return  # no turn
            if record.is_streamed:
                self._time("llm_ttfb_seconds", record.since_began(record.first_byte))
                self._time("llm_ttfs_seconds", record.since_began(record.first_sentence))
                self._time("first_audio_seconds", record.since_began(record.first_audio))
            self._time("overhead_seconds", max(0.0, record.total_s - record.waited_s))
            self._time("knowledge_seconds", None if record.knowledge_ms is None else record.knowledge_ms / 1000)
            self._time("synthesis_seconds", record.synthesis_s or None)
            self._add(("chunks",), record.chunks)
            self._add(("tokens",), record.tokens or 0)
            self._add(("retries",), record.retries)
            self._add(("late_audio_chunks",), record.late_chunks)
            self._add((_TOOL_CALLS, "false"), record.tool_calls - record.failed_tool_calls)
            self._add((_TOOL_CALLS, "true"), record.failed_tool_calls)

    def _add(self, name: Name, amount: float) -> None:
        if amount > 0:
            self._numbers[self._places[name]] += amount

    def _time(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            first, bounds = self._times[name], _TIMES[name][1]
            self._numbers[first + bisect_left(bounds, seconds)] += 1
            self._numbers[first + len(bounds) + 1] += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield what has been counted up to now, by all."""
        total = self._counts.total()
        yield GaugeMetricFamily(_PREFIX + _OPEN, "Answers being given now", total[_OPEN,])
        requests = CounterMetricFamily(
            _PREFIX + _REQUESTS, "Requests that have ended, by how", labels=["endpoint", "outcome"]
        )
        for name, number in sorted(total.items()):
            if name[0] == _REQUESTS and number:
                requests.add_metric(name[1:], number)
        yield requests
        for kind, (said, bounds) in _TIMES.items():
            edges = [*map(str, bounds), "+Inf"]
            sums = accumulate(total[kind, edge] for edge in edges)
            times = HistogramMetricFamily(_PREFIX + kind, f"{said}, in seconds")
            times.add_metric([], list(zip(edges, sums, strict=True)), total[kind, "sum"])
            yield times
        for kind, said in _AMOUNTS.items():
            yield CounterMetricFamily(_PREFIX + kind, said, total[kind,])
        tool_calls = CounterMetricFamily(_PREFIX + _TOOL_CALLS, "Calls to tools that were run", labels=["failed"])
        for failed in ("false", "true"):
            tool_calls.add_metric([failed], total[_TOOL_CALLS, failed])
        yield tool_calls

    def describe(self) -> Iterator[Metric]:
        """Name nothing in advance: what is counted is asked for when it is shown."""
        return iter(())

    def page(self) -> bytes:
        """Return the counts in Prometheus's text format."""
        return generate_latest(self._registry)

    def serve(self, port: int) -> None:
        """Serve the page on this port of this machine, in a thread; raise OSError."""
        start_http_server(port, "127.0.0.1", self._registry)
