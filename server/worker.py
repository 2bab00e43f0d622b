"""gunicorn's gevent worker, with a response that costs one system call a block.

gunicorn's own asks for the socket's buffer size before each write and sends head and body apart.
"""

import contextlib
import logging
import os
import secrets
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import gevent
from gevent import GreenletExit, get_hub, getcurrent
from gevent.event import Event
from gunicorn.http import RequestParser, errors, wsgi
from gunicorn.http.body import ChunkedReader
from gunicorn.workers.ggevent import GeventWorker

from blueprints.gate import UNPARSED
from protocol.errors import BadRequest, Failure, ServerError, error_json
from server.blocking import BlockingWatch
from server.incoming import HEAD_LIMIT, REST_LIMIT, Incoming, RequestBody, TooSlow
from turns.record import Record
from turns.streams import Streams

log = logging.getLogger("custom_llm")

_LAST_S = 2.0
"""Before the arbiter kills a worker, how long its last streams have for their end, in seconds."""
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
            f"HTTP/1.{min(self.req.version[1], 1)} {self.status}\r\n",
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


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return -1  # closed meanwhile


def _check(request: Any) -> None:
    """Mend what gunicorn lets through; raise ParseException where it can't be."""
    if request.version >= (1, 1) and not any(name == "HOST" for name, _ in request.headers):
        raise errors.InvalidHeader("HOST", req=request)  # https://www.rfc-editor.org/rfc/rfc9112#section-3.2
    if isinstance(request.body.reader, ChunkedReader):
        request.body.reader.limit_trailer_section = HEAD_LIMIT  # like a head, they are scanned again with each byte
    # `GET http://host HTTP/1.1` asks for the root; Flask would redirect to wherever the caller says that it is
    request.path = request.path or "/"


class Worker(GeventWorker):
    """Serve WSGI requests, each in a greenlet.

    Times are in seconds: `head_s` for the whole of a request's head from its first byte on, `body_s` for the whole of
    its body, `write_s` for a caller who does not read, `drain_s` for how long a worker that ends still refuses turns.
    At `metrics_port` nothing but the counts of all workers is served.
    """

    alive: bool
    head_s = 10.0
    body_s = 30.0
    write_s = 10.0
    drain_s = 0.0
    metrics_port = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = 0
        self._ends_at: float | None = None
        self._told_to_end = Event()
        self._idle: dict[Any, None] = {}  # the greenlets that wait for a next request, those that wait longest first
        # gunicorn looks some thirty settings up for each request, in two calls each
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection: one request after another, until it is closed."""
        incoming = Incoming(client)
        parser = RequestParser(self.cfg, client, addr)
        parser.unreader = incoming
        request = None
        self._connections += 1
        if self._connections >= self.worker_connections and self._idle:
            # the last that is taken in: an idle one makes room for the next
            self._let_go(next(iter(self._idle)))
        try:
            name = listener.getsockname()
            while self._begins(incoming):
                request = None
                incoming.allow(self.head_s, HEAD_LIMIT)
                request = next(parser)
                _check(request)
                incoming.allow(self.body_s)
                if not self.handle_request(name, request, client, addr):
                    break
        except (StopIteration, OSError, GreenletExit):
            pass  # one of both has closed the connection, or it is to be closed
        except BaseException as error:
            self.handle_error(request, client, addr, error)
            incoming.linger()
        finally:
            self._connections -= 1
            client.close()

    def _let_go(self, greenlet: Any) -> None:
        """End an idle connection, unless its next request begins in the very moment."""

        def end() -> None:
            if greenlet in self._idle:
                greenlet.throw(GreenletExit())

        get_hub().loop.run_callback(end)

    def _begins(self, incoming: Incoming) -> bool:
        """Wait for a next request as long as a connection may be idle, and tell whether it begins."""
        greenlet = getcurrent()
        self._idle[greenlet] = None
        try:
            return incoming.begins(self.cfg.keepalive or self.head_s)
        finally:
            self._idle.pop(greenlet, None)

    def run(self) -> None:
        """Serve until told to end; before the last answers would be cut off, give them a proper end."""
        ended = gevent.spawn(self._end_the_last)
        agents = self.wsgi.extensions.get("agents_dir")
        watch = BlockingWatch(agents) if agents else None
        super().run()
        ended.kill()
        if watch:
            watch.close()

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """Begin to end: go on accepting for a while, only to refuse, for balancers take a moment to notice."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self.cfg.graceful_timeout
            self._told_to_end.set()

    def _end_the_last(self) -> None:
        """Refuse new turns, then let the listeners go, then end the streams that would be cut otherwise."""
        self._told_to_end.wait()
        assert self._ends_at is not None
        streams: Streams = self.wsgi.extensions["streams"]
        if self._is_the_servers_end():
            streams.drain()
            # the last streams need their time before the arbiter kills this worker
            gevent.sleep(max(0.0, min(self.drain_s, self._ends_at - _LAST_S - time.monotonic())))
        self.alive = False
        gevent.sleep(max(0.0, self._ends_at - _LAST_S - time.monotonic()))
        streams.cut_short()

    def _is_the_servers_end(self) -> bool:
        """Tell the end of the whole server from a reload, in which other workers go on accepting.

        The arbiter lets its listeners go first, and tells its workers then.
        """
        ours = {os.fstat(sock.fileno()).st_ino for sock in self.sockets}
        folder = f"/proc/{self.ppid}/fd"
        try:
            return not any(_inode(f"{folder}/{name}") in ours for name in os.listdir(folder))
        except OSError:
            return False  # no Linux, or another user's: nobody is refused then

    def notify(self) -> None:
        """Tell the arbiter, once a second, that this worker lives; on the way out let idle connections go."""
        super().notify()
        if not self.alive:
            for greenlet in list(self._idle):
                self._let_go(greenlet)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Serve one request, and tell whether the connection may be used for another."""
        sock.settimeout(self.write_s)
        # gunicorn would invite a body before anyone has seen whose it is, and how large
        invites, req._expected_100_continue = req._expected_100_continue, False
        response, environ = wsgi.create(req, sock, addr, listener_name, self.cfg, response_class=BlockResponse)
        body = RequestBody(req.body, sock, invites)
        environ["wsgi.multithread"] = True
        environ["wsgi.input"] = body
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.handle_exit(None, None)
        blocks = self._app_at(listener_name)(environ, response.start_response)
        if self._ends_at is not None or not self.alive or not self.cfg.keepalive or body.rest > REST_LIMIT:
            response.force_close()
        try:
            for block in blocks:
                response.write(block)
            response.close()
        except (TimeoutError, ConnectionError, GreenletExit):
            # the caller does not read, or has gone: the answer's own log line says which
            return False
        finally:
            if hasattr(blocks, "close"):
                blocks.close()
        if response.should_close():
            if body.rest:
                req.unreader.linger()
            return False
        return body.read_rest()

    def _app_at(self, listener_name: Any) -> Any:
        if self.metrics_port and isinstance(listener_name, tuple) and listener_name[1] == self.metrics_port:
            return self.wsgi.extensions["metrics"].app
        return self.wsgi

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what is no HTTP in the form of all our errors; log neither what it was nor its query string."""
        counts = self.wsgi.extensions["metrics"]
        record = Record(UNPARSED, f"req-{secrets.token_hex(12)}", counts.count if counts else None)
        if isinstance(exc, TooSlow):
            failure: Failure = exc
        elif isinstance(exc, errors.ParseException):
            status = _STATUSES.get(type(exc), 400)
            failure = BadRequest("This is no HTTP/1.1 request.", code="invalid_http", status=status)
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
