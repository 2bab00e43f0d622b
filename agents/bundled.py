"""The tools that come with the server. Each is offered to the LLM only where it is switched on."""

from collections.abc import Callable
from typing import Annotated, Any

from agents import arithmetic, clock
from agents.tool import Tool, WrongArguments, tool


@tool
def current_time(zone: Annotated[str, "An IANA time zone, such as Europe/Berlin, Asia/Shanghai or UTC"]) -> str:
    """Tell the date, the weekday and the time of day in a time zone, as they are now."""
    try:
        return clock.time_in(zone)
    except clock.UnknownZone as error:
        raise WrongArguments(f"zone: {error}") from None


@tool
def calculate(expression: Annotated[str, "Numbers, + - * / // % ^, brackets; e.g. round(3 * 19.99 * 1.19, 2)"]) -> str:
    """Calculate exactly, in decimal numbers. Functions: abs, ceil, floor, max, min, round, sqrt; constants: pi, e."""
    try:
        return arithmetic.calculate(expression)
    except arithmetic.CannotCalculate as error:
        raise WrongArguments(f"expression: {error}") from None


def search_tool(search: Callable[[Any, str], str]) -> Tool:
    """Return the tool that looks a question up; `search` gets the turn and the question, and returns what was found."""

    @tool
    def search_knowledge(question: Annotated[str, "What is to be found out: a whole question"], turn: Any) -> str:
        """Look up what the documents say about a question: facts about the company, its products and its services."""
        return search(turn, question)

    return search_knowledge
