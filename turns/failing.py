"""What becomes of an answer that fails."""

import logging

from protocol.chunks import Answer, Completion
from protocol.errors import Failure, ServerError
from turns.meanwhile import speaks
from turns.turn import Turn

log = logging.getLogger("custom_llm")


def failure_of(error: Exception) -> Failure:
    """Return the failure that an exception is to the caller; what is none of ours goes to the log whole."""
    if isinstance(error, Failure):
        return error
    log.error("an answer failed", exc_info=error)
    return ServerError("The server failed to answer.", code="server_error", detail=type(error).__name__)


def or_say(turn: Turn, pieces: Answer, sentence: str) -> Answer:
    """Say a sentence in place of an answer that fails before it has said anything, and log the failure all the same.

    A waiting message says nothing yet. What the caller did wrong is the caller's to hear of.
    """
    has_spoken = False
    try:
        for piece in pieces:
            has_spoken = isinstance(piece, Completion) or any(map(speaks, piece))
            yield piece
            if has_spoken:
                break
        yield from pieces
    except Exception as error:
        failure = failure_of(error)
        if has_spoken or failure.outcome.startswith("caller"):
            raise failure from None
        turn.record.fail(failure)
        turn.record.outcome, turn.record.cause = "fallback", failure.outcome
        yield turn.say(sentence)
