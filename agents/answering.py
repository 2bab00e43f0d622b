"""What an agent says, as the events of an answer."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from protocol.chunks import CONTROL, Answer, Batch, Completion
from turns.meanwhile import meanwhile
from turns.turn import Turn

_END = object()


def answering(agent: Callable[[Turn], Any]) -> Callable[[Turn], Answer]:
    """Return the function that answers a turn by an agent's own `answer(turn)`.

    An agent returns a text, or yields texts and what the turn's means give it. Whatever else it yields is a TypeError.
    What an agent waits for by itself is ended with the turn, and by the turn's clocks.
    """

    def answer(turn: Turn) -> Answer:
        return meanwhile(turn, _pieces(turn, agent))

    return answer


def _pieces(turn: Turn, agent: Callable[[Turn], Any]) -> Answer:
    said: Any = None
    has_begun = False
    try:
        with turn.clocked():
            said = agent(turn)
        pieces = _iterator(said)
        while True:
            with turn.clocked():
                piece = next(pieces, _END)
            if piece is _END:
                return
            if isinstance(piece, str):
                piece = turn.say(piece) if piece else Batch()
            if not isinstance(piece, Batch | Completion):
                raise TypeError(f"an agent yields texts, or what the turn gives it, not {type(piece).__name__}")
            if isinstance(piece, Batch) and any(each.chunk.object == CONTROL for each in piece) and has_begun:
                raise ValueError("turn.control() comes before anything else that an agent says")
            has_begun = has_begun or bool(piece)
            yield piece
    finally:
        if hasattr(said, "close"):
            said.close()


def _iterator(said: Any) -> Iterator[Any]:
    if isinstance(said, str | Batch | Completion):
        return iter([said])
    if isinstance(said, Iterable):
        return iter(said)
    raise TypeError(f"an agent's answer(turn) returns a text or yields, and returned {type(said).__name__}")
