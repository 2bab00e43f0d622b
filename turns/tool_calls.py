"""Calls to tools, as upstreams stream them and as clients take them."""

import secrets
from typing import Any


class ToolCalls:
    """Number one answer's calls from 0 without gaps, whatever indexes and ids the upstream gives their pieces.

    Upstreams leave the index out, put every call at index 0, or repeat id and name in each piece; clients lose calls
    that share an index, crash where the first is 1, and concatenate what is repeated.
    """

    def __init__(self) -> None:
        self._calls: list[dict[str, str]] = []  # id and name of each call so far
        self._places: dict[int, int] = {}  # the upstream's index → ours

    def renumbered(self, pieces: list[Any]) -> list[dict[str, Any]]:
        """Return the pieces of one chunk, each with the index of its call, its id and name only the first time."""
        return [self._renumber(piece) for piece in pieces if isinstance(piece, dict)]

    def _renumber(self, piece: dict[str, Any]) -> dict[str, Any]:
        theirs = piece.get("index")
        function = piece.get("function")
        if not isinstance(function, dict):
            function = {}
        call_id, name = str(piece.get("id") or ""), str(function.get("name") or "")
        place = self._places.get(theirs) if isinstance(theirs, int) else len(self._calls) - 1
        if place is None or place < 0 or self._is_another(self._calls[place], call_id, name):
            place = len(self._calls)
            self._calls.append({"id": call_id or f"call_{secrets.token_hex(12)}", "name": name})
            if isinstance(theirs, int):
                self._places[theirs] = place
            return {**piece, "index": place, "id": self._calls[place]["id"], "type": piece.get("type") or "function"}
        known = self._calls[place]
        piece = {key: value for key, value in piece.items() if key != "id"}
        if name and name == known["name"]:
            piece["function"] = {key: value for key, value in function.items() if key != "name"}
        known["name"] = known["name"] or name
        return {**piece, "index": place}

    def _is_another(self, known: dict[str, str], call_id: str, name: str) -> bool:
        if call_id:
            return call_id != known["id"]
        # without ids, a name that comes when there is one already begins the next call
        return bool(name and known["name"] and name != known["name"])
