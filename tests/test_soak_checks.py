"""What the soak takes for a wrong stream."""

import json
from typing import Any

import pytest

from benchmarks.faults import FALLBACK, Check, Plan
from benchmarks.framing import Broken

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"no"}}\n\n'


def chunk(delta: dict[str, Any], finish_reason: str | None = None, id: str = "a") -> bytes:
    body = {"id": id, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


ZERO, ONE = (chunk({"content": f" @@{number}:1@@"}) for number in range(2))
STOP = chunk({}, "stop")
SORRY = chunk({"content": FALLBACK})


def read(plan: Plan, body: bytes) -> str:
    """Return how a stream ended; Broken if it is not as planned."""
    check = Check(plan)
    whole = HEAD % len(body) + body
    for at in range(0, len(whole), 7):
        check.feed(whole[at : at + 7])
    return check.ending


def plan(ending: str, says: int = 2) -> Plan:
    return Plan("none", "bench-2x0ms", says, ending, spoken=False)


@pytest.mark.parametrize(
    ("ending", "says", "body"),
    [
        ("finished", 2, ZERO + ONE + STOP + DONE),
        ("finished", 2, b": wait\n\n" + ZERO + ONE + STOP + DONE),
        ("error", 1, ZERO + ERROR + DONE),
        ("fallback", 0, SORRY + STOP + DONE),
        ("superseded", 2, ZERO + STOP + DONE),
    ],
)
def test_each_ending_is_known(ending: str, says: int, body: bytes) -> None:
    assert read(plan(ending, says), body) == ending


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (ZERO + STOP + DONE, "not all that the upstream said"),
        (ONE + ZERO + STOP + DONE, "chunk 1 in the place of 0"),
        (ZERO + ZERO + STOP + DONE, "chunk 0 in the place of 1"),
        (ZERO + ONE + STOP, r"ended without \[DONE\]"),
        (ZERO + ONE + DONE, r"\[DONE\] without an ending"),
        (ZERO + ONE + STOP + DONE + DONE, r"data after \[DONE\]"),
        (ZERO + ONE + STOP + ERROR + DONE, "a chunk after the ending"),
        (ZERO + ONE + ERROR + DONE, "finished was due, error came"),
        (SORRY + STOP + DONE, "finished was due, fallback came"),
        (ZERO + chunk({"content": " @@1:1@@"}, id="b") + STOP + DONE, "an answer with two ids"),
        (ZERO + b"data: {\n\n" + STOP + DONE, "not a chunk"),
        (ZERO + b"event: x\n\n" + STOP + DONE, "not an event"),
    ],
)
def test_a_wrong_stream_is_told_from_a_good_one(body: bytes, reason: str) -> None:
    with pytest.raises(Broken, match=reason):
        read(plan("finished"), body)


def test_a_status_is_no_ending_of_a_text() -> None:
    body = b'{"error":{"message":"no"}}'

    with pytest.raises(Broken, match="status 502: no"):
        Check(plan("error", 1)).feed(b"HTTP/1.1 502 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
