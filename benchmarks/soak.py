"""Keep many streams open for minutes while all goes wrong that can, and see that each ends as it must.

    python benchmarks/soak.py --streams 500 --minutes 10
    python benchmarks/soak.py --streams 60 --minutes 0.5 --seed 7 --spoken 0.2

It starts this project's server (one worker) and the mock upstream, which at random cuts streams, stalls, sends garbage
or an error, refuses, or is slow; callers hang up, or ask again while they are being answered. Every stream is checked
chunk by chunk. Whatever is lost, wrong, or hangs is a failure, and so is memory that has grown by more than 5 % since
the warm-up, or a socket, file or stream that is left at the end. The exit status is 1 then. Linux only.
"""

import argparse
import contextlib
import datetime
import heapq
import itertools
import json
import os
import platform
import random
import re
import signal
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

if not __package__:  # run as a script: the package is found from the project's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import processes
from benchmarks.endpoints import Endpoint
from benchmarks.faults import ENDINGS, FALLBACK, KINDS, Check, Plan
from benchmarks.framing import Broken
from benchmarks.poller import READ, Poller
from benchmarks.servers import NotStarted, Server, serve_mock, serve_project

_KEY = "bench"
_METRICS_KEY = "soak"
_HANGS_S = 60  # no stream takes longer: 40 chunks × 400 ms, a stall, speech in its own time
_SAMPLE_S = 1.0
_SETTLE_S = 10.0
_SERVER = {
    "FALLBACK": FALLBACK,
    "METRICS_KEY": _METRICS_KEY,
    "LOG_LEVEL": "WARNING",
    "MAX_STREAMS": "100000",
}


class Caller:
    """One caller, with a connection of its own for each stream."""

    def __init__(self, number: int, turn: int = 0) -> None:
        self.number = number
        self.turn = turn  # each is a session of its own
        self.sock: socket.socket | None = None
        self.check: Check | None = None
        self.plan: Plan | None = None
        self.asked = 0.0
        self.newer: Caller | None = None  # a stream of this caller's session that takes the place of this one


@dataclass
class Tally:
    """What came of all streams."""

    planned: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    spoken: int = 0
    chunks: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds since the beginning, KiB)
    pause_s: float = 0.0  # the longest in which nothing was read: what is late then is not the server


class Soak:
    """So many callers at once, each of whom asks again and again."""

    def __init__(
        self, text: Endpoint, speech: Endpoint, streams: int, seed: int, spoken: float, longest: int = 6
    ) -> None:
        self.tally = Tally()
        self._text = text
        self._speech = speech
        self._spoken = spoken
        self._longest = longest
        self._chance = random.Random(seed)
        self._poller = Poller()
        self._open: dict[int, Caller] = {}
        self._starts: list[tuple[float, int, Caller]] = []
        self._serial = itertools.count()
        self._callers = [Caller(number) for number in range(streams)]

    def run(self, seconds: float, pid: int) -> None:
        """Keep them at it for so long, then wait for the last streams."""
        began = time.monotonic()
        ramp_s = min(10.0, seconds / 4)
        for number, caller in enumerate(self._callers):
            self._start_at(began + ramp_s * number / len(self._callers), caller)
        sample_at = began
        stop = began + seconds
        looked_at = began
        while (now := time.monotonic()) < stop or (self._open and now < stop + _HANGS_S):
            self.tally.pause_s = max(self.tally.pause_s, now - looked_at)
            looked_at = now
            if now >= stop:
                self._starts.clear()
            while self._starts and self._starts[0][0] <= now:
                self._ask(heapq.heappop(self._starts)[2], Plan.draw(self._chance, self._spoken, self._longest))
            if now >= sample_at and now < stop:
                self.tally.memory.append((now - began, processes.resident_kib(pid)))
                self._end_those_that_hang(now)
                sample_at = now + _SAMPLE_S
            until = min(sample_at, self._starts[0][0]) if self._starts else sample_at
            for descriptor, _ in self._poller.wait(min(0.5, max(0.0, until - now))):
                if descriptor in self._open:
                    self._read(self._open[descriptor])
        for caller in list(self._open.values()):
            self._fail(caller, "hangs")

    def _start_at(self, moment: float, caller: Caller) -> None:
        heapq.heappush(self._starts, (moment, next(self._serial), caller))

    def _ask(self, caller: Caller, plan: Plan) -> None:
        endpoint = self._speech if plan.spoken else self._text
        caller.turn += 1
        caller.plan, caller.check, caller.asked = plan, Check(plan), time.monotonic()
        self.tally.planned[plan.kind] += 1
        self.tally.spoken += plan.spoken
        try:
            sock = socket.create_connection(endpoint.address, timeout=10)
            sock.sendall(_request(endpoint, plan, caller))
        except OSError as error:
            self.tally.failures[f"cannot ask: {error}"] += 1
            self._start_at(time.monotonic() + 1, caller)
            return
        sock.setblocking(False)
        caller.sock = sock
        self._open[sock.fileno()] = caller
        self._poller.register(sock.fileno(), READ)

    def _read(self, caller: Caller) -> None:
        check, plan, sock = caller.check, caller.plan, caller.sock
        assert check and plan and sock
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(caller, f"lost: {error.strerror}")
            return
        seen = check.seen
        try:
            if not data:
                check.response.close()
                raise Broken("closed before its end")
            is_over = check.feed(data)
        except Broken as broken:
            self._fail(caller, str(broken))
            return
        self.tally.chunks += check.seen - seen
        if is_over:
            self._end(caller, check.ending)
        elif plan.acts_after is not None and check.seen >= max(1, plan.acts_after):
            if plan.kind == "hang-up":
                self._end(caller, "hang-up")
            elif caller.newer is None:
                caller.newer = Caller(caller.number, caller.turn - 1)
                self._ask(caller.newer, replace(_GOOD, spoken=plan.spoken, model=_good_model(plan.spoken)))

    def _end(self, caller: Caller, ending: str) -> None:
        self.tally.ended[ending] += 1
        self._shut(caller)

    def _fail(self, caller: Caller, reason: str) -> None:
        assert caller.plan
        self.tally.failures[f"{caller.plan.kind}{' (spoken)' * caller.plan.spoken}: {reason}"] += 1
        self._shut(caller)

    def _shut(self, caller: Caller) -> None:
        assert caller.sock
        del self._open[caller.sock.fileno()]
        self._poller.unregister(caller.sock.fileno())
        caller.sock.close()
        caller.sock = caller.newer = None
        if caller in self._callers[caller.number : caller.number + 1]:
            self._start_at(time.monotonic() + self._chance.random() * 0.1, caller)

    def _end_those_that_hang(self, now: float) -> None:
        for caller in list(self._open.values()):
            if now - caller.asked > _HANGS_S:
                self._fail(caller, "hangs")


