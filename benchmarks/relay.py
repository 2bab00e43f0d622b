"""Measure a streaming chat completions server, alone or turn by turn with others, and print what was measured.

    python benchmarks/relay.py --serve --nginx                         this project and nginx, before the mock upstream
    python benchmarks/relay.py http://127.0.0.1:8000/chat/completions  a server that runs, before benchmarks/upstream.py

Figures are one core's where processes can be bound to cores (Linux). README.md says what each column means.
"""

import argparse
import contextlib
import datetime
import gc
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a script: the package is found from the project's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import processes
from benchmarks.comparison import compare
from benchmarks.hangups import Mock
from benchmarks.reports import Result, format_report
from benchmarks.scenarios import SCENARIOS, HangUpScenario, Scenario
from benchmarks.servers import Cores, NotStarted, Server, serve_mock, serve_nginx, serve_project

_MAX_ROUNDS = 20
_MAX_STREAMS = 20_000


def main() -> None:
    """Run what the command line asks for; Markdown goes to stdout, progress to stderr.

    The exit status is 1 if an answer failed or something could not be measured.
    """
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("relay: stopped"))  # what was started is stopped on the way out
    gc.disable()  # nothing here makes cycles, and a collection would be measured as the server's latency
    results: list[Result] = []
    try:
        scenarios = _choose_scenarios(arguments)
        _check_file_limit(scenarios)
        with contextlib.ExitStack() as stack:
            cores = Cores.choose() if arguments.serve else Cores()
            servers, upstream = _choose_servers(arguments, cores, stack)
            if cores.client is not None and sys.platform == "linux":
                os.sched_setaffinity(0, {cores.client})
            for result in compare(servers, scenarios, arguments.rounds, Mock(upstream), cores):
                print(
                    f"# {result.server} {result.scenario}{': ' + result.remark if result.remark else ''}",
                    file=sys.stderr,
                )
                results.append(result)
    except (NotStarted, ValueError, ConnectionError) as error:
        sys.exit(f"relay: {error}")
    except KeyboardInterrupt:
        print("# interrupted: what follows is not complete", file=sys.stderr)
    if results:
        baseline = servers[1].name if len(servers) > 1 else None
        print(_describe_run(cores, arguments.rounds, baseline), end="\n\n")
        print(format_report(results, [(scenario.name, scenario.meaning) for scenario in scenarios], baseline))
    sys.exit(not results or any(result.failures or result.remark for result in results))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="a chat completions endpoint; a bare origin gets /chat/completions")
    add("--scenario", default="all", metavar="S1,S2s,…", help=f"some of {', '.join(s.name for s in SCENARIOS)}")
    add("--rounds", type=int, default=3, help="default %(default)s; medians are printed")
    add("--key", default="", help="the key that opens the servers")
    add("--upstream", default="http://127.0.0.1:9100", metavar="URL", help="the mock upstream (default %(default)s)")
    add("--pid", type=int, help="the root of URL's process tree (on Linux it is found by the port)")
    add(
        "--against",
        nargs="+",
        default=[],
        metavar="URL",
        help="measure these too, turn by turn",
    )
    add(
        "--serve",
        action="store_true",
        help="start (and stop) the mock upstream and this project's server",
    )
    add("--nginx", action="store_true", help="start an nginx before the mock upstream too: the yardstick")
    add("--model", help="ask for this model of an upstream that is not the mock: S1 only, unless told")
    add("--s2b-streams", type=int, default=2000, metavar="N", help="default %(default)s")
    add("--i-own-this-server", action="store_true", help="measure a server that is not on this machine")
    arguments = parser.parse_args()
    if bool(arguments.url) == arguments.serve:
        parser.error("either URL or --serve")
    if not 1 <= arguments.rounds <= _MAX_ROUNDS:
        parser.error(f"--rounds: 1 to {_MAX_ROUNDS}")
    if not 1 <= arguments.s2b_streams <= _MAX_STREAMS:
        parser.error(f"--s2b-streams: 1 to {_MAX_STREAMS}")
    return arguments


def _choose_scenarios(arguments: argparse.Namespace) -> list[Scenario | HangUpScenario]:
    """Return the scenarios asked for; ValueError names one that does not exist."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    default = "S1" if arguments.model else ",".join(known)
    names = (default if arguments.scenario == "all" else arguments.scenario).split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"--scenario: {', '.join(unknown)}: there are {', '.join(known)}")
    chosen = [scenario for scenario in SCENARIOS if scenario.name in names]
    return [_adapt(scenario, arguments) for scenario in chosen]


def _adapt(scenario: Scenario | HangUpScenario, arguments: argparse.Namespace) -> Scenario | HangUpScenario:
    if isinstance(scenario, HangUpScenario):
        return scenario
    if arguments.model:
        return scenario.on_model(arguments.model)
    if scenario.name == "S2b" and scenario.streams != arguments.s2b_streams:
        meaning = f"{arguments.s2b_streams:,} streams (of {scenario.streams:,}), 50 ms chunks"
        return replace(scenario, streams=arguments.s2b_streams, meaning=meaning)
    return scenario


def _choose_servers(
    arguments: argparse.Namespace, cores: Cores, stack: contextlib.ExitStack
) -> tuple[list[Server], str]:
    """Return the servers, the first the one in question, the second the baseline; and the mock upstream's URL."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
    upstream = stack.enter_context(serve_mock(folder, cores.mock)) if arguments.serve else arguments.upstream
    given = {"key": arguments.key, "anywhere": arguments.i_own_this_server}
    if arguments.serve:
        servers = [serve_project(upstream, folder, cores.server)]
    else:
        servers = [Server(arguments.url.partition("://")[2], arguments.url, pid=arguments.pid, **given)]
    if arguments.nginx:
        servers.append(serve_nginx(upstream, folder, cores.server))
    servers += [Server(url.partition("://")[2], url, **given) for url in arguments.against]
    return servers, upstream


def _check_file_limit(scenarios: Sequence[Scenario | HangUpScenario]) -> None:
    allowed = processes.raise_file_limit()
    needed = 100 + max((scenario.streams for scenario in scenarios if isinstance(scenario, Scenario)), default=0)
    if allowed < needed:
        raise ValueError(f"needs {needed} open files, {allowed} are allowed: raise `ulimit -Hn` or lower --s2b-streams")


def describe_machine(cores: Cores) -> str:
    """Say when and on what was measured, in a line."""
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if cores.server is not None:
        sides = "mock upstream and client share core" if cores.one_for_both else "mock upstream on core"
        where += f"; server alone on core {cores.server}, {sides} {cores.mock}"
    return f"{datetime.date.today()}, {where}; Python {platform.python_version()}"


def _describe_run(cores: Cores, rounds: int, baseline: str | None) -> str:
    how = f"median (range) of {rounds} interleaved round{'s' * (rounds > 1)}"
    ratio = f"; × is the ratio to {baseline}" if baseline else ""
    return f"{describe_machine(cores)}; {how}{ratio}"


if __name__ == "__main__":
    main()
