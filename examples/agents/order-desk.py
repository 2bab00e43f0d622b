"""Sell lamps: the LLM asks for prices and writes down orders by itself."""

from pathlib import Path
from typing import Literal

from agents import tool

PRICES = {"lamp": 39.0, "shade": 12.5}
ORDERS = Path(__file__).with_name("orders.txt")


@tool
def price(item: Literal["lamp", "shade"], count: int = 1) -> str:
    """Tell what a number of items cost together."""
    return f"{PRICES[item] * count:.2f} euros"


@tool(deadline_s=3)
def order(item: Literal["lamp", "shade"], count: int, turn) -> None:
    """Order items, when the caller has heard the price and agreed to it."""
    with ORDERS.open("a") as orders:
        orders.write(f"{count} {item} for {turn.session!r}\n")


def answer(turn):
    yield from turn.ask(tools=[price, order])
