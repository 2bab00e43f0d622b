"""An agent of the tests: a desk with tools of every temper."""

import time

from agents import tool
from protocol.chunks import Answer
from turns.turn import Turn

done: list[tuple[str, int]] = []


@tool
def order(item: str, amount: int = 1) -> str:
    """Order something."""
    done.append((item, amount))
    return f"{amount} x {item} ordered"


@tool
def fail() -> str:
    """Fail."""
    raise RuntimeError("sk-inner-secret")


@tool(deadline_s=0.3)
def hang() -> str:
    """Hang."""
    time.sleep(30)
    return "never"


@tool
def slow(seconds: float) -> str:
    """Take so many seconds."""
    time.sleep(seconds)
    return "at last"


@tool
def long() -> str:
    """Say a lot."""
    return "x" * 100_000


@tool
def weather(city: str = "") -> str:
    """Tell the weather."""
    return f"{city}: fine"


@tool(name="time")
def clock() -> str:
    """Tell the time."""
    return "noon"


def answer(turn: Turn) -> Answer:
    yield from turn.ask(tools=[order, fail, hang, slow, long, weather, clock])
