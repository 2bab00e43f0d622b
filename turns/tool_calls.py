"""Calls to tools, as upstreams stream them and as clients take them."""

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass
class _Call:
    place: int
    id: str  # the upstream's, "" where it gave none
    name: str
    arguments: str = ""
    named_in: int = 0  # the number of the chunk that named it
    shown_id: str = ""  # the caller's: ours where the upstream gave none

    def is_whole(self) -> bool:
        try:
            msgspec.json.decode(self.arguments)
        except msgspec.DecodeError:
            return False
        return True


class ToolCalls:
    """Number one answer's calls from 0 without gaps, whatever indexes and ids the upstream gives their pieces.

    Upstreams leave the index or the id out, put every call at index 0, or repeat id and name in each piece; clients
    lose calls that share an index, crash where the first is 1, and concatenate what is repeated.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}  # the upstream's index → the call that it means now
        self._chunks = 0

    def whole(self) -> list[dict[str, Any]]:
        """Return the calls as they stand by now, in the form of an assistant's message."""
        return [
            {
                "id": call.shown_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments if call.is_whole() else "{}"},
            }
            for call in self._calls
        ]

    def renumbered(self, pieces: list[Any]) -> list[dict[str, Any]]:
        """Return the pieces of one chunk, each with the index of its call, its id and name only the first time."""
        self._chunks += 1
        return [self._renumber(piece) for piece in pieces if isinstance(piece, dict)]

    def _renumber(self, piece: dict[str, Any]) -> dict[str, Any]:
        function = piece.get("function")
        if not isinstance(function, dict):
            function = {}
        index, call_id, name = piece.get("index"), str(piece.get("id") or ""), str(function.get("name") or "")
        call = self._find(index, call_id, name)
        is_new = call is None
        if call is None:
            call = _Call(len(self._calls), call_id, name)
            self._calls.append(call)
            call.shown_id = call_id or f"call_{secrets.token_hex(12)}"
            piece = {**piece, "id": call.shown_id, "type": piece.get("type") or "function"}
        else:
            piece = {key: value for key, value in piece.items() if key != "id"}
            if name and name == call.name:
                piece["function"] = {key: value for key, value in function.items() if key != "name"}
            call.id, call.name = call.id or call_id, call.name or name
        if isinstance(index, int):
            self._by_index[index] = call
        if name and (is_new or call.named_in == 0):
            call.named_in = self._chunks
        arguments = function.get("arguments")
        call.arguments += arguments if isinstance(arguments, str) else ""
        return {**piece, "index": call.place}

    def _find(self, index: Any, call_id: str, name: str) -> _Call | None:
        """Return the call that a piece goes on with, None for a piece that begins one."""
        if call_id and (known := next((call for call in self._calls if call.id == call_id), None)):
            return known
        call = self._by_index.get(index) if isinstance(index, int) else (self._calls[-1] if self._calls else None)
        if call is None or (call_id and (call.id or name)):
            return None
        if name and call.name and (name != call.name or call.named_in == self._chunks or call.is_whole()):
            # without ids, a name that comes when there is one begins the next call
            return None
        return call
