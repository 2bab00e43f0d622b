"""Whole things in pieces, as a network delivers them."""

from typing import AnyStr


def cut(whole: AnyStr, *places: int) -> list[AnyStr]:
    """Cut bytes or a text at these places; one beyond the end cuts nothing, and no piece is empty."""
    edges = [0, *sorted(min(place, len(whole)) for place in places), len(whole)]
    return [whole[start:end] for start, end in zip(edges, edges[1:], strict=False) if start < end]


def cut_everywhere(whole: AnyStr) -> list[AnyStr]:
    """Cut bytes or a text into pieces of one."""
    return cut(whole, *range(len(whole)))
