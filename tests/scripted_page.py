"""The real app with two endpoints more, which say byte for byte what a test wants the playground to hear."""

import base64
import math
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Response, request
from scripted_upstream import DONE, ROLE, STOP, chunk, event
from werkzeug.serving import WSGIRequestHandler, make_server

from app import create_app
from settings import Settings

Step = bytes | float | str
"""Bytes to send; seconds to wait; `hold` until the test is over, or `cut` the connection."""

TEXT = "/scripted/chat/completions"
VOICE = "/scripted/audio/chat/completions"
HZ = 16000
CHUNK_MS = 40


@dataclass
class Script:
    """What is said to the next request, and what the requests were."""

    steps: Sequence[Step] = ()
    status: int = 200
    content_type: str = "text/event-stream"
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def say(self, *steps: Step, status: int = 200, content_type: str = "text/event-stream") -> None:
        """Say this from now on, forgetting what was asked before."""
        self.steps, self.status, self.content_type = steps, status, content_type
        self.asked.clear()
        self.headers.clear()

    def respond(self) -> Response:
        """Answer one request."""
        self.asked.append(request.get_json())
        self.headers.append(dict(request.headers))
        return Response(self._play(list(self.steps)), self.status, content_type=self.content_type)

    def _play(self, steps: list[Step]) -> Iterator[bytes]:
        for step in steps:
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, float):
                time.sleep(step)
            elif step == "hold":
                self.over.wait(20)
            elif step == "cut":
                raise ConnectionAbortedError


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # bodies are chunked: a cut is told from an end

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@contextmanager
def scripted_page(**settings: Any) -> Iterator[tuple[str, Script]]:
    """Run it; give its URL, and the script of its endpoints."""
    script = Script()
    app = create_app(Settings(**settings))
    app.add_url_rule(TEXT, "scripted_text", script.respond, methods=["POST"])
    app.add_url_rule(VOICE, "scripted_voice", script.respond, methods=["POST"])
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", script
    finally:
        script.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def tone(ms: float, hz: int = HZ, begin: int = 0) -> bytes:
    """Return a quiet tone as PCM, from its sample number `begin` on."""
    count = round(ms * hz / 1000)
    values = (round(9000 * math.sin(2 * math.pi * 220 * (begin + place) / hz)) for place in range(count))
    return struct.pack(f"<{count}h", *values)


def sound(pcm: bytes, transcript: str | None = None, words: list[dict[str, Any]] | None = None) -> bytes:
    """Write a chunk of audio; the id is left out, as after the first."""
    audio: dict[str, Any] = {"data": base64.b64encode(pcm).decode()} if pcm else {}
    if transcript is not None:
        audio["transcript"] = transcript
    if words:
        audio["words"] = words
    return event(chunk({"audio": audio}))


def word(text: str, start: int, end: int) -> dict[str, Any]:
    """Return a word with its times in ms."""
    return {"text": text, "start_ts": start, "end_ts": end, "duration": end - start}


def spoken(*texts: str, each_ms: int = 200) -> list[bytes]:
    """Return the chunks of a reply in which each text is a word of so many ms, in chunks of 40 ms."""
    chunks = []
    for place, text in enumerate(texts):
        start = place * each_ms
        for piece in range(each_ms // CHUNK_MS):
            begin = (start + piece * CHUNK_MS) * HZ // 1000
            said = (text, [word(text.strip(), start, start + each_ms)]) if piece == 0 else (None, None)
            chunks.append(sound(tone(CHUNK_MS, begin=begin), *said))
    return chunks


def stream(*chunks: Step, finish: dict[str, Any] = STOP) -> list[Step]:
    """Script a whole answer around these."""
    return [event(ROLE), *chunks, event(finish) + DONE]
