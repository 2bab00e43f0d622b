"""Read an upstream's answer, as a stream of events or as a whole, and see that it has an end."""

import time

from protocol.chunks import Batch, Chunk, Completion, read_chunk, read_completion
from protocol.errors import Failure, UpstreamBroken, UpstreamTimeout
from protocol.redaction import for_log
from protocol.sse import DONE, EventDecoder
from upstream.adapter import Exchange
from upstream.call import Call
from upstream.refusal import refusal_in

ANSWER_LIMIT = 32 * 1024 * 1024
"""Bytes that an answer may have that is not streamed."""
LINGER_S = 1.0
"""How long to wait, once an answer has finished, for the usage and the [DONE] that may follow."""
_BRACKET = DONE[0]  # JSON objects begin with another


class EventReader:
    """Read a stream's events as they come, by the moments by which the first token and each later event are due."""

    def __init__(self, exchange: Exchange, call: Call, first_token_by: float, stall_s: float) -> None:
        self._exchange = exchange
        self._call = call
        self._deadline = first_token_by
        self._stall_s = stall_s
        self._decoder = EventDecoder()
        self._has_token = False
        self._has_finish = False
        self._unfinished = {0}  # the choices that are still to say that they have finished
        self._is_over = False
        self._failure: Failure | None = None

    def read(self) -> Batch | None:
        """Return the next events, none of them if the call's alarm has rung, None at the end of a good answer.

        Raises UpstreamTimeout, UpstreamStatus for an error event, and UpstreamBroken for an answer that is cut, is no
        chat completion, or ends without having said that it is finished: no end is ever made up.
        """
        while not self._is_over:
            try:
                block = self._exchange.read1(min(self._deadline, self._call.alarm))
            except UpstreamBroken:
                if self._has_finish:
                    return None
                raise
            batch = Batch() if block is None else self._decode(block)
            if batch:
                return batch
            if self._has_finish and time.monotonic() >= self._deadline:
                return None
            # looked at after each read: an upstream that never pauses leaves no wait that could end too late
            if not self._is_over and has_rung(self._call, self._deadline):
                return batch
        if self._failure:
            raise self._failure
        if not self._has_finish:
            raise broken("it ended without a finish_reason")
        return None

    def _decode(self, block: bytes) -> Batch:
        batch = Batch()
        try:
            datas = self._decoder.feed(block) if block else self._decoder.end()
            self._is_over = not block
            for data in self._before_done(datas):
                event = read_chunk(data)
                self._look_at(event.chunk)
                batch.append(event)
        except (ValueError, Failure) as error:
            # what came before it is passed on first, and what comes after a finish changes nothing
            self._is_over = True
            if not self._has_finish:
                self._failure = error if isinstance(error, Failure) else broken(str(error))
        if batch and self._has_token:
            now = time.monotonic()
            self._deadline = min(now + (LINGER_S if self._has_finish else self._stall_s), self._call.until)
            if now >= self._call.until and not self._has_finish:
                self._failure, self._is_over = too_late(), True
        return batch

    def _look_at(self, chunk: Chunk) -> None:
        """Note what an event means for the answer's progress; raise the failure that it reports."""
        if (chunk.error is not None or not chunk.choices) and (failure := self._refusal_in(chunk)):
            raise failure
        if not self._has_token:
            self._has_token = is_token(chunk)
        for choice in chunk.choices or ():
            if choice.finish_reason == "error":
                raise broken("it finished with an error")
            if choice.finish_reason:
                self._unfinished.discard(choice.index or 0)
                self._has_finish = not self._unfinished
            elif choice.index:
                self._unfinished.add(choice.index)

    def _refusal_in(self, chunk: Chunk) -> Failure | None:
        return refusal_in(chunk, self._call.signed_with, pass_through=self._call.key is not None)

    def _before_done(self, datas: list[bytes]) -> list[bytes]:
        for place, data in enumerate(datas):
            if data[0] == _BRACKET and data.strip() == DONE:
                self._is_over = True
                if place == len(datas) - 1:
                    self._exchange.settle()
                return datas[:place]
        return datas


def read_whole(exchange: Exchange, until: float) -> bytes:
    """Return an answer's whole body; raise UpstreamTimeout, or UpstreamBroken where it is cut or has no end."""
    parts: list[bytes] = []
    size = 0
    while (block := exchange.read1(until)) != b"":
        if block is not None:
            parts.append(block)
            size += len(block)
        elif time.monotonic() >= until:
            raise too_late()
        if size > ANSWER_LIMIT:
            raise broken("it has no end")
    return b"".join(parts)


def read_some(exchange: Exchange, until: float, limit: int) -> bytes:
    """Return as much of an error's body as comes by then, at most about so many bytes."""
    parts: list[bytes] = []
    while sum(map(len, parts)) < limit and (block := exchange.read1(until)) != b"":
        if block is not None:
            parts.append(block)
        elif time.monotonic() >= until:
            break
    return b"".join(parts)


def completion(data: bytes, key: str | None) -> Completion:
    """Return the answer that this JSON is; raise UpstreamBroken."""
    try:
        return read_completion(data)
    except ValueError as error:
        raise broken(f"{error}: {excerpt(data, key)}") from None


def is_token(chunk: Chunk) -> bool:
    """Tell whether a chunk brings a token: content, reasoning, a tool call, audio or a finish, not a role alone."""
    for choice in chunk.choices or ():
        if choice.finish_reason:
            return True
        delta = choice.delta
        if delta and (
            delta.content
            or delta.reasoning_content
            or delta.reasoning
            or delta.refusal
            or delta.tool_calls
            or delta.audio
            or delta.function_call
        ):
            return True
    return False


def has_rung(call: Call, deadline: float) -> bool:
    """Tell whether a wait was ended by the call's alarm, which then is off; raise UpstreamTimeout at the deadline."""
    now = time.monotonic()
    if now >= deadline:
        raise too_late()
    if now < call.alarm:
        return False
    call.silence()
    return True


def excerpt(data: bytes, key: str | None) -> str:
    """Return the beginning of what an upstream sent, for the log."""
    return for_log(data[:200].decode("utf-8", "replace"), key)


def too_late() -> UpstreamTimeout:
    """Return the failure of an upstream that was too slow."""
    return UpstreamTimeout("The language model did not answer in time.", code="upstream_timeout")


def broken(detail: str) -> UpstreamBroken:
    """Return the failure of an answer that is none."""
    return UpstreamBroken("The language model's answer was unusable.", code="upstream_broken", detail=detail)
