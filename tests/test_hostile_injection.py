"""What callers write in whatever place: it makes no line of the log, no field of it, and no header."""

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hostile import get, head, said
from running_server import KEY, RunningServer, running_server, turn
from scripted_upstream import ScriptedUpstream, reply

WORDS = {
    "a line end": "a\nforged",
    "two line ends": 'a\r\n\r\n2026-11-22 00:00:00,000 INFO request id=forged outcome=ok\r\n{"forged":1}',
    "a header": "a\r\nX-Forged: 1",
    "a response": "a\r\n\r\nHTTP/1.1 200 OK\r\nX-Forged: 1\r\n\r\n",
    "a terminal's orders": "a\x1b[2J\x1b]0;forged\x07\x9b31m",
    "other line ends": "a\x0b\x0c\x1c\x85\u2028\u2029forged",
    "NUL": "a\x00forged",
    "the other way round": "a\u202eforged\u2066",
    "fields": 'a outcome=forged id="forged" status=200',
    "JSON": 'a","outcome":"forged","x":"',
    "a format": "a%s%(forged)s{forged}%n${jndi:ldap://forged}",
}


def in_header(name: str) -> Callable[[str], bytes]:
    """Return what writes a header with these words, as they are."""
    return lambda words: get("/nowhere", f"{name}: ".encode() + words.encode())


def in_body(**fields: Any) -> Callable[[str], bytes]:
    """Return what writes a turn with these words in place of `WORDS`."""
    return lambda words: said(json.dumps(turn(**fields)).replace('"WORDS"', json.dumps(words)).encode())


PLACES: dict[str, Callable[[str], bytes]] = {
    "the path": lambda words: get("/" + quote(words)),
    "the path, as it is": lambda words: get(b"/" + words.encode()),
    "the query": lambda words: get("/nowhere?a=" + quote(words)),
    "the query, as it is": lambda words: get(b"/nowhere?a=" + words.encode()),
    "the method": lambda words: head(words.encode().decode("latin-1"), "/nowhere"),
    "X-Request-Id": in_header("X-Request-Id"),
    "a session's header": in_header("X-Session-Id"),
    "the key": lambda words: get("/nowhere").replace(KEY.encode(), words.encode()),
    "the type": in_header("Content-Type"),
    "Host": lambda words: get("/nowhere").replace(b"Host: h", b"Host: " + words.encode()),
    "Origin": in_header("Origin"),
    "User-Agent": in_header("User-Agent"),
    "X-Forwarded-For": in_header("X-Forwarded-For"),
    "the model": in_body(model="WORDS"),
    "a role": in_body(messages=[{"role": "WORDS", "content": "a"}]),
    "a message": in_body(messages=[{"role": "user", "content": "WORDS"}]),
    "a field's name": in_body(messages=[{"WORDS": 1}]),
    "a user's name": in_body(user="WORDS"),
    "a wrong type": in_body(stream="WORDS"),
}


@pytest.fixture(scope="module")
def servers(_upstream: ScriptedUpstream) -> Iterator[dict[str, RunningServer]]:
    """A server for each form of the log."""
    settings: dict[str, Any] = {"LLM_BASE_URL": _upstream.url, "LLM_API_KEY": KEY}
    with (
        running_server(**settings) as plain,
        running_server(**settings, LOG_FORMAT="json", LOG_LEVEL="DEBUG") as as_json,
    ):
        yield {"plain": plain, "json": as_json}


@pytest.mark.parametrize("form", ["plain", "json"])
@pytest.mark.parametrize("place", PLACES)
def test_a_callers_words_are_one_clean_line_and_no_header(
    servers: dict[str, RunningServer], upstream: ScriptedUpstream, place: str, form: str
) -> None:
    server = servers[form]
    upstream.say(reply(400, {"error": {"message": "No."}}))

    for name, words in WORDS.items():
        before = len(server.log)
        with socket.create_connection(("127.0.0.1", server.port), 5) as peer:
            peer.sendall(PLACES[place](words))
            got = b""
            while data := peer.recv(65536):
                got += data
        head_came, _, body = got.partition(b"\r\n\r\n")
        request_id = head_came.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0].decode()
        server.wait_for_log(request_id)
        lines = server.log[before:].splitlines()

        # what follows a line end in a head is a header of the caller's own, or no HTTP: in both cases one answer
        assert head_came.startswith(b"HTTP/1.1 4"), name
        assert b"forged" not in head_came.lower()
        assert json.loads(body)["error"]["message"].isprintable()
        assert len(lines) == 1, (name, lines)
        assert lines[0].isprintable()
        if form == "json":
            line = json.loads(lines[0])
            assert (line["message"], line["id"]) == ("request", request_id)
            assert line["outcome"] != "forged"
        else:
            assert f" INFO request id={request_id} endpoint=" in lines[0]
            assert lines[0].index(" outcome=") < (lines[0] + " model=").index(" model=")
