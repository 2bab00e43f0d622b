"""Read JSON that strict decoders refuse, and make it such that they don't."""

import json
import re
from itertools import accumulate
from math import isfinite
from typing import Any

BOM = b"\xef\xbb\xbf"
# one that never ends counts too, else each of its quotes would be looked at as a beginning
_STRING = re.compile(rb'"[^"]*"?')
_HALF_PAIRS = re.compile("[\ud800-\udfff]+")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# an opening bracket counts 1, a closing one 255, which is -1 in a signed byte
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def mend(data: bytes, *, nan: bool) -> bytes:
    """Return the same JSON without a BOM, with half surrogates and invalid UTF-8 made U+FFFD, and NaN made null.

    Text that was cut in UTF-16 leaves half a surrogate pair behind (`"\\ud83d"`), which no UTF-8 can hold.
    `nan` says whether NaN, Infinity and numbers as large as that are let through (as null). Raises ValueError for
    what is no JSON all the same.
    """
    text = data.removeprefix(BOM).decode("utf-8", "replace")
    unsayable = _null if nan else _refuse

    def number(digits: str) -> Any:
        value = float(digits)
        return value if isfinite(value) else unsayable(digits)

    value = json.loads(text, parse_constant=unsayable, parse_float=number)
    whole = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _HALF_PAIRS.sub(lambda halves: "\ufffd" * len(halves[0]), whole).encode()


def _null(constant: str) -> Any:
    return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def more_than(limit: int, data: bytes) -> bool:
    """Tell whether JSON has more parts than `limit`, without decoding it: strings, commas and opening brackets.

    They are what decoding costs: ten megabytes of one text take 30 ms, ten megabytes of small objects a second.
    """
    if _marks(data) + data.count(b'"') <= limit:
        return False
    pieces = _without_escapes(data).split(b'"', 2 * limit)
    return len(pieces) // 2 + _marks(b"".join(pieces[::2])) > limit


def deeper_than(limit: int, data: bytes) -> bool:
    """Tell whether JSON is nested deeper than `limit`, without decoding it: a decoder's own stack is the limit else."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", _without_escapes(data)).translate(None, _NOT_BRACKETS)
    steps = memoryview(brackets.translate(_STEPS)).cast("b")
    return max(accumulate(steps), default=0) > limit


def _marks(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _without_escapes(data: bytes) -> bytes:
    """Return JSON whose quotes all begin or end a string."""
    return data.replace(b"\\\\", b"").replace(b'\\"', b"")
