"""A server that commits every sin that the doctor knows, and one endpoint that speaks well, to compare."""

import base64
import gzip
import itertools
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WELL_KEY = "sk-well-canary"
"""The key of the endpoint that speaks well."""
ODD: tuple[Any, ...] = (None, 5, -1.5, 10**400, float("nan"), "x", "\ud83d", True, [], [5], [[]], [{}], {}, {"a": 1})
"""Values that the odd endpoint puts wherever something else belongs; the path's last part names one."""
SLOW_S = 1.1
"""What the bad endpoint takes to gather an answer that it then sends all at once, the first few times."""
_WORDS = [f"word{place}" for place in range(24)]
_TONE = struct.pack("<640h", *(place * 97 % 4000 - 2000 for place in range(640)))


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def chunk(
    delta: dict[str, Any] | None, finish_reason: str | None = None, id: str = "a1", **more: Any
) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {"id": id, "object": "chat.completion.chunk", "created": 17, "model": "m", "choices": choices, **more}


class BadServer(ThreadingHTTPServer):
    """What all requests share: how many answers still run, and whether a hang-up has jammed the bad endpoint."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.open = 0
        self.count: Callable[[], int] = lambda: self.open
        """What the pages of statistics show."""
        self.numbers = itertools.count()
        self.is_jammed = False
        # those that are timed
        self.slow_answers = 2
        self.late_answers = 2
        self.late_s = 2.0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers who have gone."""


