"""Say something while nothing comes."""

import time
from typing import TYPE_CHECKING

from protocol.chunks import WAITING_ID, Answer, Batch, Completion, Event

if TYPE_CHECKING:
    from turns.turn import Turn


def meanwhile(turn: "Turn", pieces: Answer) -> Answer:
    """Pass an answer on; where it says nothing until what waits to be said meanwhile is due, say that."""
    has_spoken = False
    for piece in pieces:
        is_speech = isinstance(piece, Completion) or any(map(speaks, piece))
        has_spoken = has_spoken or is_speech
        waiting = turn.to_say_meanwhile
        if waiting:
            if is_speech or _waits(piece):
                turn.to_say_meanwhile = None
            elif time.monotonic() >= waiting.due:
                turn.to_say_meanwhile = None
                # the engine takes a waiting message at the beginning alone
                yield turn.say(waiting.phrase) if has_spoken else turn.wait_with(waiting.phrase)
            else:
                turn.call.wake_at(waiting.due)
        yield piece


def _waits(piece: Batch | Completion) -> bool:
    """Tell whether a piece is a waiting message: the engine takes one, and no second."""
    return isinstance(piece, Batch) and any(each.chunk.id == WAITING_ID for each in piece)


def speaks(event: Event) -> bool:
    """Tell whether an event says or decides something of the answer; reasoning is silence to who listens."""
    chunk = event.chunk
    if chunk.id == WAITING_ID:
        return False
    choices = chunk.choices or ()
    return bool(event.text) or any(
        c.finish_reason or (c.delta and (c.delta.tool_calls or c.delta.audio or c.delta.refusal)) for c in choices
    )
