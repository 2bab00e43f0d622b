"""An agent of the tests: a desk with tools of every temper."""

import json
import logging
import time

from agents import tool
from protocol.chunks import Answer
from turns.turn import Turn

log = logging.getLogger("custom_llm")
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
    try:
        time.sleep(30)
    finally:
        log.warning("the tool that hangs was ended")
    return "never"


@tool
def slow(seconds: float) -> str:
    """Take so many seconds."""
    time.sleep(seconds)
    return "at last"


@tool
def ask_by_itself(turn: Turn) -> str:
    """Ask the language model by the turn that waits for this tool."""
    return "".join(piece.text for piece in turn.ask())


@tool
def parse() -> str:
    """Read what is no JSON."""
    return str(json.loads("sk-inner-secret"))


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
    if turn.text == "meanwhile":
        turn.say_meanwhile("Hold the line.", after_ms=300)
    yield from turn.ask(tools=[order, fail, hang, slow, long, ask_by_itself, parse, weather, clock])