class Handler(BaseHTTPRequestHandler):
    """One request; the first part of the path names the endpoint."""

    server: BadServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Tell how many answers run, or fall over."""
        if self.path == "/stats":
            self.reply(200, json.dumps({"open_streams": self.server.count()}).encode())
        elif self.path == "/gauge":
            gauge = (
                f'# HELP vllm:num_requests_running n\nvllm:num_requests_running{{model="m"}} {self.server.count()}.0\n'
            )
            self.reply(200, gauge.encode(), "text/plain")
        elif self.path.startswith("/bad"):
            self.break_down()
        else:
            self.refuse(405, "Completions are asked for with POST.")

    def do_POST(self) -> None:
        """Answer as the endpoint does."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with suppress(OSError):
            getattr(self, self.path.split("/")[1])(data)

    def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self, kind: str = "text/event-stream", **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def break_down(self) -> None:
        page = f'<html><pre>Traceback (most recent call last):\n File "/srv/app/main.py", line 7\n{self.headers}</pre>'
        self.reply(500, page.encode(), "text/html")

    def bad(self, data: bytes) -> None:
        """Commit all sins that one endpoint can commit at once."""
        if self.server.is_jammed:
            return self.reply(503, b"jammed", "text/plain")
        try:
            body = json.loads(data)
        except ValueError:
            return self.break_down()
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list):
            return self.say([event(b"thinking...")])
        content = messages[0]["content"]
        if isinstance(content, list) and len(content) > 1:
            return self.break_down()
        if "turn_id" in body or isinstance(content, list) or any(m.get("role") == "tool" for m in messages[1:]):
            return self.reply(422, b'{"detail":"unprocessable"}')
        odd = "doctor_unknown_field" in body or "params" in body or body.get("stream") is False
        if odd or content == "" or messages[-1]["role"] == "assistant":
            return self.break_down()
        if "two hundred" in content:
            return self.never_stop()
        if "tools" in body:
            call = {"index": 1, "function": {"name": "other", "arguments": "{"}}
            return self.say([event(chunk({"tool_calls": [call]})), event(chunk({}, "stop"))])
        if self.server.slow_answers:
            self.server.slow_answers -= 1
            time.sleep(SLOW_S)
        return self.say(self.sins())

    def sins(self) -> list[bytes]:
        usage = {"total_tokens": 1}
        said = [b"event: message\nid: 7\n" + event(b"thinking...")]
        for place, word in enumerate(_WORDS):
            each = chunk({"content": word + " "}, id=f"{place}", usage=usage, created=place, model=f"m{place}")
            each["choices"][0]["index"] = place
            said.append(event(each))
        said.append(event({"id": "x", "choices": [{"index": 0, "delta": {}}]}))
        return said

    def say(self, events: list[bytes]) -> None:
        self.begin("text/plain", Content_Encoding="gzip")
        self.wfile.write(gzip.compress(b"".join(events)))

    def never_stop(self) -> None:
        self.server.open += 1
        self.server.is_jammed = True
        self.begin()
        self.wfile.write(event(chunk({"role": "assistant", "content": "One, "})))

    def mute(self, data: bytes) -> None:
        """Keep all rules, and say nothing."""
        self.begin(Cache_Control="no-cache", X_Accel_Buffering="no", X_Request_Id="r")
        self.wfile.write(
            event(chunk({"role": "assistant", "content": ""})) + event(chunk({}, "stop")) + event(b"[DONE]")
        )

    def teapot(self, data: bytes) -> None:
        """Refuse everything, in good form."""
        error = {"message": "I am a teapot.", "type": "teapot", "param": None, "code": None}
        self.reply(418, json.dumps({"error": error}).encode())

    def silent(self, data: bytes) -> None:
        """Take everything, and answer nothing until the caller has gone."""
        self.connection.recv(1)

    def slow(self, data: bytes) -> None:
        """Open the stream at once, and begin to speak late."""
        self.begin()
        self.wfile.write(b": wait\n\n")
        if self.server.late_answers:
            self.server.late_answers -= 1
            time.sleep(self.server.late_s)
        self.wfile.write(event(chunk({"role": "assistant", "content": "Hello."})))
        self.wfile.write(event(chunk({}, "stop")) + event(b"[DONE]"))

    def noise(self, data: bytes) -> None:
        """Send sound that can't be played."""
        self.begin()
        for place in range(4):
            words = [{"text": f"w{place}", "start_ts": 9000 - place, "end_ts": 9010, "duration": 1}]
            sound = {"id": f"s{place}", "data": base64.b64encode(bytes(101)).decode(), "words": words}
            self.wfile.write(event(chunk({"role": "assistant", "audio": sound})))
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(event(chunk({}, "stop")) + event(b"[DONE]"))

    def odd(self, data: bytes) -> None:
        """Put one odd value into each place of an answer."""
        value = ODD[int(self.path.split("/")[-1])]
        if b'"stream": true' not in data:
            choices = [{"message": value, "finish_reason": value}]
            whole = {"object": "chat.completion", "choices": value if b"stream" in data else choices, "error": value}
            return self.reply(200 if data.startswith(b'{"model"') else 400, json.dumps(whole).encode())
        self.begin()
        for each in self.oddities(value):
            self.wfile.write(event(each))
        self.wfile.write(event(b"[" * 100_000) + event(b"[DONE]"))

    def oddities(self, value: Any) -> Iterator[Any]:
        def odd(delta: Any) -> dict[str, Any]:
            choices = [{"index": value, "delta": delta, "finish_reason": value}]
            return {**dict.fromkeys(("id", "object", "created", "model", "usage"), value), "choices": choices}

        word = {"text": "a", "start_ts": value, "end_ts": value, "duration": value}
        yield from (value, {"choices": value}, {"choices": [value]}, odd(value))
        yield odd(dict.fromkeys(("role", "content", "tool_calls", "audio"), value))
        yield odd({"tool_calls": [value, {"index": 0, "id": value, "function": value}]})
        yield odd({"tool_calls": [{"index": 0, "function": {"name": value, "arguments": value}}]})
        yield odd({"audio": dict.fromkeys(("id", "data", "transcript", "words"), value)})
        yield odd({"audio": {"data": "AAA=", "words": [word, {**word, "text": value}, value]}})

    def well(self, data: bytes) -> None:
        """Speak as the engine wants it spoken: a second of sound, with the times of its words."""
        try:
            asked = json.loads(data)
            last = asked["messages"][-1]
        except (ValueError, KeyError, TypeError):
            return self.refuse(400, "The request can't be understood.")
        if self.headers["Authorization"] != f"Bearer {WELL_KEY}":
            return self.refuse(401, "The key is wrong.")
        if isinstance(last, str):
            return self.refuse(400, "messages: a list is needed.")
        said = last["content"] if last["role"] == "assistant" else "I can tell you the time."
        if not asked.get("stream"):
            audio = {"id": "s", "data": base64.b64encode(_TONE).decode(), "transcript": said, "expires_at": 1}
            choice = {"index": 0, "message": {"role": "assistant", "audio": audio}, "finish_reason": "stop"}
            return self.reply(200, json.dumps({"object": "chat.completion", "choices": [choice]}).encode())
        self.begin(Cache_Control="no-cache", X_Accel_Buffering="no", X_Request_Id="r")
        for each in self.speech(said if last["content"] else "", f"id{next(self.server.numbers)}"):
            self.wfile.write(event(each))
        self.wfile.write(event(b"[DONE]"))
        return None

    def refuse(self, status: int, message: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        self.reply(status, json.dumps({"error": error}).encode())

    def speech(self, said: str, id: str) -> Iterator[dict[str, Any]]:
        yield chunk({"role": "assistant", "content": ""}, id=id)
        if said:
            words = [
                {"text": word, "start_ts": 100 * place, "end_ts": 100 * place + 90, "duration": 90}
                for place, word in enumerate(said.split())
            ]
            yield chunk({"audio": {"id": "s", "transcript": said, "words": words}}, id=id)
            for _ in range(25):
                yield chunk({"audio": {"data": base64.b64encode(_TONE).decode()}}, id=id)
        yield chunk({}, "stop", id=id)


@contextmanager
def bad_server() -> Iterator[BadServer]:
    """Run the bad server."""
    server = BadServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
