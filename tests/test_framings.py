"""However an upstream writes its stream, the caller gets a well-formed one."""

import gzip
import json
from typing import Any

import pytest
from running_server import RunningServer
from scripted_upstream import (
    CLOSING_HEAD,
    DONE,
    END,
    HEAD,
    ROLE,
    STOP,
    ScriptedUpstream,
    Step,
    answer,
    chunk,
    event,
    framed,
    raw_stream,
    reply,
    stream,
)
from stream_rules import read_good_stream
from together import ask_together

SAID = [chunk({"content": "Hé, "}), chunk({"content": "你好."})]
TEXT = "Hé, 你好."
EVENTS = [ROLE, *SAID, STOP]
BODY = b"".join(map(event, EVENTS)) + DONE


def _lines(end: str) -> list[Step]:
    return raw_stream(BODY.replace(b"\n", end.encode()))


def _over_several_lines(data: dict[str, Any]) -> bytes:
    lines = json.dumps(data, indent=1, ensure_ascii=False).splitlines()
    return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def _in_segments(body: bytes, size: int) -> list[Step]:
    """Send each few bytes by themselves: with a pause after them, or one read might bring more."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [CLOSING_HEAD, *(step for piece in pieces for step in (piece, 0.0003)), "close"]


FRAMINGS: dict[str, list[Step]] = {
    "as OpenAI does": raw_stream(BODY),
    "no space after the colon": raw_stream(BODY.replace(b"data: ", b"data:")),
    "CRLF": _lines("\r\n"),
    "a lone CR": _lines("\r"),
    "a BOM": raw_stream(b"\xef\xbb\xbf" + BODY),
    "a BOM within an event": raw_stream(BODY.replace(b"data: {", b"data: \xef\xbb\xbf{")),
    "comments": raw_stream(b": hi\n\n:\n" + BODY.replace(b"data: ", b": OPENROUTER PROCESSING\n\ndata: ")),
    "a comment within an event": raw_stream(BODY.replace(b"data: ", b": within\ndata: ")),
    "empty lines": raw_stream(b"\n\n" + BODY.replace(b"\n\n", b"\n\n\n\n")),
    "several data lines an event": raw_stream(b"".join(map(_over_several_lines, EVENTS)) + DONE),
    "one byte a segment": _in_segments(BODY, 1),
    "a character cut in two": _in_segments(BODY, BODY.index("你".encode()) + 1),
    "pings": raw_stream(BODY.replace(b"data: ", b"event: ping\n\ndata: ")),
    "pings with data": raw_stream(b'event: ping\ndata: {"type": "ping"}\n\n' + BODY),
    "named events": raw_stream(BODY.replace(b"data: ", b"event: message\ndata: ")),
    "ids and retry": raw_stream(b"retry: 3000\n\nid: 1\n\n" + BODY.replace(b"data: ", b"id: 7\nretry: 9\ndata: ")),
    "empty data": raw_stream(BODY.replace(b"data: {", b"data:\n\ndata: \n\ndata\n\ndata: {")),
    "unknown fields": raw_stream(BODY.replace(b"data: ", b"trace: 1\ndata: ")),
    "no [DONE]": raw_stream(BODY.removesuffix(DONE)),
    "no [DONE] and no last empty line": raw_stream(BODY.removesuffix(b"\n" + DONE)),
    "no line end after the finish": raw_stream(BODY.removesuffix(b"\n\n" + DONE)),
    "no empty line after [DONE]": raw_stream(BODY.removesuffix(b"\n")),
    "no line end after [DONE]": raw_stream(BODY.removesuffix(b"\n\n")),
    "a space after [DONE]": raw_stream(BODY.removesuffix(b"\n\n") + b" \n\n"),
    "[DONE] twice": raw_stream(BODY + DONE),
    "something after [DONE]": raw_stream(BODY + event(SAID[0])),
    "something after [DONE], later": [CLOSING_HEAD, BODY, 0.01, event(SAID[0]), "close"],
    "a cut after the finish": [HEAD + framed(BODY.removesuffix(DONE)), "reset"],
    "a chunk in chunks": [HEAD, framed(BODY[:150]), framed(BODY[150:151]), framed(BODY[151:]), END],
    "a chunk a byte": [HEAD + b"".join(framed(bytes([byte])) for byte in BODY) + END],
    "chunk extensions and a trailer": [HEAD + b"%X;a=b\r\n" % len(BODY) + BODY + b"\r\n0\r\nX-Sum: 1\r\n\r\n"],
    "a known length": reply(200, BODY, "text/event-stream"),
    "no content type": [CLOSING_HEAD.replace(b"Content-Type: text/event-stream\r\n", b"") + BODY, "close"],
    "compressed unasked": reply(200, gzip.compress(BODY), "text/event-stream", Content_Encoding="gzip"),
    "early hints": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HEAD + framed(BODY) + END],
}


@pytest.mark.parametrize("script", FRAMINGS.values(), ids=FRAMINGS.keys())
def test_however_an_upstream_writes_its_events_the_stream_is_well_formed(
    server: RunningServer, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.say(script)

    said = read_good_stream(server.ask())

    assert said.text == TEXT
    assert said.finish_reasons == {0: "stop"}


@pytest.mark.parametrize("written", ["\u2028", "\u2029", "\u0085", "\x7f"], ids=ascii)
def test_other_languages_line_ends_are_text(server: RunningServer, upstream: ScriptedUpstream, written: str) -> None:
    upstream.say(stream(ROLE, chunk({"content": f"a{written}b"}), STOP))

    said = read_good_stream(server.ask())

    assert said.text == f"a{written}b"


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00", rb"\ud83d\ud83d"])
def test_half_a_surrogate_pair_becomes_a_replacement_character(
    server: RunningServer, upstream: ScriptedUpstream, half: bytes
) -> None:
    upstream.say(stream(ROLE, json.dumps(chunk({"content": "a HALF b"})).encode().replace(b"HALF", half), STOP))

    said = read_good_stream(server.ask())

    assert said.text == f"a {'�' * half.count(b'u')} b"


def test_a_whole_surrogate_pair_stays_a_character(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(stream(ROLE, json.dumps(chunk({"content": "😀"})).encode(), STOP))

    assert read_good_stream(server.ask()).text == "😀"


def test_nan_becomes_null(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(stream(ROLE, json.dumps(chunk({"content": "a", "score": float("nan")})).encode(), STOP))

    said = read_good_stream(server.ask())

    assert said.deltas == [{"content": "a", "score": None}]


def test_callers_do_not_hear_one_another(server: RunningServer, upstream: ScriptedUpstream) -> None:
    scripts = {number: answer(*(f"{number} " for _ in range(20))) for number in range(60)}

    got = ask_together(server, upstream, scripts, at_once=60)

    assert [read_good_stream(told.answer).text for told in got.values()] == [f"{number} " * 20 for number in scripts]


@pytest.mark.parametrize("size", [60_000, 70_000, 3_000_000])
def test_a_large_event_is_passed_on(server: RunningServer, upstream: ScriptedUpstream, size: int) -> None:
    upstream.say(stream(ROLE, chunk({"content": "é" * (size // 2)}), STOP))

    assert read_good_stream(server.ask()).text == "é" * (size // 2)


# split points

_SHORT_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_PLAIN = b'data: {"choices":[{"delta":{"content":"\xe4\xbd\xa0"}}]}\n\ndata: {"choices":[{"finish_reason":"stop"}]}\n\n'
SHORT = {
    "LF": _SHORT_HEAD + framed(_PLAIN + DONE) + END,
    "CRLF in chunks": _SHORT_HEAD
    + b"".join(framed(part) for part in (_PLAIN + DONE).replace(b"\n", b"\r\n").partition(b"\xbd"))
    + END,
    "CR": _SHORT_HEAD + framed((b"\xef\xbb\xbf: c\n" + _PLAIN + DONE).replace(b"\n", b"\r")) + END,
}


@pytest.mark.parametrize("response", SHORT.values(), ids=SHORT.keys())
def test_a_response_may_be_cut_in_two_anywhere(
    server: RunningServer, upstream: ScriptedUpstream, response: bytes
) -> None:
    scripts: dict[int, list[Step]] = {
        place: [response[:place], 0.004, response[place:]] for place in range(1, len(response))
    }

    got = ask_together(server, upstream, scripts)

    for place, told in got.items():
        assert read_good_stream(told.answer).text == "你", f"cut before {response[place:]!r}"
