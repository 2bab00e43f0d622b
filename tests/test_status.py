"""What this is, whether it works, what can be asked, and the one form of every error."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from running_server import KEY, Answer, RunningServer, free_port, running_server, turn
from scripted_upstream import COMPLETION, ScriptedUpstream, Step, reply
from stream_rules import read_error

MODELS = {"object": "list", "data": [{"id": "up-1", "object": "model", "created": 1, "owned_by": "them", "x": 1.50}]}
MODELS_JSON = json.dumps(MODELS, indent=1).encode()
CANARY = "canary-in-the-query"
HOST = "Host: x\r\n"


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    """The demo, which takes small requests only."""
    with running_server(MAX_BODY_KB="1") as running:
        yield running


@pytest.fixture(params=["server", "dev_server"])
def either(request: pytest.FixtureRequest) -> RunningServer:
    """gunicorn, then the development server."""
    server: RunningServer = request.getfixturevalue(request.param)
    return server


def say(server: RunningServer, data: bytes) -> Answer:
    """Send raw bytes and read one answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(data)
        response = http.client.HTTPResponse(sock)
        response.begin()
        return Answer(response, response.read(), cut=False)


def post(server: RunningServer, head: str, body: bytes = b"", path: str = "/chat/completions") -> Answer:
    lines = f"POST {path} HTTP/1.1\r\n{HOST}Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    return say(server, f"{lines}{head}\r\n\r\n".encode() + body)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


class TestIndex:
    def test_it_names_endpoints_that_there_are(self, server: RunningServer) -> None:
        named = server.get("/").json["endpoints"]

        assert {"/chat/completions", "/rag/chat/completions", "/models", "/health", "/ready"} <= named.keys()
        assert all(named.values())
        assert {server.get(path).status for path in named if "completions" in path} == {405}
        assert server.get("/no").status == 404

    def test_its_curl_asks_this_server_and_names_no_key(self, server: RunningServer) -> None:
        curl = server.get("/").json["try"]

        assert f"http://127.0.0.1:{server.port}/chat/completions" in curl
        assert '''Bearer '"$KEY"''' in curl
        assert KEY not in curl

    def test_the_demo_says_that_it_is_one_and_needs_no_key(self, demo: RunningServer) -> None:
        said = demo.request("GET", "/").json

        assert "LLM_API_KEY" in said["demo"]
        assert "LLM_BASE_URL" in said["demo"]
        assert "Authorization" not in said["try"]

    def test_a_real_model_is_no_demo(self, server: RunningServer) -> None:
        assert "demo" not in server.get("/").json


