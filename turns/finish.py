"""Tell something in the chunk that finishes an answer, or in the whole of it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec

from protocol.chunks import Answer, Batch, Completion, Event, event, read_body, read_completion


def in_finish(pieces: Answer, fields: Callable[[], dict[str, Any]]) -> Answer:
    """Pass an answer on, with these fields at the root of what finishes it; they are asked for when it does."""
    finishes: list[dict[str, Any]] = []
    with closing(pieces):
        for piece in pieces:
            if isinstance(piece, Completion):
                yield read_completion(msgspec.json.encode({**piece.body, **fields()}))
                continue
            passed = Batch(out for each in piece for out in _without_finish(each, finishes))
            if passed or not piece:
                yield passed
    if finishes:
        told = fields()
        yield Batch(event({**body, **told}) for body in finishes)


def _without_finish(each: Event, finishes: list[dict[str, Any]]) -> Iterator[Event]:
    """Yield what of an event can go on now; its finish waits for the end of the answer."""
    if not any(choice.finish_reason for choice in each.chunk.choices or ()):
        yield each
        return
    _, body = read_body(each.data)
    if each.text:
        # what is said in the chunk of the finish goes before it
        first, *others = body["choices"]
        yield event({**body, "usage": None, "choices": [{**first, "finish_reason": None}]})
        body = {**body, "choices": [{**first, "delta": {}}, *others]}
    finishes.append(body)
