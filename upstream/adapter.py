"""A transport for requests' Session that reads what is there, when it is there.

requests' own goes through urllib3 and http.client, which take three quarters of a short answer's CPU and build a
timer for each read. This one is mounted the same way (https://requests.readthedocs.io/en/latest/user/advanced/#transport-adapters)
and does for one kind of request, a POST or GET with a body of known length, what a relay needs.
"""

import ssl
import time
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any
from urllib.parse import urlsplit

import certifi
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from protocol.errors import Failure, UpstreamBroken, UpstreamTimeout
from upstream.connection import Connection, Route
from upstream.http1 import MalformedResponse, ResponseParser, request_head
from upstream.waits import Waits


class StaleConnection(UpstreamBroken):
    """Report that a kept connection was closed before a byte of the answer came: nothing was asked."""


class Exchange:
    """The response to one request as it comes: what `Response.raw` is here."""

    def __init__(self, response: Response, route: Route, connection: Connection, waits: Waits) -> None:
        self._response = response
        self._route = route
        self._connection: Connection | None = connection
        self._parser = connection.parser = ResponseParser()
        self._waits = waits
        self._ready = b""
        self._heard = False
        self.read_s: float | None = None  # what `read` and `stream` wait for each read

    def send(self, data: bytes) -> None:
        """Send the request; raise StaleConnection, UpstreamBroken or UpstreamTimeout."""
        assert self._connection
        try:
            self._connection.send(data, self._waits.send_s)
        except TimeoutError:
            raise UpstreamTimeout("The language model did not take the request.", code="upstream_timeout") from None
        except OSError as error:
            raise self._cut_off(error) from None

    def head(self, until: float = inf) -> bool:
        """Wait for status and headers, and tell whether they are there by then; raise UpstreamBroken."""
        while not self._parser.has_head:
            data = self._recv(until)
            if data is None:
                return False
            self._ready += data
        if self._response.status_code is None:
            self._response.status_code = self._parser.status
            self._response.reason = self._parser.reason
            self._response.headers = CaseInsensitiveDict(self._parser.headers)
        return True

    def read1(self, until: float = inf) -> bytes | None:
        """Return the next bytes of the body as soon as there are any, b"" at its end, None if none came by then.

        Raises UpstreamBroken where the connection was cut, or what came is no HTTP.
        """
        if self._ready:
            ready, self._ready = self._ready, b""
            return ready
        while not self._parser.complete:
            data = self._recv(until)
            if data is None or data:
                return data
        self.close()
        return b""

    def _recv(self, until: float) -> bytes | None:
        """Return what the next bytes bring of the body (perhaps nothing), None if none came by then."""
        connection = self._connection
        if connection is None:
            raise UpstreamBroken("The language model's answer was closed.", code="upstream_broken")
        if not self._waits.readable(connection.sock, until):
            return None
        try:
            data = connection.recv()
            if data:
                self._heard = True
                return self._parser.feed(data)
            if data is None:
                return b""
            self._parser.eof()
        except (OSError, MalformedResponse) as error:
            broken = self._cut_off(error)
            self._release(keep=False)
            raise broken from None
        return b""

    def _cut_off(self, error: Exception) -> UpstreamBroken:
        said, detail = "The language model's answer was cut off.", str(error)
        if self._connection and self._connection.used and not self._heard:
            # the others that are kept are as old, and would fail one after another
            self._route.close()
            return StaleConnection(said, code="upstream_broken", detail=detail)
        return UpstreamBroken(said, code="upstream_broken", detail=detail)

    def read(self, amt: int | None = None, decode_content: bool = True) -> bytes:
        """Return the next bytes of the body, or with no amount all of it; raise UpstreamTimeout."""
        return b"".join(self.stream()) if amt is None else self._next()

    def stream(self, amt: int | None = None, decode_content: bool = True) -> Iterator[bytes]:
        """Yield the body as it comes; raise UpstreamTimeout."""
        while block := self._next():
            yield block

    def _next(self) -> bytes:
        block = self.read1(inf if self.read_s is None else time.monotonic() + self.read_s)
        if block is None:
            self._release(keep=False)
            raise UpstreamTimeout("The answer came to a stop.", code="upstream_timeout")
        return block

    def close(self) -> None:
        """Keep the connection if the response has ended well, else close it."""
        self._release(keep=self._parser.complete and self._parser.reusable)

    def settle(self) -> None:
        """Keep the connection though the end of the response may not have come yet: its last event has."""
        self._release(keep=self._parser.reusable)

    def _release(self, keep: bool) -> None:
        connection, self._connection = self._connection, None
        if connection:
            self._waits.forget(connection.sock)
            if keep:
                self._route.keep(connection)
            else:
                connection.close()

    release_conn = close


