"""Turn an answer into a response: streamed or collected, watched, and always properly ended."""

import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Response

from protocol.chunks import COMPLETION, Answer, Completion
from protocol.errors import CallerHungUp, ServerError, Superseded, TurnOver
from protocol.sse import KEEPALIVE
from turns.failing import failure_of
from turns.shape import Shape, framed
from turns.turn import Turn
from turns.usage import summed

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# buffering proxies would hold back the voice; a compressing one too
STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)|[。！？]")


def respond(turn: Turn, pieces: Answer) -> Response:
    """Return the response that streams an answer, or holds all of it where none was to be streamed.

    Raises the Failure of an answer that failed before anything of it was sent, so that it gets a real status; and
    TurnOver.
    """
    if turn.request.stream:
        blocks = _blocks(turn, pieces)
        next(blocks)
        response = Stream(blocks, mimetype="text/event-stream", headers=STREAM_HEADERS)
    else:
        data = _collected(turn, pieces)
        response = Stream(
            _one_block(turn, data), mimetype="application/json", headers={"Content-Length": str(len(data))}
        )
    turn.record.first_byte = time.monotonic()
    if turn.record.first_sentence is not None:
        turn.record.first_sentence = turn.record.first_byte  # it goes out with it
    return response


class Stream(Response):
    """A response that hands the server its generator as it is, with no layer around each block."""

    def get_app_iter(self, environ: "WSGIEnvironment") -> Iterable[bytes]:
        """Return what the server iterates over and closes."""
        return _Closing(self.response, self.close)


class _Closing:
    def __init__(self, blocks: Any, close: Callable[[], None]) -> None:
        self._blocks = blocks
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._blocks)


def _blocks(turn: Turn, pieces: Answer) -> Generator[bytes, None, None]:
    """Yield once, nothing, when the stream can be opened; then its bytes, its end included.

    Nothing is sent before the first token, so that a failure can still have a real status; after a while of silence
    the stream is opened all the same, for callers and proxies give up on one that says nothing.
    """
    record, keepalive_s = turn.record, turn.service.keepalive_s
    model = turn.request.model or "default"
    shape = Shape(turn.id, turn.created, model, turn.request.include_usage, turn.service.repeats_audio_id)
    held: list[bytes] = []
    is_open = has_text = False
    sent_at = record.began
    if keepalive_s:
        turn.call.wake_at(sent_at + keepalive_s)
    try:
        for piece in pieces:
            if isinstance(piece, Completion):
                raise ServerError("The server failed to answer.", detail="a whole completion in a stream")
            if piece:
                held += shape.take(piece)
                if record.first_sentence is None and (text := piece.text):
                    has_text = True
                    if _SENTENCE_END.search(text):
                        record.first_sentence = time.monotonic()
                if not (is_open or shape.has_token) or not held:
                    continue
                block = framed(held)
                held = []
            elif keepalive_s:
                if time.monotonic() < sent_at + keepalive_s:
                    turn.call.wake_at(sent_at + keepalive_s)
                    continue
                block = framed(held) + KEEPALIVE
                held = []
                turn.call.wake_at(time.monotonic() + keepalive_s)
            else:
                continue
            sent_at = time.monotonic()
            if not is_open:
                is_open = True
                yield b""
            yield block
        if has_text and record.first_sentence is None:
            record.first_sentence = time.monotonic()  # which is what an engine takes the end for
        if not is_open:
            yield b""
        yield framed(held + shape.end())
    except GeneratorExit:
        _note_loss(turn)
        raise
    except CallerHungUp:
        record.outcome = "caller_hangup"
        if not is_open:
            raise
    except Superseded:
        record.outcome = "superseded"
        if not is_open:
            yield b""
        yield framed(held + shape.end())
    except (Exception, TurnOver) as error:
        failure = error.failure() if isinstance(error, TurnOver) else failure_of(error)
        if not is_open:
            raise failure from None
        record.fail(failure)
        yield framed(held + shape.fail(failure))
    except BaseException:
        record.outcome = "server_drain"  # the worker's greenlets are killed: nothing can be sent any more
        raise
    finally:
        pieces.close()
        _note_waits(turn)
        record.model, record.chunks = shape.model, shape.chunks
        record.note_usage(shape.usage)


def _one_block(turn: Turn, data: bytes) -> Generator[bytes, None, None]:
    try:
        yield data
    except GeneratorExit:
        _note_loss(turn)
        raise


def _note_waits(turn: Turn) -> None:
    turn.record.is_streamed = turn.request.stream
    turn.record.waited_s = turn.caller.waited_s
    turn.record.retries = int(turn.call.retried)


def _note_loss(turn: Turn) -> None:
    """Note why the server closes a response before its end: the caller does not read, or has gone."""
    turn.record.outcome = "caller_too_slow" if turn.caller.is_too_slow else "caller_hangup"


def _collected(turn: Turn, pieces: Answer) -> bytes:
    """Return the JSON of a whole answer: the upstream's own where it is nothing else."""
    try:
        with closing(pieces):
            said = list(pieces)
    finally:
        _note_waits(turn)
    completions = [piece for piece in said if isinstance(piece, Completion)]
    text = "".join(piece.text for piece in said)
    last = completions[-1] if completions else None
    if last:
        turn.record.model = str(last.body.get("model") or turn.record.model)
        usage = summed(completion.body.get("usage") for completion in completions)
        turn.record.note_usage(usage)
        if last.text == text and len(completions) == 1:
            return last.data
        if usage:
            last.body["usage"] = usage
    body: dict[str, Any] = last.body if last else {"model": turn.record.model or "default"}
    choice: dict[str, Any] = body["choices"][0] if last else {"index": 0, "finish_reason": "stop"}
    message = {**(choice.get("message") or {}), "role": "assistant", "content": text}
    whole = {"id": turn.id, "object": COMPLETION, "created": turn.created, **body}
    return msgspec.json.encode({**whole, "choices": [{**choice, "message": message}]})
