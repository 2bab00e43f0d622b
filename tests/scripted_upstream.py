"""A real upstream that says, byte for byte, what a test wants it to say."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Step = bytes | float | str
"""Bytes to send; seconds to wait; `hold` until the peer closes, `close`, or `reset` the connection."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSING_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a well-formed chunk."""
    choices = [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish_reason}]
    return {
        "id": "chatcmpl-up",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "up-1",
        "choices": choices,
        **more,
    }


def event(data: Any) -> bytes:
    """Write one event."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()) + b"\n\n"


def framed(data: bytes) -> bytes:
    """Write one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def again(times: int, *steps: Step) -> list[Step]:
    """Repeat these steps."""
    return [*steps] * times


ROLE = chunk({"role": "assistant", "content": ""})
STOP = chunk({}, "stop")
SPOKEN = chunk({"content": "Hello"})
BEGUN = HEAD + framed(event(ROLE) + event(SPOKEN))
"""A good stream's first half."""
REST = framed(event(STOP) + DONE) + END
"""A good stream's second half."""


def answer(*texts: str, usage: dict[str, int] | None = None) -> list[Step]:
    """Script a good streamed answer, each text in a chunk and a write of its own."""
    datas = [ROLE, *(chunk({"content": text}) for text in texts), STOP]
    steps: list[Step] = [HEAD, *(framed(event(data)) for data in datas)]
    if usage:
        steps.append(framed(event(chunk(usage=usage, choices=[]))))
    # in one write: a connection whose end is still on its way is not used again yet
    return [*steps, framed(DONE) + END]


def stream(*events: Any, done: bool = True) -> list[Step]:
    """Script a stream of these events: dicts, or the data of an event as bytes."""
    body = b"".join(event(each) for each in events) + (DONE if done else b"")
    return [HEAD + framed(body) + END]


def raw_stream(body: bytes) -> list[Step]:
    """Script a stream with exactly this body, which ends with the connection."""
    return [CLOSING_HEAD + body, "close"]


def reply(status: int, body: Any, content_type: str = "application/json", **headers: str) -> list[Step]:
    """Script a plain response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + data]


COMPLETION = {
    "id": "chatcmpl-up",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "up-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


@dataclass
class Asked:
    """One request as the upstream got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any
    connection: int
    dropped_at: float | None = field(default=None)
    is_played: bool = field(default=False)


class ScriptedUpstream:
    """A threaded server on a loopback port; `scripts` are played one a request, the last one again and again.

    With `tls` it is an https server; with `host` "::1" it has an IPv6 address.
    """

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port = self.listener.getsockname()[1]
        self.tls = tls
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{self.port}/v1"
        self.asked: list[Asked] = []
        self.scripts: list[list[Step]] = [answer("Hello.")]
        self.judge: Callable[[Asked], list[Step] | None] = lambda asked: None
        """Gives another script than the next one to requests that are to be treated otherwise; `say` forgets it."""
        self.connections = 0
        self.changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, *scripts: list[Step]) -> None:
        """Play these scripts from now on, forgetting what was asked before."""
        with self.changed:
            self.scripts = list(scripts)
            self.judge = lambda asked: None
            self.asked.clear()

    def wait_for(self, count: int, timeout: float = 5.0) -> Asked:
        """Return the request with that number, from 1, when it has come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= count, timeout), "the upstream was not asked"
            return self.asked[count - 1]

    def wait_for_drop(self, asked: Asked, timeout: float = 5.0) -> float:
        """Return when (time.monotonic) the connection of a held request was closed by its client."""
        with self.changed:
            assert self.changed.wait_for(lambda: asked.dropped_at is not None, timeout), "the connection was kept open"
            assert asked.dropped_at is not None
            return asked.dropped_at

    def wait_until_played(self, asked: Asked, timeout: float = 5.0) -> None:
        """Wait until the whole script of a request has been sent."""
        with self.changed:
            assert self.changed.wait_for(lambda: asked.is_played, timeout), "the script was not played to its end"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rb") as reader:
                while asked := self._read(reader, number):
                    with self.changed:
                        self.asked.append(asked)
                        script = self.judge(asked)
                        if script is None:
                            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                        self.changed.notify_all()
                    if not self._play(sock, script, asked):
                        return
                    with self.changed:
                        asked.is_played = True
                        self.changed.notify_all()
        except OSError:
            pass

    def _read(self, reader: Any, number: int) -> Asked | None:
        line = reader.readline()
        if not line:
            return None
        method, target, _ = line.decode().split(" ", 2)
        headers = {}
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        data = reader.read(int(headers.get("content-length", 0)))
        return Asked(method, target, headers, json.loads(data) if data else None, number)

    def _play(self, sock: socket.socket, script: list[Step], asked: Asked) -> bool:
        for step in script:
            if isinstance(step, bytes):
                try:
                    sock.sendall(step)
                except OSError:
                    self._note_drop(asked)
                    return False
            elif isinstance(step, float):
                sock.settimeout(step)
                try:
                    if not sock.recv(1, socket.MSG_PEEK):
                        self._note_drop(asked)
                        return False
                except TimeoutError:
                    pass
                except OSError:
                    self._note_drop(asked)
                    return False
                finally:
                    sock.settimeout(None)
            elif step == "hold":
                with suppress(OSError):
                    sock.recv(1)
                self._note_drop(asked)
                return False
            elif step == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            elif step == "close":
                return False
        return True

    def _note_drop(self, asked: Asked) -> None:
        with self.changed:
            asked.dropped_at = time.monotonic()
            self.changed.notify_all()

    def close(self) -> None:
        """Stop listening."""
        self.listener.close()


@contextmanager
def scripted_upstream(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[ScriptedUpstream]:
    """Run a scripted upstream."""
    upstream = ScriptedUpstream(host, tls)
    try:
        yield upstream
    finally:
        upstream.close()
