"""gunicorn's gevent worker, with a response that costs one system call a block.

gunicorn's own asks for the socket's buffer size before each write and sends head and body apart.
"""

import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gevent import GreenletExit, Timeout, getcurrent
from gunicorn.http import errors, wsgi
from gunicorn.workers.ggevent import GeventWorker

from protocol.errors import BadRequest, Failure, ServerError, error_json
from turns.record import Record

log = logging.getLogger("custom_llm")

_STATUSES: dict[type, int] = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.ForbiddenProxyRequest: 403,
    errors.UnsupportedTransferCoding: 501,
}


class BlockResponse(wsgi.Response):
    """A response whose every block is one write, the first together with the head."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""
        self.headers_sent = False

    def default_headers(self) -> list[str]:
        """Return the status line and the headers that every response has."""
        lines = [
            f"HTTP/{self.req.version[0]}.{self.req.version[1]} {self.status}\r\n",
            f"Server: gunicorn\r\nDate: {_date(int(time.time()))}\r\n",
            "Connection: close\r\n" if self.should_close() else "Connection: keep-alive\r\n",
        ]
        return [*lines, "Transfer-Encoding: chunked\r\n"] if self.chunked else lines

    def send_headers(self) -> None:
        """Hold the head until there is something to send with it."""
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def write(self, arg: bytes) -> None:
        """Send a block."""
        if self.chunked and self.headers_sent and not self._head:
            if arg:
                self._send(b"%x\r\n%s\r\n" % (len(arg), arg))
        else:
            super().write(arg)

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%s%x\r\n%s\r\n" % (self._head, len(data), data)
        elif self._head:
            data = self._head + data
        self._head = b""
        self._send(data)

    def close(self) -> None:
        """End the response."""
        self.send_headers()
        end = self._head + (b"0\r\n\r\n" if self.chunked else b"")
        self._head = b""
        if end:
            self._send(end)

    def _send(self, data: bytes) -> None:
        sent = self.sock.send(data)
        if sent < len(data):
            self.sock.sendall(memoryview(data)[sent:])


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    """Write an HTTP date once a second, not once a response."""
    return formatdate(second, usegmt=True)


class Worker(GeventWorker):
    """Serve WSGI requests, each in a greenlet."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: set[Any] = set()  # the greenlets that wait for a next request
        # gunicorn looks some thirty settings up for each request, in two calls each
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})

    @contextlib.contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for a connection's next request as long as it may be idle."""
        greenlet = getcurrent()
        self._idle.add(greenlet)
        try:
            with Timeout(self.cfg.keepalive, False):
                yield
        finally:
            self._idle.discard(greenlet)

    def notify(self) -> None:
        """Tell the arbiter, once a second, that this worker lives; on the way out let idle connections go."""
        super().notify()
        if not self.alive:
            for greenlet in list(self._idle):
                greenlet.kill(block=False)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Serve one request; raise StopIteration where the connection is to be closed after it."""
        response, environ = wsgi.create(req, sock, addr, listener_name, self.cfg, response_class=BlockResponse)
        environ["wsgi.multithread"] = True
        environ["wsgi.input"] = _Body(req.body)
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive:
            response.force_close()
        blocks = self.wsgi(environ, response.start_response)
        try:
            for block in blocks:
                response.write(block)
            response.close()
        except (TimeoutError, ConnectionError, GreenletExit):
            # the caller does not read, or has gone: the answer's own log line says which
            raise StopIteration from None
        finally:
            if hasattr(blocks, "close"):
                blocks.close()
        if response.should_close():
            raise StopIteration
        sock.settimeout(None)
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what is no HTTP in the form of all our errors; log neither what it was nor its query string."""
        if isinstance(exc, GreenletExit):
            return
        record = Record("unparsed", f"req-{secrets.token_hex(12)}")
        if isinstance(exc, (errors.ParseException, ssl.SSLError)):
            status = _STATUSES.get(type(exc), 400)
            failure: Failure = BadRequest("This is no HTTP/1.1 request.", code="invalid_http", status=status)
        else:
            log.error("a connection failed", exc_info=exc)
            failure = ServerError("The server failed.", code="server_error")
        record.fail(failure)
        record.status = failure.answered
        record.write()
        body = error_json(failure)
        head = f"HTTP/1.1 {failure.answered} Error\r\nConnection: close\r\nContent-Type: application/json\r\n"
        head += f"X-Request-Id: {record.request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        with contextlib.suppress(OSError):
            client.settimeout(0.0)
            client.send(head.encode() + body)


class _Body:
    """A request's body, whose malformed chunks are the caller's fault and no fault of ours."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int | None = None) -> bytes:
        """Read so many bytes, or all; raise OSError where the body is no HTTP."""
        try:
            data: bytes = self._body.read(size)
        except errors.ParseException as error:
            raise OSError(f"a malformed body: {type(error).__name__}") from None
        return data
