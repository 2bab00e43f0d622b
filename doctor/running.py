"""How many requests run behind an endpoint, as a page of statistics tells it."""

import re
import time

import requests

from doctor.probes import long_body
from doctor.stream import Stream
from doctor.target import Target
from doctor.wire import FIRST_S, Heard, ask

STOP_S = 2.0
"""Seconds that an upstream may take to stop once the caller has hung up."""

# JSON: a benchmark's or a proxy's own; Prometheus: vLLM's gauge, and any that is named like ours
_JSON_NAMES = ("open_streams", "running", "open")
_GAUGE = re.compile(r"^[A-Za-z0-9_:]*(?:open_streams|num_requests_running)(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)


def count_running(url: str) -> float | None:
    """Return the number that a page of statistics shows, None where there is none."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=2.0, allow_redirects=False)
    except requests.RequestException:
        return None
    try:
        body = answer.json()
    except ValueError:
        found = [float(value) for value in _GAUGE.findall(answer.text)]
        return sum(found) if found else None
    if isinstance(body, dict):
        return next((float(body[name]) for name in _JSON_NAMES if isinstance(body.get(name), int | float)), None)
    return None


class BargeIn:
    """An answer that the caller hangs up on: `stopped` tells whether what runs went back, None where it isn't seen."""

    def __init__(self, target: Target, stats_url: str | None, until: float, first_s: float = FIRST_S) -> None:
        self.stopped: bool | None = None
        self.after_s = 0.0
        self.why = "it can't be seen from outside; name a page that counts what runs with --upstream-stats"
        before = count_running(stats_url) if stats_url else None
        during: list[float | None] = []

        def leave(heard: Heard) -> bool:
            if not Stream(heard).spoken_at:
                return False
            if stats_url:
                during.append(count_running(stats_url))
            return True

        self.heard = ask(target, long_body(target), until, first_s=first_s, leave=leave)
        if stats_url:
            self._watch(stats_url, before, during[0] if during else None)

    def _watch(self, stats_url: str, before: float | None, during: float | None) -> None:
        if before is None or during is None:
            self.why = "the page of statistics shows no number of requests that run"
            return
        if during <= before:
            self.why = "the answer was over before it could be interrupted"
            return
        left = time.monotonic()
        self.stopped = False
        while not self.stopped and time.monotonic() < left + STOP_S:
            now = count_running(stats_url)
            self.after_s = time.monotonic() - left
            self.stopped = now is not None and now < during
            if not self.stopped:
                time.sleep(0.05)
