"""A mock of an OpenAI-compatible chat completions service, quick enough to measure a relay with.

    python benchmarks/upstream.py --port 9100

The model's name says what is streamed: bench-<N>x<I>ms[-ttft<D>][-stall<K>][-close][-crlf][-usage][-words]
and one fault: [-cut<K>][-garbage<K>][-error<K>][-status<N>]; or echo-<I>ms: what the last message says, a word each
I ms

    N content chunks, I ms apart (0: as fast as the socket takes them), each a write of its own
    -ttft<D>   wait D ms before the response's head      -stall<K>  send K chunks, then say nothing for ever
    -close     no chunked framing, the close is the end  -crlf      events end in CR LF CR LF
    -usage     a usage chunk before [DONE]           -words      content is words to be spoken, without marks
    -cut<K>    close in the place of chunk K         -garbage<K> send half a JSON object there, and close
    -error<K>  send an error's event there           -status<N>  answer with that status

A chunk's content is "@@<seq>:<monotonic ns>@@", the time of its write. A request body may hold "##<tag>##", a number.
GET /stats counts connections, streams and cancels; GET /cancels has a line "<tag> <monotonic ns>" for each stream whose
caller left early, GET /sentences one for each echo whose first sentence was complete then (the last 10,000). Loopback
only.
"""

import argparse
import collections
import contextlib
import gc
import heapq
import itertools
import json
import re
import sys
import time
from pathlib import Path

if not __package__:  # run as a script: the package is found from the project's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.connections import Connection, Connections
from benchmarks.models import Model, model_for
from benchmarks.processes import raise_file_limit

_WRITES_A_TURN = 16  # of a stream without pauses, before the next stream has its turn
_IDLE_S = 0.5
_TAG = re.compile(rb"##(\d{1,18})##")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9}) *\r\n", re.IGNORECASE)


