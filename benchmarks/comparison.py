"""Run scenarios against several servers, turn by turn, so that all of them see the same machine."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks import processes
from benchmarks.client import Load
from benchmarks.endpoints import Endpoint
from benchmarks.framing import Broken
from benchmarks.hangups import Mock, MockMissing, measure_hang_ups
from benchmarks.measurements import Meter
from benchmarks.reports import Result
from benchmarks.scenarios import WARM_UP, HangUpScenario, Scenario
from benchmarks.servers import Cores, NotStarted, Server

_SETTLE_S = 3  # at most, until the last scenario's streams are gone and the machine is quiet
_QUIET_CORES = 0.25
_START_S = 10
_LOOK_S = 0.3


def compare(
    servers: Sequence[Server], scenarios: Sequence[Scenario | HangUpScenario], rounds: int, mock: Mock, cores: Cores
) -> Iterator[Result]:
    """Yield a result for each round, server and scenario, as they come; a server that fails has a remark instead."""
    mock_pid = mock.find_process()
    for _ in range(rounds):
        for server in servers:
            measured = set()
            try:
                with server.running() as (endpoint, pid):
                    for result in _measure(server.name, endpoint, scenarios, mock, Meter(pid, mock_pid), cores):
                        measured.add(result.scenario)
                        yield result
            except (NotStarted, ConnectionError) as error:
                for scenario in scenarios:
                    if scenario.name not in measured:
                        yield Result(server.name, scenario.name, remark=str(error))


def _measure(
    name: str,
    endpoint: Endpoint,
    scenarios: Sequence[Scenario | HangUpScenario],
    mock: Mock,
    meter: Meter,
    cores: Cores,
) -> Iterator[Result]:
    refusal = None if _real_model(scenarios) else _warm_up(endpoint, meter)
    idle = processes.memory_kib(meter.server)
    for scenario in scenarios:
        _settle(mock)
        if refusal:
            yield Result(name, scenario.name, remark=f"not measured: {refusal}")
        elif isinstance(scenario, HangUpScenario):
            yield _hang_up(name, endpoint, scenario, mock)
        else:
            measurement = replace(Load(endpoint, scenario).run(meter), idle_kib=idle)
            yield Result(
                name,
                scenario.name,
                figures=measurement.figures(),
                failures=measurement.tally.failures,
                limit=measurement.usage.limit(one_core=cores.one_for_both),
                others=measurement.usage.others,
            )


def _real_model(scenarios: Sequence[Scenario | HangUpScenario]) -> bool:
    return any(isinstance(scenario, Scenario) and scenario.chunks is None for scenario in scenarios)


def _warm_up(endpoint: Endpoint, meter: Meter) -> str | None:
    """Have a few streams answered, also by a server that still starts; return why there were none."""
    end = time.monotonic() + _START_S
    while True:
        tally = Load(endpoint, WARM_UP).run(meter).tally
        if tally.completed:
            return None
        if time.monotonic() > end:
            return next((reason for reason, _ in tally.failures.most_common(1)), "no answer")


def _hang_up(name: str, endpoint: Endpoint, scenario: HangUpScenario, mock: Mock) -> Result:
    try:
        return Result(name, scenario.name, figures=measure_hang_ups(endpoint, scenario, mock))
    except MockMissing as error:
        return Result(name, scenario.name, remark=f"hang-ups are not seen: {error}")
    except (Broken, OSError) as error:
        return Result(name, scenario.name, failures=Counter([str(error)]))


def _settle(mock: Mock) -> None:
    """Wait, not for ever, until the last scenario's streams are gone and others leave the machine alone."""
    end = time.monotonic() + _SETTLE_S
    while time.monotonic() < end:
        before = processes.machine_seconds()
        time.sleep(_LOOK_S)
        after = processes.machine_seconds()
        quiet = before is None or after is None or (after - before) / _LOOK_S < _QUIET_CORES
        if quiet and not mock.active():
            return