class TestHealth:
    def test_health_says_that_the_process_is_alive(self, either: RunningServer) -> None:
        answer = either.get("/health")

        assert (answer.status, answer.json) == (200, {"status": "ok"})

    def test_health_has_a_head(self, server: RunningServer) -> None:
        answer = server.request("HEAD", "/health")

        assert (answer.status, answer.body) == (200, b"")

    def test_ready_tells_how_the_upstream_did_and_is_ready_all_the_same(
        self, server: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        states = []
        for script in (reply(200, COMPLETION), reply(500, {}), reply(400, {}), reply(200, COMPLETION)):
            upstream.say(script)
            server.ask(turn(stream=False))
            answer = server.get("/ready")
            states.append((answer.status, answer.json["status"], answer.json["upstream"]))

        assert states == [(200, "ready", state) for state in ("ok", "failing", "failing", "ok")]

    def test_ready_knows_nothing_of_an_upstream_that_was_not_asked(self, demo: RunningServer) -> None:
        assert demo.get("/ready").json == {"status": "ready", "upstream": "demo", "knowledge_failures": 0}
        with running_server(LLM_BASE_URL="http://127.0.0.1:9/v1", LLM_API_KEY=KEY) as server:
            assert server.get("/ready").json == {"status": "ready", "upstream": "unknown", "knowledge_failures": 0}


class TestModels:
    @pytest.mark.parametrize("path", ["/models", "/v1/models"])
    def test_the_upstreams_own_list_is_passed_on(
        self, either: RunningServer, upstream: ScriptedUpstream, path: str
    ) -> None:
        upstream.say(reply(200, MODELS_JSON))

        answer = either.get(path)

        assert (answer.status, answer.body) == (200, MODELS_JSON)
        assert answer.headers.get_content_type() == "application/json"
        asked = upstream.wait_for(1)
        assert (asked.method, asked.target, asked.body) == ("GET", "/v1/models", None)

    @pytest.mark.parametrize("path", ["/models", "/v1/models"])
    def test_the_demo_lists_itself(self, demo: RunningServer, path: str) -> None:
        listed = demo.get(path).json

        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["demo"]

    @pytest.mark.parametrize(
        ("script", "status", "code"),
        [
            (reply(404, {"error": {"message": "no list"}}), 404, "upstream_rejected"),
            (reply(401, {"error": {"message": "no"}}), 502, "upstream_auth"),
            (reply(429, {"error": {"message": "slow"}}, Retry_After="30"), 429, "upstream_rate_limited"),
            (reply(500, b"<html>", "text/html"), 502, "upstream_error"),
            (reply(301, b"", Location="/v2/models"), 502, "upstream_error"),
            (reply(200, b"<html>", "text/html"), 502, "upstream_broken"),
            (reply(200, b""), 502, "upstream_broken"),
            (reply(200, MODELS_JSON[:-9]), 502, "upstream_broken"),
            ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "close"], 502, "upstream_broken"),
            (["close"], 502, "upstream_broken"),
        ],
    )
    def test_an_upstream_that_fails_is_a_real_status(
        self, server: RunningServer, upstream: ScriptedUpstream, script: list[Step], status: int, code: str
    ) -> None:
        upstream.say(script)

        answer = server.get("/models")

        assert (answer.status, read_error(answer.json)["code"]) == (status, code)

    def test_an_upstream_that_is_not_there_is_a_502(self) -> None:
        with running_server(LLM_BASE_URL=f"http://127.0.0.1:{free_port()}/v1", LLM_API_KEY=KEY) as server:
            answer = server.get("/models")

        assert (answer.status, read_error(answer.json)["code"]) == (502, "upstream_unreachable")

    def test_an_upstream_that_says_nothing_is_not_waited_for_longer_than_for_an_answer(
        self, server: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(["hold"])

        began = time.monotonic()
        answer = server.get("/models")

        assert (answer.status, read_error(answer.json)["code"]) == (504, "upstream_timeout")
        assert time.monotonic() - began < 6  # TOTAL_S is 4 here

    def test_a_kept_connection_that_has_died_is_replaced(
        self, server: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(reply(200, MODELS_JSON), ["close"], reply(200, MODELS_JSON))

        assert [server.get("/models").status for _ in range(2)] == [200, 200]

    def test_a_caller_who_hangs_up_ends_the_question(self, either: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(["hold"])

        sock = socket.create_connection(("127.0.0.1", either.port))
        sock.sendall(f"GET /models HTTP/1.1\r\n{HOST}Authorization: Bearer {KEY}\r\n\r\n".encode())
        asked = upstream.wait_for(1)
        sock.close()

        assert upstream.wait_for_drop(asked) > 0


class TestErrors:
    @pytest.mark.parametrize("path", ["/no", "/v1", "/favicon.ico", "/chat/completions/", "/chat", "/health/x", "/%00"])
    def test_an_unknown_path_is_a_404(self, either: RunningServer, path: str) -> None:
        answer = either.get(path)

        assert answer.status == 404
        error = read_error(answer.json)
        assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")

    def test_a_doubled_slash_is_no_obstacle(self, either: RunningServer, upstream: ScriptedUpstream) -> None:
        assert either.ask(path="//chat/completions").status == 200

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/chat/completions", "POST"),
            ("GET", "/v1/chat/completions", "POST"),
            ("DELETE", "/chat/completions", "POST"),
            ("POST", "/models", "GET"),
            ("POST", "/health", "GET"),
            ("PUT", "/", "GET"),
        ],
    )
    def test_a_wrong_method_is_a_405_that_names_the_right_one(
        self, either: RunningServer, method: str, path: str, allowed: str
    ) -> None:
        answer = either.request(method, path, headers={"Authorization": f"Bearer {KEY}"})

        assert answer.status == 405
        assert read_error(answer.json)["code"] == "method_not_allowed"
        assert allowed in answer.headers["Allow"]

    @pytest.mark.parametrize(
        "kind",
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", "text/json5"],
    )
    def test_what_is_not_json_is_a_415(self, either: RunningServer, kind: str) -> None:
        answer = either.ask(headers={"Content-Type": kind})

        assert answer.status == 415
        assert "application/json" in read_error(answer.json)["message"]

    @pytest.mark.parametrize(
        "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json", ""]
    )
    def test_whatever_calls_itself_json_is_read(
        self, either: RunningServer, upstream: ScriptedUpstream, kind: str
    ) -> None:
        assert either.ask(headers={"Content-Type": kind}).status == 200

    def test_a_body_that_is_too_large_is_a_413_before_it_is_read(self, either: RunningServer) -> None:
        answer = post(either, "Content-Length: 99999999999")

        assert answer.status == 413
        assert "MAX_BODY_KB" in read_error(answer.json)["message"]

    def test_a_body_of_unknown_length_that_is_too_large_is_a_413(self, demo: RunningServer) -> None:
        answer = post(demo, "Transfer-Encoding: chunked", chunked(json.dumps(turn(user="u" * 1024)).encode()))

        assert answer.status == 413
        assert read_error(answer.json)["type"] == "invalid_request_error"

    def test_a_body_as_large_as_allowed_is_read(self, demo: RunningServer) -> None:
        body = json.dumps(turn()).encode().ljust(1024)

        assert post(demo, "Content-Length: 1024", body).status == 200
        assert post(demo, "Transfer-Encoding: chunked", chunked(body[:1000])).status == 200
        assert post(demo, "Content-Length: 1025", body + b" ").status == 413

    def test_a_connection_serves_on_after_an_error(self, server: RunningServer, upstream: ScriptedUpstream) -> None:
        connection = server.connect()
        statuses = []
        for body in (b"{", json.dumps(turn()).encode(), b"[]", json.dumps(turn(stream=None, n="x")).encode()):
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
            connection.request("POST", "/chat/completions", body, headers)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

        assert statuses[:3] == [400, 200, 400]