class Upstream:
    """Answer requests and stream models on every connection, from one loop; port 0 takes a free one."""

    def __init__(self, port: int) -> None:
        self._connections = Connections(port, on_data=self._read, on_flushed=self._resume, on_drop=self._cancel)
        self.port = self._connections.port
        self._timers: list[tuple[int, int, Connection]] = []  # (monotonic ns, turn, connection), a heap
        self._unpaced: dict[int, Connection] = {}
        self._turns = itertools.count(1)
        self._cancels: collections.deque[str] = collections.deque(maxlen=10_000)
        self._sentences: collections.deque[str] = collections.deque(maxlen=10_000)
        self._counts = dict.fromkeys(("requests", "active", "chunks", "done", "cancelled"), 0)

    def serve(self) -> None:
        """Serve until the process is stopped."""
        while True:
            self._connections.serve(self._wait_s())
            self._run_timers()
            for connection in list(self._unpaced.values()):
                self._run_unpaced(connection)

    def _wait_s(self) -> float:
        if self._unpaced:
            return 0
        if self._timers:
            return min(_IDLE_S, max(0, self._timers[0][0] - time.monotonic_ns()) / 1e9)
        return _IDLE_S

    def _read(self, connection: Connection) -> None:
        while connection.open and connection.model is None and self._take_request(connection):
            pass

    def _take_request(self, connection: Connection) -> bool:
        """Answer the first whole request of the inbox; return whether there was one."""
        inbox = connection.inbox
        end = inbox.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        head = bytes(inbox[:end])
        length = _LENGTH.search(head)
        size = end + (int(length[1]) if length else 0)
        if len(inbox) < size:
            return False
        body = bytes(inbox[end:size])
        del inbox[:size]
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method == b"POST" and path.endswith(b"/chat/completions"):
            self._start(connection, body)
        elif path.endswith(b"/stats"):
            self._answer(connection, json.dumps(self._stats()).encode())
        elif path.endswith(b"/cancels"):
            self._answer(connection, "".join(self._cancels).encode(), kind=b"text/plain")
        elif path.endswith(b"/sentences"):
            self._answer(connection, "".join(self._sentences).encode(), kind=b"text/plain")
        elif path.endswith(b"/models"):
            self._answer(connection, b'{"object":"list","data":[{"id":"bench-8x0ms","object":"model"}]}')
        else:
            self._refuse(connection, b"404 Not Found", "no such endpoint")
        return True

    def _stats(self) -> dict[str, int]:
        connections = self._connections
        return {
            "connections": connections.accepted,
            "open": len(connections),
            "open_max": connections.open_max,
            **self._counts,
        }

    def _start(self, connection: Connection, body: bytes) -> None:
        self._counts["requests"] += 1
        try:
            question = json.loads(body)
            model = model_for(question)
        except (ValueError, LookupError, TypeError) as error:
            self._refuse(connection, b"400 Bad Request", f"not a request of the mock's: {error}")
            return
        if model.status:
            self._counts["done"] += 1
            self._refuse(connection, b"%d Refused" % model.status, "refused")
            return
        if question.get("stream") is not True:
            self._counts["done"] += 1
            self._answer(connection, model.completion())
            return
        tag = _TAG.search(body)
        connection.tag = int(tag[1]) if tag else -1
        connection.usage = (question.get("stream_options") or {}).get("include_usage") is True
        connection.model = model
        connection.sequence = -1
        connection.turn = next(self._turns)
        self._counts["active"] += 1
        if model.delay_ns:
            heapq.heappush(self._timers, (time.monotonic_ns() + model.delay_ns, connection.turn, connection))
        elif self._advance(connection, model):
            self._schedule(connection, model)

    def _schedule(self, connection: Connection, model: Model) -> None:
        if model.interval_ns:
            heapq.heappush(self._timers, (time.monotonic_ns() + model.interval_ns, connection.turn, connection))
        else:
            self._unpaced[connection.descriptor] = connection

    def _advance(self, connection: Connection, model: Model) -> bool:
        """Send the stream's next part; return whether more is to come."""
        if connection.sequence < 0:
            connection.sequence = 0
            if not all(self._connections.send(connection, part) for part in model.opening):
                return False
        if connection.sequence == model.stall:
            return False
        if connection.sequence == model.breaks_at:
            if not model.breaking or self._connections.send(connection, model.breaking):
                self._finish(connection, model)
                if connection.open:
                    self._connections.close(connection)
            return False
        if connection.sequence >= model.chunks:
            ending = model.ending_with_usage if connection.usage else model.ending
            if all(self._connections.send(connection, part) for part in ending):
                self._finish(connection, model)
            return False
        if connection.sequence == model.sentence_end:
            self._sentences.append(f"{connection.tag} {time.monotonic_ns()}\n")
        if not self._connections.send(connection, model.chunk(connection.sequence)):
            return False
        connection.sequence += 1
        self._counts["chunks"] += 1
        return True

    def _finish(self, connection: Connection, model: Model) -> None:
        connection.model = None
        self._counts["active"] -= 1
        self._counts["done"] += 1
        if not model.framed:
            self._connections.close(connection)

    def _resume(self, connection: Connection) -> None:
        """Go on with a stream without pauses whose socket was full."""
        if connection.model and connection.sequence >= 0 and not connection.model.interval_ns:
            self._unpaced[connection.descriptor] = connection

    def _cancel(self, connection: Connection) -> None:
        """Take note that the caller is gone; a stream that was under way is a cancel."""
        self._unpaced.pop(connection.descriptor, None)
        if connection.model is not None:
            connection.model = None
            self._cancels.append(f"{connection.tag} {time.monotonic_ns()}\n")
            self._counts["cancelled"] += 1
            self._counts["active"] -= 1

    def _run_timers(self) -> None:
        timers = self._timers
        now = time.monotonic_ns()
        while timers and timers[0][0] <= now:
            due, turn, connection = timers[0]
            model = connection.model
            if model is None or connection.turn != turn:
                heapq.heappop(timers)
            elif connection.outbox:  # the caller is slow: look again in a millisecond
                heapq.heapreplace(timers, (now + 1_000_000, turn, connection))
            elif not self._advance(connection, model):
                heapq.heappop(timers)
            elif not model.interval_ns:
                heapq.heappop(timers)
                self._unpaced[connection.descriptor] = connection
            else:
                due += model.interval_ns
                heapq.heapreplace(timers, (due if due > now else now + model.interval_ns, turn, connection))

    def _run_unpaced(self, connection: Connection) -> None:
        model = connection.model
        for _ in range(_WRITES_A_TURN):
            if model is None or connection.outbox or not self._advance(connection, model):
                self._unpaced.pop(connection.descriptor, None)  # a full socket: _resume puts it back
                return

    def _answer(self, connection: Connection, body: bytes, *, kind: bytes = b"application/json") -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
        self._connections.send(connection, head + body)

    def _refuse(self, connection: Connection, status: bytes, message: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        body = json.dumps({"error": error}).encode()
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._connections.send(connection, head + body)


def main() -> None:
    """Serve on the port that is asked for; the first line printed says where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9100, help="0 takes a free one (default %(default)s)")
    arguments = parser.parse_args()
    raise_file_limit()
    gc.disable()  # nothing here makes cycles, and a collection would be measured as the relay's latency
    try:
        upstream = Upstream(arguments.port)
    except (OSError, OverflowError) as error:
        sys.exit(f"upstream: cannot listen on 127.0.0.1:{arguments.port}: {error}")
    print(f"http://127.0.0.1:{upstream.port}/v1", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        upstream.serve()


if __name__ == "__main__":
    main()
