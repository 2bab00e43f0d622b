"""The real server as a subprocess, and a client that shows what came over the wire and when."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GUNICORN = (sys.executable, "-m", "gunicorn", "wsgi:app")
FLASK = (sys.executable, "-m", "flask", "--app", "app", "run")
DEV = (sys.executable, "app.py")
KEY = "sk-server-canary"
"""The key of the shared servers, which must never show up in anything that they say."""
HELLO = [{"role": "user", "content": "Hello!"}]

_HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}


def turn(**changes: Any) -> dict[str, Any]:
    """Return the body of a streamed hello, with these changes; None takes a field out."""
    body = {"model": "m", "stream": True, "messages": HELLO, **changes}
    return {name: value for name, value in body.items() if value is not None}


def read_until(sock: socket.socket, heard: bytes) -> bytes:
    """Read until this has come, and return all that has."""
    got = b""
    while heard not in got:
        data = sock.recv(65536)
        assert data, got
        got += data
    return got


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(**settings: Any) -> dict[str, str]:
    """Return an environment without proxies, keys and the developer's own `.env`."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if key in os.environ}
    # flask's own command would read a `.env` of the working directory
    ours = {"ENV_FILE": os.devnull, "FLASK_SKIP_DOTENV": "1"}
    return kept | ours | {key: str(value) for key, value in settings.items()}


class Answer:
    """A response that was read to its end."""

    def __init__(self, response: http.client.HTTPResponse, body: bytes, cut: bool) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body
        self.cut = cut

    @property
    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)

    @property
    def datas(self) -> list[str]:
        """Return the data of each event, after a look at the framing: `data:` lines and comments, nothing else."""
        events = self.body.decode().split("\n\n")
        assert events.pop() == "", "the stream ends in the middle of an event"
        assert all(event.startswith((": ", "data: ")) and "\n" not in event for event in events), events
        return [event.removeprefix("data: ") for event in events if event.startswith("data: ")]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """Return the JSON of each event but the [DONE], which must be the last."""
        assert not self.cut
        *datas, done = self.datas
        assert done == "[DONE]"
        return [json.loads(data) for data in datas]

    @property
    def text(self) -> str:
        """Return the text that the chunks say."""
        return "".join(
            choice["delta"].get("content") or "" for chunk in self.chunks for choice in chunk.get("choices", ())
        )

    @property
    def finish_reasons(self) -> list[str]:
        """Return the finish reasons."""
        found = (choice["finish_reason"] for chunk in self.chunks for choice in chunk.get("choices", ()))
        return [reason for reason in found if reason]


class RunningServer:
    """One server process tree on a loopback port."""

    def __init__(self, command: tuple[str, ...], settings: dict[str, Any], cwd: Path = ROOT) -> None:
        self.port = int(settings.get("PORT") or free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        # what a server leaves behind when it is killed goes with its folder
        self._folder = tempfile.mkdtemp(prefix="server-")
        number, self._log = tempfile.mkstemp(dir=self._folder, suffix=".log")
        self._said: str | None = None  # all of the log, once the server has ended
        ours = {"HOST": "127.0.0.1", "PORT": self.port, "TMPDIR": self._folder, "DRAIN_S": 0}
        self.environment = environment = clean_environment(**{**ours, **settings})
        if "flask" in command:
            command = (*command, "--port", str(self.port))
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=number, stderr=number, start_new_session=True
        )
        os.close(number)

    @property
    def log(self) -> str:
        """Return all that the server has written."""
        return Path(self._log).read_text() if self._said is None else self._said

    def wait_until_ready(self) -> None:
        """Wait for /health."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server exited:\n{self.log}"
            try:
                if self.get("/health").status == 200:
                    return
            except OSError:
                time.sleep(0.03)
        raise AssertionError(f"the server does not answer:\n{self.log}")

    def wait_for_log(self, text: str, timeout: float = 5.0) -> str:
        """Return the first line of the log that holds this text."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for line in self.log.splitlines(keepends=True):
                if text in line and line.endswith("\n"):  # the rest of it may still be on its way
                    return line.removesuffix("\n")
            time.sleep(0.01)
        raise AssertionError(f"{text!r} is not in the log:\n{self.log}")

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request and read the answer to its end."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            try:
                return Answer(response, response.read(), cut=False)
            except http.client.IncompleteRead as error:
                return Answer(response, error.partial, cut=True)
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET a path."""
        return self.request("GET", path, None, {"Authorization": f"Bearer {KEY}", **(headers or {})})

    def ask(self, body: Any = None, path: str = "/chat/completions", headers: dict[str, str] | None = None) -> Answer:
        """Post a turn: a whole body, or by default a streamed hello."""
        body = {"model": "m", "stream": True, "messages": HELLO} if body is None else body
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, {**_HEADERS, **(headers or {})})

    def open(self, body: Any = None, path: str = "/chat/completions", headers: dict[str, str] | None = None) -> Any:
        """Post a turn and return the bare socket."""
        body = {"model": "m", "stream": True, "messages": HELLO} if body is None else body
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in {**_HEADERS, **(headers or {})}.items()]
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        return sock

    def stop(self, timeout: float = 15) -> int:
        """End the server in good order and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """End the server at once, workers and all."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._said is None:
            self._said = self.log
            shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def running_server(*command: str, cwd: Path = ROOT, **settings: Any) -> Iterator[RunningServer]:
    """Run the server, under gunicorn where no other command is given, with these settings and no others."""
    server = RunningServer(command or GUNICORN, settings, cwd)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()
