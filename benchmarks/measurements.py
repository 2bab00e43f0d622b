"""From what was counted to the figures of a table."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import processes
from benchmarks.answers import Tally
from benchmarks.scenarios import Scenario

_FULL = 0.85  # of a core: above it, what measures is itself the limit
_SATURATED = 0.95  # of a core: above it, the server is


@dataclass(frozen=True)
class Usage:
    """Cores used over a window; None where this system does not tell."""

    server: float | None
    mock: float | None
    client: float
    others: float | None

    def limit(self, *, one_core: bool) -> str | None:
        """Say what kept the measuring side from measuring, if anything did; `one_core`: client and mock share one."""
        mock, server = self.mock or 0, self.server or 0
        if server > _SATURATED:
            return None
        busiest = self.client + mock if one_core else max(self.client, mock)
        if busiest > _FULL:
            return f"client {self.client:.2f} + mock upstream {mock:.2f} of a core"
        cores = os.cpu_count() or 1
        used = self.client + mock + server + (self.others or 0)
        if used > _SATURATED * cores:
            return f"all {cores} cores were busy"
        return None


class Meter:
    """Read what server, mock upstream, this client and the rest of the machine use, from start() to stop()."""

    def __init__(self, server: int | None, mock: int | None) -> None:
        self.server = server
        self._mock = mock if mock != server else None
        self._before = self._read()

    def start(self) -> None:
        """Begin the window."""
        self._before = self._read()

    def stop(self) -> Usage:
        """End the window."""
        spent = [
            None if before is None or after is None else max(0.0, after - before)
            for before, after in zip(self._before, self._read(), strict=True)
        ]
        seconds, client, server, mock, machine = spent
        assert seconds is not None and client is not None
        others = None if machine is None else max(0.0, machine - client - (server or 0) - (mock or 0))
        return Usage(
            server=None if server is None else server / seconds,
            mock=None if mock is None else mock / seconds,
            client=client / seconds,
            others=None if others is None else others / seconds,
        )

    def _read(self) -> tuple[float | None, ...]:
        machine = processes.machine_seconds()
        server, mock = processes.cpu_seconds(self.server), processes.cpu_seconds(self._mock)
        return time.monotonic(), time.process_time(), server, mock, machine


@dataclass(frozen=True)
class Measurement:
    """One scenario, run once against one server."""

    scenario: Scenario
    tally: Tally
    seconds: float
    usage: Usage
    memory_kib: float | None  # of the server's process tree, with all streams open
    idle_kib: float | None = None  # and with none

    def figures(self) -> dict[str, float]:
        """Return the scenario's figures by their column's name, without those that could not be had."""
        found = {name: FIGURES[name](self) for name in self.scenario.figures}
        return {name: value for name, value in found.items() if value is not None}


def percentile_ms(times_ns: Sequence[int], share: float) -> float | None:
    """Return the time that `share` of the sorted `times_ns` do not exceed (nearest rank), in ms."""
    if not times_ns:
        return None
    return times_ns[max(0, math.ceil(share * len(times_ns)) - 1)] / 1e6


def _gap_ms(measurement: Measurement, share: float) -> float | None:
    # beside transit, gaps say nothing new
    return None if measurement.tally.transits else percentile_ms(measurement.tally.gaps, share)


def _cpu_us(measurement: Measurement, count: int) -> float | None:
    server = measurement.usage.server
    return server * measurement.seconds * 1e6 / count if server is not None and count else None


def _delivered(measurement: Measurement) -> float | None:
    due = measurement.scenario.due_per_s
    return measurement.tally.chunks / measurement.seconds / due if due else None


def _memory_kib(measurement: Measurement) -> float | None:
    if measurement.memory_kib is None or measurement.idle_kib is None:
        return None
    return (measurement.memory_kib - measurement.idle_kib) / measurement.scenario.streams


FIGURES: dict[str, Callable[[Measurement], float | None]] = {
    "TTFT p50, ms": lambda m: percentile_ms(m.tally.first_tokens, 0.5),
    "TTFT p95, ms": lambda m: percentile_ms(m.tally.first_tokens, 0.95),
    "TTFT p99, ms": lambda m: percentile_ms(m.tally.first_tokens, 0.99),
    "transit p50, ms": lambda m: percentile_ms(m.tally.transits, 0.5),
    "transit p99, ms": lambda m: percentile_ms(m.tally.transits, 0.99),
    "gap p50, ms": lambda m: _gap_ms(m, 0.5),
    "gap p99, ms": lambda m: _gap_ms(m, 0.99),
    "delivered / due": _delivered,
    "chunks / s": lambda m: m.tally.chunks / m.seconds,
    "requests / s": lambda m: m.tally.completed / m.seconds,
    "CPU ms / 1k chunks": lambda m: _cpu_us(m, m.tally.chunks),  # 1 ms a thousand chunks is 1 µs a chunk
    "CPU µs / request": lambda m: _cpu_us(m, m.tally.completed),
    "server cores": lambda m: m.usage.server,
    "PSS idle, MiB": lambda m: m.idle_kib / 1024 if m.idle_kib is not None else None,
    "PSS KiB / stream": _memory_kib,
}
