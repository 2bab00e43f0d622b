"""The mock upstream's sockets: accept, read, write what the peer takes and keep the rest, without blocking."""

import socket
import sys
from collections.abc import Callable

from benchmarks.models import Model
from benchmarks.poller import READ, WRITE, Poller

_MAX_INBOX_BYTES = 4 << 20
_READ_BYTES = 65536


class Connection:
    """One caller: what came, what could not be sent yet, and the stream under way."""

    __slots__ = (
        *("closing", "descriptor", "inbox", "open", "outbox", "sock"),
        *("model", "sequence", "tag", "turn", "usage"),
    )

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.open = True
        self.closing = False  # once the outbox is empty
        self.model: Model | None = None  # None: no stream is under way
        self.sequence = -1  # the next chunk; -1: nothing was sent yet
        self.turn = 0  # tells this stream's timer from those of streams before it
        self.tag = -1
        self.usage = False


class Connections:
    """All connections of one listener on the loopback interface; port 0 takes a free one.

    `on_data` is called when a connection's inbox has grown, `on_flushed` when its outbox is empty again, `on_drop`
    when it is gone.
    """

    def __init__(
        self,
        port: int,
        *,
        on_data: Callable[[Connection], None],
        on_flushed: Callable[[Connection], None],
        on_drop: Callable[[Connection], None],
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._poller = Poller()
        self._poller.register(self._listener.fileno(), READ)
        self._open: dict[int, Connection] = {}
        self._on_data = on_data
        self._on_flushed = on_flushed
        self._on_drop = on_drop
        self.accepted = 0
        self.open_max = 0

    def __len__(self) -> int:
        return len(self._open)

    def serve(self, seconds: float) -> None:
        """Wait for at most `seconds`, then serve every socket that is ready."""
        listening = self._listener.fileno()
        for descriptor, events in self._poller.wait(seconds):
            if descriptor == listening:
                self._accept()
                continue
            connection = self._open[descriptor]
            if events & WRITE:
                self._flush(connection)
            if events & ~WRITE and connection.open:
                self._receive(connection)

    def send(self, connection: Connection, data: bytes) -> bool:
        """Write `data`, or keep what the socket does not take; return whether the connection still stands."""
        if connection.outbox:
            connection.outbox += data
            return True
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop(connection)
            return False
        if sent < len(data):
            connection.outbox += data[sent:]
            self._poller.modify(connection.descriptor, READ | WRITE)
        return True

    def close(self, connection: Connection) -> None:
        """Close the connection as soon as everything is sent."""
        connection.closing = True
        if not connection.outbox:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Close the connection now."""
        self._on_drop(connection)
        connection.open = False
        del self._open[connection.descriptor]
        self._poller.unregister(connection.descriptor)
        connection.sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # too many open files: the caller waits
                print(f"upstream: cannot accept: {error}", file=sys.stderr)
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            self._open[connection.descriptor] = connection
            self._poller.register(connection.descriptor, READ)
            self.accepted += 1
            self.open_max = max(self.open_max, len(self._open))

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(connection.inbox) + len(data) > _MAX_INBOX_BYTES:
            self.drop(connection)
            return
        connection.inbox += data
        self._on_data(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            del connection.outbox[: connection.sock.send(connection.outbox)]
        except BlockingIOError:
            return
        except OSError:
            self.drop(connection)
            return
        if connection.outbox:
            return
        self._poller.modify(connection.descriptor, READ)
        if connection.closing:
            self.drop(connection)
        else:
            self._on_flushed(connection)