_GOOD = Plan("none", "", 9, "finished", spoken=False)


def _good_model(spoken: bool) -> str:
    return f"bench-{_GOOD.says}x100ms{'-words' * spoken}"


def _request(endpoint: Endpoint, plan: Plan, caller: Caller) -> bytes:
    body = json.dumps(
        {"model": plan.model, "stream": True, "messages": [{"role": "user", "content": f"Hello, {caller.turn}."}]}
    ).encode()
    head = f"POST {endpoint.path} HTTP/1.1\r\nHost: {endpoint.host}\r\nAuthorization: Bearer {endpoint.key}\r\n"
    head += f"X-Session-Id: soak-{caller.number}-{caller.turn}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True)
class Held:
    """What a server holds while nobody is on the line."""

    streams: int
    generating: int  # answers that the upstream is still at
    files: int  # and sockets, but for the connections to the upstream that it keeps for the next ones

    @classmethod
    def by(cls, endpoint: Endpoint, pid: int, upstream: str) -> "Held":
        """Look it up: in the server's own counts, in the mock's, and in /proc."""
        host, port = endpoint.address
        page = _get(f"http://{host}:{port}/metrics", _METRICS_KEY)
        found = re.search(r"^custom_llm_open_streams ([0-9.]+)$", page, re.MULTILINE)
        assert found, page
        generating = int(json.loads(_get(f"{upstream}/stats", ""))["active"])
        return cls(
            int(float(found[1])), generating, processes.open_files(pid, but_to_port=urlsplit(upstream).port or 80)
        )


def _get(url: str, key: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever HTTP_PROXY says
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}", "Connection": "close"})
    with opener.open(request, timeout=10) as response:
        return str(response.read().decode())


