"""Connections to an upstream: made, kept and handed out again."""

import base64
import contextlib
import socket
import ssl
import time
from collections import deque
from urllib.parse import SplitResult, unquote, urlsplit

from protocol.errors import UpstreamRefused, UpstreamTimeout
from upstream.http1 import MalformedResponse, ResponseParser, request_head

READ_SIZE = 64 * 1024
"""Bytes of a read: more than a TLS record has, so that none wait in TLS's own buffer, which no poll sees."""
IDLE_S = 55.0
"""How long a connection is kept unused: many servers and load balancers drop theirs after a minute."""


class Connection:
    """One connection, with the parser of the response that was last read from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.parser = ResponseParser()
        self.used = False
        self.idle_since = 0.0

    def send(self, data: bytes, within_s: float) -> None:
        """Send a whole request; raise OSError."""
        sent = 0
        with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = self.sock.send(data)
        if sent < len(data):
            self.sock.settimeout(within_s)
            self.sock.sendall(memoryview(data)[sent:])
            self.sock.settimeout(0.0)

    def recv(self) -> bytes | None:
        """Return what has arrived, b"" at the peer's end, None where nothing is there; raise OSError."""
        try:
            return self.sock.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None

    def is_fit(self) -> bool | None:
        """Tell whether another request can be sent, None if not yet: the end of the last response is still to come."""
        try:
            while (data := self.recv()) is not None:
                if not data or self.parser.complete:
                    return False
                self.parser.feed(data)
        except (OSError, MalformedResponse):
            return False
        return self.parser.reusable if self.parser.complete else None

    def close(self) -> None:
        """Close it, so that the peer sees the end at once."""
        self.sock.close()


class Route:
    """The way to one origin, straight or through an HTTP proxy, and the connections kept to it.

    `origin` is scheme and host of the upstream's URL, `proxy` an `http://` URL, perhaps with a name and password.
    """

    def __init__(self, origin: SplitResult, proxy: str | None, tls: ssl.SSLContext) -> None:
        self._secure = origin.scheme == "https"
        self._host = origin.hostname or ""
        self._port = origin.port or (443 if self._secure else 80)
        self._tls = tls
        self._proxy = urlsplit(proxy) if proxy else None
        self._idle: deque[Connection] = deque()
        # a proxy that does not tunnel must be told the whole address, and who asks
        self.target_prefix = f"{origin.scheme}://{origin.netloc}" if proxy and not self._secure else ""
        self.headers = self._proxy_headers() if self.target_prefix else {}

    def _proxy_headers(self) -> dict[str, str]:
        if not self._proxy or self._proxy.username is None:
            return {}
        credentials = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
        return {"Proxy-Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}

    def take(self, connect_s: float) -> Connection:
        """Return a kept connection or a new one; raise UpstreamRefused or UpstreamTimeout."""
        ending: list[Connection] = []
        found = None
        while self._idle and not found:
            connection = self._idle.pop()
            fit = connection.is_fit()
            if fit:
                found = connection
            elif fit is None:
                ending.append(connection)
            else:
                connection.close()
        self._idle.extend(reversed(ending))
        if not found:
            return self.connect(connect_s)
        found.used = True
        return found

    def keep(self, connection: Connection) -> None:
        """Keep a connection whose response has ended, or is ending, for the next request."""
        now = connection.idle_since = time.monotonic()
        self._idle.append(connection)
        while self._idle and self._idle[0].idle_since < now - IDLE_S:
            self._idle.popleft().close()

    def connect(self, connect_s: float) -> Connection:
        """Make a new connection within so many seconds; raise UpstreamRefused or UpstreamTimeout."""
        until = time.monotonic() + connect_s
        peer = (self._proxy.hostname or "", self._proxy.port or 80) if self._proxy else (self._host, self._port)
        sock = None
        try:
            sock = socket.create_connection(peer, connect_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(max(0.001, until - time.monotonic()))
            if self._proxy and self._secure:
                self._tunnel(sock)
            if self._secure:
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
            sock.settimeout(0.0)
        except (OSError, ValueError) as error:
            if sock is not None:
                sock.close()
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout(
                    "The language model could not be reached in time.", code="upstream_timeout", detail=_why(error)
                ) from None
            raise UpstreamRefused(
                "The language model could not be reached.", code="upstream_unreachable", detail=_why(error)
            ) from None
        return Connection(sock)

    def _tunnel(self, sock: socket.socket) -> None:
        peer = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        sock.sendall(request_head("CONNECT", peer, {"Host": peer, **self._proxy_headers()}))
        parser = ResponseParser()
        while not parser.has_head:
            # byte by byte: what follows the head belongs to TLS
            if not (byte := sock.recv(1)):
                raise OSError("the proxy closed the connection")
            parser.feed(byte)
        if parser.status != 200:
            raise OSError(f"the proxy answered CONNECT with {parser.status}")

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._idle:
            self._idle.pop().close()


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