class LazyResponse(Response):
    """A response whose head may still be on its way.

    Cookies are neither kept nor sent: one caller's would go out with the next one's request.
    """

    def __init__(self, request: PreparedRequest) -> None:
        # requests' own makes a cookie jar with a lock for each response, a tenth of a short answer's CPU
        self.__dict__.update(_EMPTY_RESPONSE)
        self.history = []
        self.request = request
        self.url = request.url or ""


_EMPTY_RESPONSE = Response().__dict__


class UpstreamAdapter(BaseAdapter):
    """Send requests over connections that are kept, and hand back each response before its head has come.

    `timeout` may be a Waits: then status and headers of the response are None until `response.raw.head()`. With
    requests' own kinds of it the head is waited for. Redirects are the Session's to follow, and ours never does.
    """

    def __init__(self, proxies: Mapping[str, str] | None = None, ca_file: str | None = None) -> None:
        super().__init__()
        self._proxies = dict(proxies or {})
        # one context for all: each of its own would load the CA bundle anew, 20 ms of CPU
        self._tls = ssl.create_default_context(cafile=ca_file or certifi.where())
        self._tls.set_alpn_protocols(["http/1.1"])
        self._routes: dict[str, Route] = {}

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request; raise UpstreamRefused, StaleConnection or UpstreamBroken."""
        assert request.url and request.method
        url = urlsplit(request.url)
        route = self._route(f"{url.scheme}://{url.netloc}")
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        length = {"Content-Length": str(len(body))} if body else {}
        waits = timeout if isinstance(timeout, Waits) else Waits(_connect_s(timeout))
        head = request_head(
            request.method,
            route.target_prefix + (url.path or "/") + (f"?{url.query}" if url.query else ""),
            {"Host": url.netloc.rpartition("@")[2], **request.headers, **route.headers, **length},
        )
        began = time.monotonic()
        try:
            connection = route.take(waits.connect_s)
        finally:
            waits.waited_s += time.monotonic() - began
        response = LazyResponse(request)
        exchange = Exchange(response, route, connection, waits)
        response.raw = exchange
        try:
            exchange.send(head + body)
            if waits is not timeout:
                _await_head(exchange, timeout)
        except Failure:
            exchange.close()
            raise
        return response

    def _route(self, origin: str) -> Route:
        route = self._routes.get(origin)
        if route is None:
            parts = urlsplit(origin)
            route = self._routes[origin] = Route(parts, self._proxies.get(parts.scheme), self._tls)
        return route

    def close(self) -> None:
        """Close all connections that are kept."""
        for route in self._routes.values():
            route.close()


def _connect_s(timeout: Any) -> float:
    connect = timeout[0] if isinstance(timeout, tuple) else timeout
    return 3.0 if connect is None else float(connect)


def _await_head(exchange: Exchange, timeout: Any) -> None:
    exchange.read_s = timeout[1] if isinstance(timeout, tuple) else timeout
    if not exchange.head(inf if exchange.read_s is None else time.monotonic() + exchange.read_s):
        raise UpstreamTimeout("No answer came in time.", code="upstream_timeout")
