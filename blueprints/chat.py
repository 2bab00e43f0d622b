"""`/chat/completions`: the plain relay to the language model."""

from blueprints.completions import endpoint
from protocol.chunks import Answer
from turns.turn import Turn


def answer(turn: Turn) -> Answer:
    """Answer with what the language model says."""
    return turn.ask()


bp = endpoint("", answer, hides_thinking=False)
