"""Keep many streams open against one endpoint from one loop, check every one of them and measure."""

import errno
import heapq
import itertools
import socket
import time

from benchmarks import processes
from benchmarks.answers import Answer, Tally
from benchmarks.endpoints import Endpoint
from benchmarks.framing import Broken
from benchmarks.measurements import Measurement, Meter
from benchmarks.poller import READ, WRITE, Poller
from benchmarks.scenarios import Scenario

_RETRY_NS = 50_000_000  # after a failure
_SILENT_NS = 2_000_000_000  # without a first chunk: a failure, when time is up
_READ_BYTES = 65536


class Connection:
    """One caller, who asks again as soon as an answer is over."""

    __slots__ = ("answer", "connecting", "descriptor", "reused", "sock")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.descriptor = -1
        self.answer: Answer | None = None
        self.connecting = False
        self.reused = False  # the server may close an idle connection just as we ask again


class Load:
    """One scenario against one endpoint."""

    def __init__(self, endpoint: Endpoint, scenario: Scenario) -> None:
        self.tally = Tally()
        self._endpoint = endpoint
        self._scenario = scenario
        self._poller = Poller()
        self._open: dict[int, Connection] = {}
        self._starts: list[tuple[int, int, Connection]] = []  # (monotonic ns, serial, connection), a heap
        self._serial = itertools.count(1)
        self._tags = itertools.count(time.monotonic_ns() // 1000)  # unlike those of any run before

    def run(self, meter: Meter) -> Measurement:
        """Run the scenario to its end; `meter` reads its window."""
        scenario = self._scenario
        now = time.monotonic_ns()
        window = now + int(scenario.warm_s * 1e9)
        stop = window + int(scenario.seconds * 1e9)
        for index in range(scenario.streams):
            self._start_at(now + int(scenario.ramp_s * 1e9) * index // scenario.streams, Connection())
        measuring = 0
        while (now := time.monotonic_ns()) < stop:
            if not measuring and now >= window:
                self.tally.reset()
                meter.start()
                measuring = now
            while self._starts and self._starts[0][0] <= now:
                self._begin(heapq.heappop(self._starts)[2])
            next_ns = min(self._starts[0][0] if self._starts else stop, stop if measuring else window)
            for descriptor, _ in self._poller.wait(max(0, next_ns - now) / 1e9):
                self._serve(self._open[descriptor])
        usage = meter.stop()
        seconds = (time.monotonic_ns() - measuring) / 1e9
        memory = processes.memory_kib(meter.server)
        self._close(now)
        return Measurement(scenario, self.tally, seconds, usage, memory)

    def _start_at(self, due: int, connection: Connection) -> None:
        heapq.heappush(self._starts, (due, next(self._serial), connection))

    def _begin(self, connection: Connection) -> None:
        scenario = self._scenario
        connection.answer = Answer(self.tally, time.monotonic_ns(), scenario.chunks, not scenario.plain)
        if connection.sock is None:
            self._connect(connection)
        else:
            connection.reused = True
            self._send(connection, connection.sock)

    def _connect(self, connection: Connection) -> None:
        try:
            sock = socket.socket(self._endpoint.family)
        except OSError as error:
            self._fail(connection, f"no socket: {error.strerror}")
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = sock
        connection.descriptor = sock.fileno()
        connection.reused = False
        connection.connecting = True
        self._open[connection.descriptor] = connection
        self._poller.register(connection.descriptor, READ | WRITE)
        code = sock.connect_ex(self._endpoint.address)
        if code not in (0, errno.EINPROGRESS):
            self._fail(connection, f"cannot connect: {errno.errorcode.get(code, code)}")

    def _send(self, connection: Connection, sock: socket.socket) -> None:
        request = self._endpoint.request(self._scenario.model, next(self._tags), stream=not self._scenario.plain)
        try:
            sent = sock.send(request)
        except OSError as error:
            if connection.reused:
                self._ask_anew(connection)
            else:
                self._fail(connection, f"cannot send: {error.strerror}")
            return
        if sent < len(request):
            self._fail(connection, "cannot send: the socket is full")

    def _serve(self, connection: Connection) -> None:
        sock, answer = connection.sock, connection.answer
        assert sock is not None
        if connection.connecting:
            self._connected(connection, sock)
            return
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(connection, f"cannot receive: {error.strerror}")
            return
        if not data:
            self._lose(connection, None)
        elif answer is None:
            self._shut(connection)  # nothing was asked
        else:
            try:
                if answer.feed(data, time.monotonic_ns()):
                    self._finish(connection, answer)
            except Broken as error:
                self._fail(connection, str(error))

    def _connected(self, connection: Connection, sock: socket.socket) -> None:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(connection, f"cannot connect: {errno.errorcode.get(code, code)}")
            return
        connection.connecting = False
        self._poller.modify(connection.descriptor, READ)
        self._send(connection, sock)

    def _lose(self, connection: Connection, reason: str | None) -> None:
        """Take note that the server has closed (no `reason`) or that the connection is broken."""
        answer = connection.answer
        if answer is None:
            self._shut(connection)
        elif connection.reused and not answer.response.begun:
            self._ask_anew(connection)
        elif reason:
            self._fail(connection, reason)
        else:
            try:
                answer.close(time.monotonic_ns())
                self._finish(connection, answer)
            except Broken as error:
                self._fail(connection, str(error))

    def _finish(self, connection: Connection, answer: Answer) -> None:
        connection.answer = None
        if not answer.response.reusable:
            self._shut(connection)
        self._begin(connection)

    def _ask_anew(self, connection: Connection) -> None:
        self._shut(connection)
        self._begin(connection)

    def _fail(self, connection: Connection, reason: str) -> None:
        self.tally.fail(reason)
        self._shut(connection)
        self._start_at(time.monotonic_ns() + _RETRY_NS, connection)

    def _shut(self, connection: Connection) -> None:
        connection.answer = None
        connection.connecting = False
        if connection.sock is not None:
            del self._open[connection.descriptor]
            self._poller.unregister(connection.descriptor)
            connection.sock.close()
            connection.sock = None

    def _close(self, now: int) -> None:
        """Close every connection; one that still waits for its first chunk may be a failure."""
        for connection in list(self._open.values()):
            answer = connection.answer
            if answer is not None and not answer.seen and now - answer.asked > _SILENT_NS:
                self.tally.fail(f"no chunk for {_SILENT_NS / 1e9:.0f} s")
            self._shut(connection)
        for times in (self.tally.first_tokens, self.tally.transits, self.tally.gaps):
            times.sort()