LONG = "a" * 70_000
MALFORMED: dict[str, tuple[bytes, int]] = {
    name: (data.encode("latin-1"), status)
    for name, (data, status) in {
        "no HTTP": (f"hello {CANARY}\r\n\r\n", 400),
        "no version": (f"GET /?{CANARY}\r\n\r\n", 400),
        "line feeds alone": (f"GET /?{CANARY} HTTP/1.1\n{CANARY}: x\n\n", 400),
        "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        "HTTP/3": (f"GET /?{CANARY} HTTP/3.0\r\n{HOST}\r\n", 400),
        "no method": (f" / HTTP/1.1\r\n{HOST}\r\n", 400),
        "a long line": (f"GET /?{CANARY}{LONG} HTTP/1.1\r\n{HOST}\r\n", 414),
        "a line without a colon": (f"GET /?{CANARY} HTTP/1.1\r\n{HOST}{CANARY}\r\n\r\n", 400),
        "a blank before the colon": (f"GET / HTTP/1.1\r\nHost : {CANARY}\r\n\r\n", 400),
        "a folded header": (f"GET / HTTP/1.1\r\n{HOST}X-A: a\r\n {CANARY}\r\n\r\n", 400),
        "NUL in a header": (f"GET / HTTP/1.1\r\n{HOST}X-A: a\0{CANARY}\r\n\r\n", 400),
        "a long header": (f"GET / HTTP/1.1\r\n{HOST}X-A: {CANARY}{LONG}\r\n\r\n", 431),
        "many headers": (f"GET / HTTP/1.1\r\n{HOST}{f'X-A: {CANARY}{chr(13)}{chr(10)}' * 500}\r\n", 431),
        "two framings": (
            f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        "two lengths": (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        "a negative length": (f"POST / HTTP/1.1\r\n{HOST}Content-Length: -5\r\n\r\nhello", 400),
        "a length that is no number": (f"POST / HTTP/1.1\r\n{HOST}Content-Length: {CANARY}\r\n\r\nhello", 400),
        "an unknown coding": (f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: {CANARY}\r\n\r\nhello", 501),
        "an unknown expectation": (f"POST / HTTP/1.1\r\n{HOST}Expect: {CANARY}\r\nContent-Length: 0\r\n\r\n", 417),
    }.items()
}


class TestMalformedHttp:
    @pytest.mark.parametrize("name", MALFORMED)
    def test_it_is_refused_in_the_form_of_every_error(self, server: RunningServer, name: str) -> None:
        data, status = MALFORMED[name]

        answer = say(server, data)

        assert answer.status == status
        assert answer.headers.get_content_type() == "application/json"
        assert answer.headers["Connection"] == "close"
        assert read_error(answer.json)["type"] in ("invalid_request_error", "server_error")
        line = server.wait_for_log(answer.headers["X-Request-Id"])
        assert "outcome=caller_bad_request" in line
        assert CANARY not in server.log

    @pytest.mark.parametrize(
        "body", [b"xyz\r\n{}\r\n0\r\n\r\n", b"5\r\nhello world", b"-1\r\n\r\n", b"2\r\n{}__0\r\n\r\n"]
    )
    def test_a_body_that_is_badly_chunked_is_the_callers_fault(self, server: RunningServer, body: bytes) -> None:
        before = len(server.log)

        answer = post(server, "Transfer-Encoding: chunked", body)

        assert answer.status == 400
        assert read_error(answer.json)["type"] == "invalid_request_error"
        assert "Traceback" not in server.log[before:]

    def test_a_body_that_is_cut_is_the_callers_fault(self, server: RunningServer) -> None:
        before = len(server.log)

        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            head = f"POST /chat/completions HTTP/1.1\r\n{HOST}Authorization: Bearer {KEY}\r\nX-Request-Id: is-cut\r\n"
            sock.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            sock.shutdown(socket.SHUT_WR)
            line = server.wait_for_log("is-cut")

        assert "outcome=caller" in line
        assert "Traceback" not in server.log[before:]


class TestRequestId:
    @pytest.mark.parametrize("given", ["a", "call-7.turn_3", "A" * 64, "0"])
    def test_a_good_one_is_kept(self, either: RunningServer, given: str) -> None:
        assert either.get("/health", {"X-Request-Id": given}).headers["X-Request-Id"] == given

    @pytest.mark.parametrize("given", ["", " ", "A" * 65, "a b", "a/b", "a;b", "é", "<script>", '"', "a\tb", "a,b"])
    def test_any_other_is_made_anew(self, either: RunningServer, given: str) -> None:
        answers = [either.get("/health", {"X-Request-Id": given}) for _ in range(2)]

        ids = [answer.headers["X-Request-Id"] for answer in answers]
        assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", each) for each in ids)
        assert len({given, *ids}) == 3

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("POST", "/chat/completions", turn(), 200),
            ("POST", "/v1/chat/completions", turn(stream=False, messages=[]), 400),
            ("GET", "/", None, 200),
            ("GET", "/models", None, 502),
            ("GET", "/no", None, 404),
            ("GET", "/chat/completions", None, 405),
            ("POST", "/chat/completions", "text", 415),
        ],
    )
    def test_every_response_has_one_and_the_log_has_it_once(
        self, either: RunningServer, method: str, path: str, body: Any, status: int
    ) -> None:
        given = f"id-{free_port()}-{status}"
        kind = "text/plain" if body == "text" else "application/json"
        headers = {"Authorization": f"Bearer {KEY}", "X-Request-Id": given, "Content-Type": kind}

        answer = either.request(method, f"{path}?{CANARY}", json.dumps(body).encode() if body else None, headers)
        line = either.wait_for_log(given)

        assert answer.headers["X-Request-Id"] == given
        assert f"status={answer.status} " in line
        assert either.log.count(given) == 1
        assert CANARY not in either.log

    def test_who_shows_no_key_has_one_too(self, either: RunningServer) -> None:
        answer = either.request("GET", "/", headers={"X-Request-Id": "nobody"})

        assert (answer.status, answer.headers["X-Request-Id"]) == (401, "nobody")
