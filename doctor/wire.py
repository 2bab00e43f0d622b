"""One request and all that came back, with the moment of each piece."""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import certifi

from doctor.target import Target
from upstream.http1 import MalformedResponse, ResponseParser, request_head

CONNECT_S = 5.0
FIRST_S = 10.0
"""Seconds after which an answer that has not begun is a failure, by the engine's own figure."""
WHOLE_S = 30.0
BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer that are looked at."""

_READ_SIZE = 64 * 1024
Shown = Literal["own", "none", "wrong"]
"""Which key a request shows."""
WRONG_KEY = "doctor-shows-a-wrong-key"


@dataclass
class Heard:
    """One answer. Times are seconds since the request had been sent; `trouble` says why there is no whole answer.

    `status` is 0 where no answer came; header names are in lower case. `was_left` says that we closed the connection.
    """

    began: float = 0.0
    connect_s: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended_s: float | None = None
    trouble: str = ""
    tls_trouble: str = ""
    certificate_ends: float | None = None  # seconds of time.time()
    was_left: bool = False

    @property
    def body(self) -> bytes:
        """Return what came of the body."""
        return b"".join(data for _, data in self.pieces)

    @property
    def kind(self) -> str:
        """Return the content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def ask(
    target: Target,
    body: bytes | None,
    until: float,
    *,
    shown: Shown = "own",
    first_s: float = FIRST_S,
    leave: Callable[[Heard], bool] | None = None,
) -> Heard:
    """Post a body (or GET, without one) over a connection of its own, and hear the answer to its end.

    Nothing is raised: what goes wrong is in `trouble`. `until` is a moment of `time.monotonic()`, `first_s` how
    long to wait for a first byte. After each piece `leave` may say that the connection is to be closed.
    """
    heard = Heard()
    start = time.monotonic()
    until = min(until, start + WHOLE_S)
    try:
        sock = _connect(target, heard, min(until, start + CONNECT_S))
    except (OSError, ValueError) as error:
        heard.trouble = heard.trouble or _why(error)
        return heard
    with sock:
        heard.connect_s = time.monotonic() - start
        try:
            sock.settimeout(max(0.01, until - time.monotonic()))
            sock.sendall(_head(target, body, shown) + (body or b""))
            heard.began = time.monotonic()
            _listen(sock, heard, until, first_s, leave)
        except TimeoutError:
            heard.trouble = "it did not end in time" if heard.status else f"no answer within {first_s:g} s"
        except MalformedResponse as error:
            heard.trouble = f"no HTTP: {error}"
        except OSError as error:
            heard.trouble = _why(error)
    return heard


def _connect(target: Target, heard: Heard, until: float) -> socket.socket:
    sock = socket.create_connection((target.host, target.port), max(0.01, until - time.monotonic()))
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.is_secure:
            sock.settimeout(max(0.01, until - time.monotonic()))
            context = ssl.create_default_context(cafile=target.ca_file or certifi.where())
            context.set_alpn_protocols(["http/1.1"])
            sock = secure = context.wrap_socket(sock, server_hostname=target.host)
            ends = (secure.getpeercert() or {}).get("notAfter")
            heard.certificate_ends = ssl.cert_time_to_seconds(str(ends)) if ends else None
    except (OSError, ValueError) as error:
        sock.close()
        if isinstance(error, ssl.SSLError):
            heard.tls_trouble = heard.trouble = _why(error)
        raise
    return sock


def _head(target: Target, body: bytes | None, shown: Shown) -> bytes:
    headers = {
        "Host": target.url.netloc.rpartition("@")[2],
        "User-Agent": "custom-llm-doctor",
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "close",
        **target.headers,
    }
    if shown == "wrong" or (shown == "own" and target.key):
        headers["Authorization"] = f"Bearer {WRONG_KEY if shown == 'wrong' else target.key}"
    if body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return request_head("GET" if body is None else "POST", target.path, headers)


def _listen(
    sock: socket.socket, heard: Heard, until: float, first_s: float, leave: Callable[[Heard], bool] | None
) -> None:
    parser = ResponseParser()
    size = 0
    while not parser.complete:
        last = until if heard.pieces else min(until, heard.began + first_s)
        left = last - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        data = sock.recv(_READ_SIZE)
        at = time.monotonic() - heard.began
        piece = parser.feed(data) if data else b""
        if parser.has_head and not heard.status:
            heard.status, heard.headers = parser.status, parser.headers
        if not data:
            parser.eof()
        if piece:
            heard.pieces.append((at, piece))
            size += len(piece)
            if size > BODY_LIMIT:
                raise MalformedResponse("the answer has no end")
        if leave and piece and leave(heard):
            heard.was_left = True
            return
    heard.ended_s = time.monotonic() - heard.began


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is unknown (DNS)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_S:.0f} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
