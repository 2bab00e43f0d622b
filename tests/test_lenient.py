import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from limits import cpu_limit

from protocol.lenient import BOM, deeper_than, mend, more_than

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(ANY_TEXT, values, max_size=4),
    max_leaves=12,
)


def depth(value: Any) -> int:
    """Count the levels of nesting."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


def whole(value: Any) -> Any:
    """Make each half of a surrogate pair, in keys too, U+FFFD."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
    if isinstance(value, dict):
        return {whole(key): whole(each) for key, each in value.items()}
    return [whole(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"a\ud83db"', "a\ufffdb"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\ud83d\ude00 \ud83d\ude00"', "\ufffd😀 😀"),
        (rb'{"\udfff": ["\ud800"]}', {"\ufffd": ["\ufffd"]}),
        (b'"\xff"', "\ufffd"),
        (b'"\xf0\x9f\x98"', "\ufffd"),
        (BOM + b"[1]", [1]),
        (BOM + rb'"\ud83d"', "\ufffd"),
        (rb'"\u2028\u0085\n"', "\u2028\x85\n"),
        (b" { } \n", {}),
    ],
)
def test_what_strict_decoders_refuse_is_mended(data: bytes, value: Any) -> None:
    assert msgspec.json.decode(mend(data, nan=False)) == value


def pairs_joined(value: Any) -> Any:
    """Write and read a value as JSON does, which makes one character of two halves that meet."""
    return json.loads(json.dumps(value))


@given(ANY_JSON)
@example("\ude00\ud83d")
def test_nothing_but_halves_of_surrogate_pairs_is_changed(value: Any) -> None:
    mended = mend(json.dumps(value).encode(), nan=False)

    assert msgspec.json.decode(mended) == whole(pairs_joined(value))
    assert b"\n" not in mended


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_a_number_that_json_has_not_is_refused_or_null(constant: bytes) -> None:
    data = b'{"a": [' + constant + b", 1.5]}"

    assert msgspec.json.decode(mend(data, nan=True)) == {"a": [None, 1.5]}
    with pytest.raises(ValueError):
        mend(data, nan=False)


@pytest.mark.parametrize("data", [b"", b" ", BOM, b"{", b"{'a': 1}", b'{"a": 1,}', b"nan", b'"\n"', b"[1] 2", b'"a'])
def test_what_is_no_json_stays_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        mend(data, nan=True)


@given(ANY_JSON, st.integers(0, 5), st.booleans())
def test_depth_is_counted_without_decoding(value: Any, limit: int, ascii_only: bool) -> None:
    data = json.dumps(pairs_joined(value), ensure_ascii=ascii_only).encode(errors="replace")

    assert deeper_than(limit, data) is (depth(value) > limit)


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (b"1", 0),
        (b"[]", 1),
        (b"[{}, [{}]]", 3),
        (b"[[], [], [[]]]", 3),
        (b'["[[[[", "{{{{"]', 1),
        (rb'["\"[[[[", "\\", [], "\\\"[[["]', 2),
        (b'{"[[[": {"]]]": "}}}"}}', 2),
        (b"]]][[[", 0),
        (b'"[[[[', 0),
        (b'["[[[[', 1),
        (b"[" * 100_000, 100_000),
    ],
)
def test_brackets_in_strings_are_not_nesting(data: bytes, levels: int) -> None:
    assert not deeper_than(levels, data)
    assert levels == 0 or deeper_than(levels - 1, data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 70 + b'"' + b'\\"' * 200_000,
        b"[" * 70 + b'"' + b"\\\\" * 200_000,
        b"[" * 70 + b'"' + b"a" * 400_000,
        b"[" * 70 + b'"' + b"\\" * 399_999,
        b'["' * 100_000,
        b"[],{}," * 70_000,
        b"[" * 400_000,
    ],
    ids=["escaped quotes", "backslashes", "letters", "an odd backslash", "strings", "pairs", "brackets"],
)
def test_depth_costs_time_by_the_size(data: bytes) -> None:
    with cpu_limit(0.5):
        deeper_than(64, data)


def parts(value: Any) -> int:
    """Count the strings, commas and opening brackets of a value's JSON."""
    if isinstance(value, dict):
        return 1 + max(len(value) - 1, 0) + len(value) + sum(map(parts, value.values()))
    if isinstance(value, list):
        return 1 + max(len(value) - 1, 0) + sum(map(parts, value))
    return int(isinstance(value, str))


@given(value=ANY_JSON, ascii_only=st.booleans())
@example(value={'a\\"': ["\\\\", '[{,"', "\\"]}, ascii_only=True)
def test_parts_are_counted_without_decoding(value: Any, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    assert not more_than(parts(value), data)
    assert parts(value) < 2 or more_than(parts(value) - 1, data)


@pytest.mark.parametrize(
    "data", [b"[" * 10_000_000, b'"' * 10_000_000, b'"' + b'\\"' * 5_000_000, b'"",' * 3_000_000, b"[,{" * 3_000_000]
)
def test_parts_cost_time_by_the_size(data: bytes) -> None:
    with cpu_limit(1):
        more_than(150_000, data)
