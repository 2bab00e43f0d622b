"""The benchmark of speech: what it counts is checked against answers whose faults are known, and the command runs."""

import json
import math
import re
import subprocess
import sys
from array import array
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_server import KEY, RunningServer, running_server

from benchmarks.audio import Bar
from benchmarks.framing import Broken
from benchmarks.replies import CHUNK_BYTES, CHUNK_MS, HZ, Reply, silences_ms, spoken
from benchmarks.reports import Result
from benchmarks.servers import serve_mock

AUDIO = Path(__file__).resolve().parent.parent / "benchmarks" / "audio.py"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
MS = 1_000_000
TONE = array("h", [int(9000 * math.sin(place / 5)) for place in range(HZ)])
WORDS = [
    {"text": "Good", "start_ts": 0, "end_ts": 400, "duration": 400},
    {"text": "day.", "start_ts": 400, "end_ts": 900, "duration": 500},
]


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_mock(tmp_path_factory.mktemp("upstream"), None) as url:
        yield url


@pytest.fixture(scope="module")
def speaking(mock: str) -> Iterator[RunningServer]:
    """A server that speaks without pauses, before the mock."""
    with running_server(LLM_BASE_URL=mock, LLM_API_KEY=KEY, AUDIO_LEAD_MS=0) as running:
        yield running


def event(audio: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"audio": audio}}]}).encode() + b"\n\n"


def answer(pcm: bytes = TONE.tobytes(), words: Any = WORDS, transcript: str = "Good day.", done: bool = True) -> bytes:
    """Return the bytes of a spoken answer."""
    chunks = [pcm[at : at + CHUNK_BYTES] for at in range(0, len(pcm), CHUNK_BYTES)]
    sound = b"".join(event({"data": b64encode(chunk).decode()}) for chunk in chunks)
    return HEAD + event({"transcript": transcript, "words": words}) + sound + b"data: [DONE]\n\n" * done


def reply(*reads: tuple[int, bytes]) -> Reply:
    """Return what was read of an answer, each read with its time."""
    came = Reply(0, 1)
    for now, data in reads:
        came.feed(data, now)
    came.close(0)
    return came


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(AUDIO), *arguments], capture_output=True, text=True, timeout=120)


def test_a_good_answer_is_taken_apart() -> None:
    heard = spoken(reply((5, answer())))

    assert (heard.pcm, heard.transcript, heard.words) == (TONE.tobytes(), "Good day.", WORDS)
    assert heard.times == [5] * 25
    assert heard.late == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (answer(done=False), r"without \[DONE\]"),
        (answer() + b"data: {}\n\n", r"after \[DONE\]"),
        (answer(pcm=b""), "no sound"),
        (answer(words=[]), "no words"),
        (answer(transcript="Good night."), "not the transcript"),
        (answer(words=WORDS[::-1], transcript="day. Good"), "out of order"),
        (
            answer(words=[{**WORDS[0], "end_ts": 2000}, {**WORDS[1], "start_ts": 2000, "end_ts": 2100}]),
            "after the last",
        ),
        (answer(pcm=TONE.tobytes() + bytes(15 * CHUNK_BYTES)), "700 ms after the last word"),
        (answer(pcm=TONE.tobytes()[:-2]), "a chunk of 1278 bytes"),
        (answer(pcm=array("h", [32767] * HZ).tobytes()), "clipped"),
        (HEAD + event({"data": "?"}) + b"data: [DONE]\n\n", "not base64"),
        (HEAD + b'data: {"error":{"message":"It failed."}}\n\ndata: [DONE]\n\n', "It failed"),
        (HEAD.replace(b"200", b"503") + b"{}", "status 503"),
    ],
)
def test_a_broken_answer_is_told_from_a_good_one(body: bytes, reason: str) -> None:
    with pytest.raises(Broken, match=reason):
        spoken(reply((1, body)))


@pytest.mark.parametrize(("delay_ms", "late"), [(0, 0), (39, 0), (40, 1), (500, 1)])
def test_a_chunk_is_late_40_ms_after_it_was_due(delay_ms: int, late: int) -> None:
    *events, rest = answer().removeprefix(HEAD).split(b"\n\n")
    reads = [(0, HEAD + events[0] + b"\n\n" + events[1] + b"\n\n")]
    for place, each in enumerate(events[2:-1], 1):
        due = place * CHUNK_MS + (delay_ms if place == 7 else 0)
        reads.append((due * MS, each + b"\n\n"))
    reads.append((0, events[-1] + b"\n\n" + rest))

    assert spoken(reply(*reads)).late == late


def test_only_silences_inside_a_sound_are_counted() -> None:
    loud = array("h", [1000] * 100)

    found = silences_ms(
        array("h", bytes(400)) + loud + array("h", bytes(3200)) + loud + array("h", bytes(64)) + loud, HZ
    )

    assert found == [100, 2]


def test_a_bar_is_met_or_missed() -> None:
    bar = Bar("calls", "late chunks", 0)
    results = [Result("1 calls", "calls", {"late chunks": 0}), Result("9 calls", "calls", {"late chunks": 2})]

    assert [is_met for is_met, _ in bar.judge(results)] == [True, False]


def test_the_command_measures_a_server_that_speaks(mock: str, speaking: RunningServer) -> None:
    done = run(speaking.url, "--upstream", mock, "--key", KEY, "--calls", "0,3", "--seconds", "1")

    assert not re.search(r"failed \d", done.stdout), done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows if "ms |" not in row] == [
        *("| 0 calls", "| 3 calls", "| English", "| Chinese", "| read")
    ]
    assert done.stdout.count("- met: ") + done.stdout.count("- MISSED: ") == 9
    assert done.stdout.count(": late chunks: 0 ") == 1
    assert done.returncode == ("MISSED" in done.stdout)


def test_the_command_fails_where_nothing_is_spoken(mock: str) -> None:
    with running_server(LLM_BASE_URL=mock, LLM_API_KEY=KEY, VOICE="none", AUDIO_LEAD_MS=0) as silent:
        done = run(silent.url, "--upstream", mock, "--key", KEY, "--calls", "1", "--seconds", "1")

    assert done.returncode == 1
    assert re.search(r"English: failed \d+ ×", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either URL or --serve"),
        (["http://127.0.0.1:1", "--calls", "many"], "--calls: numbers"),
        (["http://127.0.0.1:1", "--seconds", "0"], "--seconds: 1 to 300"),
        (["http://192.0.2.1:1"], "not on this machine"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    done = run(*arguments)

    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
