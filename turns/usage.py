"""How many tokens an answer took, where it was made of several."""

from collections.abc import Iterable
from typing import Any


def summed(usages: Iterable[Any]) -> dict[str, Any] | None:
    """Return the sum of what upstreams reported, number by number; None where none reported anything."""
    total: dict[str, Any] | None = None
    for usage in usages:
        if isinstance(usage, dict):
            total = usage if total is None else _added(total, usage)
    return total


def _added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    for name in one.keys() & other.keys():
        mine, theirs = one[name], other[name]
        if isinstance(mine, dict) and isinstance(theirs, dict):
            both[name] = _added(mine, theirs)
        elif _is_number(mine) and _is_number(theirs):
            both[name] = mine + theirs
    return both


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
