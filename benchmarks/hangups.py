"""Hang up on a server and see how soon it hangs up on its upstream."""

import json
import socket
import statistics
import time
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from benchmarks import processes
from benchmarks.endpoints import Endpoint
from benchmarks.framing import Broken
from benchmarks.scenarios import HangUpScenario

_LIVE_MARKS = 3  # chunks that each caller has had before it hangs up
_MAX_BYTES = 1 << 20


class MockMissing(Exception):
    """The mock upstream, which knows when a stream was cancelled, cannot be asked."""


class Mock:
    """The mock upstream's counters, over HTTP."""

    def __init__(self, url: str) -> None:
        """`url` is the mock's, with a path or without."""
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port or 80

    def active(self) -> int:
        """Return how many streams are under way; 0 if nobody can tell."""
        try:
            return int(json.loads(self._get("/stats"))["active"])
        except (MockMissing, ValueError, KeyError, TypeError):
            return 0

    def cancels(self) -> dict[int, int]:
        """Return by tag when each cancelled stream was dropped, in monotonic ns; MockMissing without the mock."""
        return self._times("/cancels")

    def sentences(self) -> dict[int, int]:
        """Return by tag when the first sentence of each echo was complete, as `cancels` does."""
        return self._times("/sentences")

    def _times(self, path: str) -> dict[int, int]:
        try:
            return {int(tag): int(at) for tag, at in (line.split() for line in self._get(path).splitlines())}
        except ValueError:
            raise MockMissing(f"{self._origin} is not the mock upstream") from None

    def find_process(self) -> int | None:
        """Return its process, if that is one of this machine and may be seen."""
        return processes.find_listener(self._port) if self._host in ("127.0.0.1", "localhost") else None

    def _get(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever HTTP_PROXY says
        try:
            with opener.open(self._origin + path, timeout=5) as response:
                return str(response.read().decode())
        except (OSError, ValueError, HTTPException) as error:
            raise MockMissing(f"no mock upstream at {self._origin}: {error}") from error


def measure_hang_ups(endpoint: Endpoint, scenario: HangUpScenario, mock: Mock) -> dict[str, float]:
    """Return, for each of the scenario's models, how many upstream streams were closed and how soon (ms).

    Broken if an answer does not come; MockMissing without the mock.
    """
    mock.cancels()
    figures: dict[str, float] = {}
    for name, model in scenario.models:
        delays = sorted(_hang_up(endpoint, model, scenario, mock))
        figures[f"{name}: closed of {scenario.callers}"] = len(delays)
        if delays:
            figures[f"{name}: p50, ms"] = statistics.median(delays)
            figures[f"{name}: max, ms"] = delays[-1]
    return figures


def _hang_up(endpoint: Endpoint, model: str, scenario: HangUpScenario, mock: Mock) -> list[float]:
    first = time.monotonic_ns() // 1000
    callers: dict[int, socket.socket] = {}
    closed: dict[int, int] = {}
    try:
        for tag in range(first, first + scenario.callers):
            callers[tag] = socket.create_connection(endpoint.address, timeout=10)
            callers[tag].sendall(endpoint.request(model, tag))
        for sock in callers.values():
            _await_chunks(sock)
        time.sleep(0.3)  # until the silent upstream is silent
        for tag, sock in callers.items():
            _drain(sock)  # a close with bytes unread is a reset, not the end that callers send
            closed[tag] = time.monotonic_ns()
            sock.close()
            time.sleep(0.01)
    finally:
        for sock in callers.values():
            sock.close()
    end = time.monotonic() + scenario.wait_s
    cancels: dict[int, int] = {}
    while time.monotonic() < end and not closed.keys() <= cancels.keys():
        time.sleep(0.05)
        cancels = mock.cancels()
    return [(cancels[tag] - at) / 1e6 for tag, at in closed.items() if tag in cancels]


def _await_chunks(sock: socket.socket) -> None:
    received = b""
    while received.count(b"@@") < 2 * _LIVE_MARKS:
        data = sock.recv(65536)
        received += data
        if not data or len(received) > _MAX_BYTES:
            raise Broken(f"no stream to hang up on: {received[:80]!r}")


def _drain(sock: socket.socket) -> None:
    sock.setblocking(False)
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        pass
