"""Streams to which all happens that can: each ends as it must, and nothing is left of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parent.parent / "benchmarks" / "soak.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SOAK), "--stall", "3", "--chunks", "15", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--streams", "60", "--minutes", "0.75", "--spoken", "0.1"),
        # too short for memory to come to rest
        ("--streams", "200", "--minutes", "0.1", "--spoken", "0.1", "--growth", "0.3"),
    ],
    ids=["60 for 45 seconds", "200 for six seconds"],
)
def test_no_stream_is_lost_or_wrong_whatever_happens_to_it(arguments: tuple[str, ...]) -> None:
    done = soak(*arguments)

    assert "| lost, wrong or hanging | 0 |" in done.stdout, done.stdout + done.stderr
    for ending in ("finished", "error", "fallback", "superseded", "hang-up"):
        assert re.search(rf"\| how they ended \|.*\b{ending} [1-9]", done.stdout), done.stdout
    assert "| open streams, before and after | 0 and 0 |" in done.stdout
    assert "| tracebacks in the log | 0 |" in done.stdout
    assert done.returncode == 0, done.stdout


def test_a_wrong_command_line_is_refused_in_one_line() -> None:
    done = soak("--streams", "0")

    assert done.returncode != 0
    assert "--streams: 1 to 5000" in done.stderr
    assert "Traceback" not in done.stderr
