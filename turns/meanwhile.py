"""Say something while nothing comes."""

import time

from protocol.chunks import Batch, Completion, Event
from turns.turn import Answer, Turn


def meanwhile(turn: Turn, pieces: Answer, phrase: Batch, after_s: float) -> Answer:
    """Pass an answer on, with a phrase before it if it has said nothing so many seconds after the turn began."""
    due = turn.record.began + after_s
    turn.call.wake_at(due)
    for piece in pieces:
        speaks = isinstance(piece, Completion) or any(map(_speaks, piece))
        if not speaks and time.monotonic() >= due:
            yield phrase
            speaks = True
        yield piece
        if speaks:
            break
        turn.call.wake_at(due)
    yield from pieces


def _speaks(event: Event) -> bool:
    """Tell whether an event says or decides something. Reasoning is silence to who listens."""
    choices = event.chunk.choices or ()
    return bool(event.text) or any(c.finish_reason or (c.delta and c.delta.tool_calls) for c in choices)
