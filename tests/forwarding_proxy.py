"""A real HTTP proxy, small enough to be read: it forwards requests in absolute form, and tunnels with CONNECT."""

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass
class Passed:
    """The head of one request to the proxy."""

    method: str
    target: str
    headers: dict[str, str]


class ForwardingProxy:
    """A threaded proxy on a loopback port that connects everything to one port, whatever name it is asked for.

    With `credentials` ("name:password") it answers 407 to who shows none; with `refuses` a CONNECT gets a 403.
    """

    def __init__(self, to: int, credentials: str | None = None, refuses: bool = False) -> None:
        self._to = to
        self._wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else None
        self._refuses = refuses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://{f'{credentials}@' if credentials else ''}127.0.0.1:{self._listener.getsockname()[1]}"
        self.passed: list[Passed] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), ExitStack() as open_ones, client, client.makefile("rb") as reader:
            upstream = None
            while passed := self._read(reader):
                self.passed.append(passed)
                if self._wanted and passed.headers.get("proxy-authorization") != self._wanted:
                    client.sendall(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n")
                    return
                if passed.method == "CONNECT" and self._refuses:
                    client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    return
                if upstream is None:
                    upstream = open_ones.enter_context(socket.create_connection(("127.0.0.1", self._to)))
                    threading.Thread(target=_pump, args=(upstream, client), daemon=True).start()
                if passed.method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    _pump(client, upstream)
                    return
                self._forward(passed, reader.read(int(passed.headers.get("content-length", 0))), upstream)

    def _read(self, reader: Any) -> Passed | None:
        line = reader.readline().decode()
        if not line:
            return None
        method, target, _ = line.split(" ")
        headers = {}
        while (line := reader.readline().decode()) not in ("\r\n", ""):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Passed(method, target, headers)

    def _forward(self, passed: Passed, body: bytes, upstream: socket.socket) -> None:
        path = "/" + passed.target.split("/", 3)[3]
        kept = {name: value for name, value in passed.headers.items() if name != "proxy-authorization"}
        head = "\r\n".join([f"{passed.method} {path} HTTP/1.1", *(f"{name}: {kept[name]}" for name in kept)])
        upstream.sendall(head.encode() + b"\r\n\r\n" + body)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def forwarding_proxy(to: int, credentials: str | None = None, refuses: bool = False) -> Iterator[ForwardingProxy]:
    """Run a proxy."""
    proxy = ForwardingProxy(to, credentials, refuses)
    try:
        yield proxy
    finally:
        proxy.close()