def main() -> None:
    """Soak, print a table, and exit with 1 where anything went wrong that may not."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: stopped"))  # what was started is stopped on the way out
    if sys.platform != "linux":
        sys.exit("soak: /proc is needed: Linux only")
    needed = 2 * arguments.streams + 200
    if processes.raise_file_limit() < needed:
        sys.exit(f"soak: needs {needed} open files: raise `ulimit -n`")
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            upstream = stack.enter_context(serve_mock(folder, None))
            server = _server(upstream, folder, arguments.stall)
            endpoint, pid = stack.enter_context(server.running())
            assert pid is not None
            speech = replace(endpoint, path="/audio/chat/completions")
            Soak(endpoint, speech, 4, 0, 0.5).run(2, pid)  # until all that is loaded late has been
            before = Held.by(endpoint, pid, upstream)
            soak = Soak(endpoint, speech, arguments.streams, arguments.seed, arguments.spoken, arguments.chunks)
            soak.run(arguments.minutes * 60, pid)
            after = _settled(endpoint, pid, upstream, before)
            told = server.log.read_text(errors="replace")
    except (NotStarted, OSError) as error:
        sys.exit(f"soak: {error}")
    sys.exit(_report(arguments, soak.tally, before, after, told))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--streams", type=int, default=500, help="at once (default %(default)s)")
    add("--minutes", type=float, default=10, help="default %(default)s")
    add("--seed", type=int, default=1, help="of what goes wrong when (default %(default)s)")
    add("--spoken", type=float, default=0.02, metavar="SHARE", help="of the streams (default %(default)s)")
    add("--stall", type=float, default=10, metavar="S", help="what the server bears of silence (default %(default)s)")
    add("--growth", type=float, default=0.05, metavar="SHARE", help="of memory that is borne (default %(default)s)")
    add("--chunks", type=int, default=40, help="of the longest answers (default %(default)s)")
    arguments = parser.parse_args()
    if not (1 <= arguments.streams <= 5000 and 0 < arguments.minutes <= 1440 and 0 <= arguments.spoken <= 1):
        parser.error("--streams: 1 to 5000; --minutes: up to 1440; --spoken: 0 to 1")
    if not 5 <= arguments.chunks <= 100:
        parser.error("--chunks: 5 to 100")
    return arguments


def _server(upstream: str, folder: Path, stall_s: float) -> Server:
    server = serve_project(upstream, folder, None)
    command = (sys.executable, "-m", "gunicorn", "wsgi:app")
    clocks = {"STALL_S": str(stall_s), "FIRST_TOKEN_S": str(stall_s)}
    return replace(server, command=command, environment={**server.environment, **_SERVER, **clocks})


def _settled(endpoint: Endpoint, pid: int, upstream: str, before: Held) -> Held:
    """Return what the server holds at the end, when what was under way has been put away."""
    end = time.monotonic() + _SETTLE_S
    while True:
        held = Held.by(endpoint, pid, upstream)
        if held == before or time.monotonic() > end:
            return held
        time.sleep(0.2)


def _report(arguments: argparse.Namespace, tally: Tally, before: Held, after: Held, told: str) -> bool:
    """Print what came of it, and tell whether anything was wrong."""
    memory, growth = _memory(tally, arguments.minutes * 60)
    lost = sum(tally.failures.values())
    print(
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}; {arguments.streams} streams at once for {arguments.minutes:g} minutes, "
        f"seed {arguments.seed}\n"
    )
    print("| | |\n|---|---|")
    rows = {
        "streams": f"{sum(tally.planned.values()):,}, {tally.spoken:,} of them spoken",
        "chunks": f"{tally.chunks:,}",
        "what went wrong": ", ".join(f"{kind} {tally.planned[kind]:,}" for kind in KINDS),
        "how they ended": ", ".join(f"{ending} {tally.ended[ending]:,}" for ending in ENDINGS),
        "lost, wrong or hanging": str(lost),
        "memory (RSS), first and last fifth after the warm-up": memory,
        "open streams, before and after": f"{before.streams} and {after.streams}",
        "streams that the upstream is at, before and after": f"{before.generating} and {after.generating}",
        "files and sockets, before and after": f"{before.files} and {after.files}",
        "longest pause of what measures": f"{tally.pause_s:.1f} s",
        "tracebacks in the log": str(told.count("Traceback")),
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    for reason, count in tally.failures.most_common(20):
        print(f"- {count} × {reason}")
    is_left = after.streams or after.generating or after.files > before.files
    return bool(lost or growth > arguments.growth or is_left or "Traceback" in told)


def _memory(tally: Tally, seconds: float) -> tuple[str, float]:
    """Return how memory has grown since the warm-up, in words and as a share; a short run is nothing but that."""
    warm_s = max(10.0, min(60.0, seconds / 3))
    under_load = [kib for at, kib in tally.memory if at >= warm_s]
    part = len(under_load) // 5
    if not part:
        return "too short a run to tell", 0.0
    first, last = statistics.median(under_load[:part]), statistics.median(under_load[-part:])
    return f"{first / 1024:.1f} and {last / 1024:.1f} MiB, {last / first - 1:+.1%}", last / first - 1


if __name__ == "__main__":
    main()
