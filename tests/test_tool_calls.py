import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_rules import Stream

from turns.tool_calls import ToolCalls

PARIS = '{"city": "Paris"}'
ROME = '{"city": "Rome"}'
Piece = dict[str, Any]


def piece(
    arguments: str | None = None, name: str | None = None, call_id: str | None = None, index: Any = None, **more: Any
) -> Piece:
    """Write a piece of a call as upstreams do, without what is None."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": call_id, **more}
    return {**{key: value for key, value in fields.items() if value is not None}, "function": function}


def collected(*chunks: list[Any]) -> list[dict[str, str]]:
    """Return the calls that a client puts together, after a look at each piece."""
    calls = ToolCalls()
    pieces = [piece for chunk in chunks for piece in calls.renumbered(chunk)]
    return Stream([{"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]} for piece in pieces]).tool_calls


def two(first: str, second: str, *names: str) -> list[tuple[str, str]]:
    """Return what two calls of the weather, or of these names, are."""
    return list(zip(names or ("weather", "weather"), (first, second), strict=True))


SHAPES: dict[str, tuple[list[list[Any]], list[tuple[str, str]]]] = {
    "OpenAI": (
        [
            [piece("", "weather", "a", 0)],
            [piece('{"city": ', index=0)],
            [piece('"Paris"}', index=0)],
            [piece("", "time", "b", 1)],
            [piece("{}", index=1)],
        ],
        two(PARIS, "{}", "weather", "time"),
    ),
    "pieces of two calls in turn": (
        [
            [piece("", "weather", "a", 0)],
            [piece("", "time", "b", 1)],
            [piece('{"city": ', index=0)],
            [piece("{", index=1)],
            [piece('"Paris"}', index=0)],
            [piece("}", index=1)],
        ],
        two(PARIS, "{}", "weather", "time"),
    ),
    "several in one chunk": (
        [[piece(PARIS, "weather", "a", 0), piece(ROME, "weather", "b", 1)]],
        two(PARIS, ROME),
    ),
    "pieces of several in one chunk": (
        [
            [piece('{"city": ', "weather", "a", 0), piece('{"city": ', "weather", "b", 1)],
            [piece('"Paris"}', index=0), piece('"Rome"}', index=1)],
        ],
        two(PARIS, ROME),
    ),
    "all at index 0": (
        [
            [piece("", "weather", "a", 0)],
            [piece(PARIS, index=0)],
            [piece("", "weather", "b", 0)],
            [piece(ROME, index=0)],
        ],
        two(PARIS, ROME),
    ),
    "all at index 0 in one chunk": (
        [[piece(PARIS, "weather", "a", 0), piece(ROME, "weather", "b", 0)]],
        two(PARIS, ROME),
    ),
    "all at index 0, ids in each piece, in turn": (
        [
            [piece('{"city": ', "weather", "a", 0), piece('{"city": ', "weather", "b", 0)],
            [piece('"Paris"}', None, "a", 0), piece('"Rome"}', None, "b", 0)],
        ],
        two(PARIS, ROME),
    ),
    "indexes from 1": (
        [[piece("", "weather", "a", 1)], [piece(PARIS, index=1)], [piece(ROME, "weather", "b", 2)]],
        two(PARIS, ROME),
    ),
    "indexes with gaps, backwards": (
        [[piece("", "weather", "a", 7)], [piece(ROME, "weather", "b", 3)], [piece(PARIS, index=7)]],
        two(PARIS, ROME),
    ),
    "no index": (
        [
            [piece("", "weather", "a")],
            [piece('{"city": ')],
            [piece('"Paris"}')],
            [piece("", "time", "b")],
            [piece("{}")],
        ],
        two(PARIS, "{}", "weather", "time"),
    ),
    "index null": (
        [
            [{"index": None, "id": "a", "function": {"name": "weather", "arguments": PARIS}}],
            [{"index": None, "id": "b", "function": {"name": "weather", "arguments": ROME}}],
        ],
        two(PARIS, ROME),
    ),
    "no index, several in one chunk": (
        [[piece(PARIS, "weather", "a"), piece(ROME, "weather", "b")]],
        two(PARIS, ROME),
    ),
    "no index, ids in each piece, in turn": (
        [
            [piece('{"city": ', "weather", "a"), piece('{"city": ', "weather", "b")],
            [piece('"Paris"}', None, "a"), piece('"Rome"}', None, "b")],
        ],
        two(PARIS, ROME),
    ),
    "no id": (
        [[piece("", "weather", index=0)], [piece(PARIS, index=0)], [piece(ROME, "weather", index=1)]],
        two(PARIS, ROME),
    ),
    "empty ids, all at index 0, in one chunk": (
        [[piece(PARIS, "weather", "", 0), piece(ROME, "weather", "", 0)]],
        two(PARIS, ROME),
    ),
    "empty ids, all at index 0, a chunk each": (
        [[piece(PARIS, "weather", "", 0)], [piece(ROME, "weather", "", 0)]],
        two(PARIS, ROME),
    ),
    "neither id nor index, in one chunk": ([[piece(PARIS, "weather"), piece(ROME, "weather")]], two(PARIS, ROME)),
    "neither id nor index, a chunk each": ([[piece(PARIS, "weather")], [piece(ROME, "weather")]], two(PARIS, ROME)),
    "neither id nor index, in pieces": (
        [[piece('{"city": ', "weather")], [piece('"Paris"}')], [piece("", "time")], [piece("{}")]],
        two(PARIS, "{}", "weather", "time"),
    ),
    "id and name in each piece": (
        [
            [piece("", "weather", "a", 0)],
            [piece('{"city": ', "weather", "a", 0)],
            [piece('"Paris"}', "weather", "a", 0)],
            [piece(ROME, "weather", "b", 1)],
            [piece("", "weather", "b", 1)],
        ],
        two(PARIS, ROME),
    ),
    "name in each piece, no id": (
        [
            [piece('{"city": ', "weather", index=0)],
            [piece('"Paris"}', "weather", index=0)],
            [piece(ROME, "weather", index=1)],
        ],
        two(PARIS, ROME),
    ),
    "empty ids and names in later pieces": (
        [
            [piece("", "weather", "a", 0)],
            [piece(PARIS, "", "", 0)],
            [piece("", "weather", "b", 1)],
            [piece(ROME, "", "", 1)],
        ],
        two(PARIS, ROME),
    ),
    "an id that comes late": (
        [[piece("", "weather", index=0)], [piece(PARIS, None, "a", 0)], [piece(ROME, "weather", "b", 1)]],
        two(PARIS, ROME),
    ),
    "a number for an id": (
        [[piece("", "weather", index=0, id=1)], [piece(PARIS, index=0, id=1)], [piece(ROME, "weather", index=0, id=2)]],
        two(PARIS, ROME),
    ),
    "odd pieces between": (
        [[None, piece(PARIS, "weather", "a", 0)], ["odd", 5], [piece(ROME, "weather", "b", 1)], []],
        two(PARIS, ROME),
    ),
    **{
        f"no arguments at all, {name}": (chunks, two("", "", "time", "time"))
        for name, chunks in {
            "OpenAI": [[piece(None, "time", "a", 0)], [piece(None, "time", "b", 1)]],
            "all at index 0": [[piece("", "time", "a", 0)], [piece("", "time", "b", 0)]],
            "no index": [[piece("", "time", "a")], [piece("", "time", "b")]],
            "neither id nor index, in one chunk": [[piece("", "time"), piece("", "time")]],
        }.items()
    },
    "no arguments at all, neither id nor index": (
        [[piece("", "date")], [piece("", "time")]],
        two("", "", "date", "time"),
    ),
}


@pytest.mark.parametrize(("chunks", "calls"), SHAPES.values(), ids=SHAPES)
def test_a_client_gets_each_call_once_and_whole(chunks: list[list[Any]], calls: list[tuple[str, str]]) -> None:
    found = collected(*chunks)

    assert [(call["name"], call["arguments"]) for call in found] == calls
    assert len({call["id"] for call in found}) == len(calls)


@pytest.mark.parametrize(("chunks", "calls"), SHAPES.values(), ids=SHAPES)
def test_an_upstreams_id_is_kept_and_a_missing_one_made(chunks: list[list[Any]], calls: list[tuple[str, str]]) -> None:
    theirs = {str(piece["id"]) for chunk in chunks for piece in chunk if isinstance(piece, dict) and piece.get("id")}
    named = {
        str(piece["id"])
        for chunk in chunks
        for piece in chunk
        if isinstance(piece, dict) and piece.get("id") and piece["function"].get("name")
    }

    ours = {call["id"] for call in collected(*chunks)}

    assert named <= ours
    assert all(call_id.startswith("call_") for call_id in ours - theirs)


def test_a_well_formed_piece_stays_as_it_is() -> None:
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": ""}, "x": 1}
    next_one = {"index": 0, "function": {"arguments": PARIS}}
    calls = ToolCalls()

    assert calls.renumbered([first]) == [first]
    assert calls.renumbered([next_one]) == [next_one]


def test_what_is_not_known_of_a_call_is_kept() -> None:
    calls = ToolCalls()
    signed = {"extra_content": {"google": {"thought_signature": "x"}}, "type": "custom"}

    (first,) = calls.renumbered([piece("{}", "f", "a", 1, **signed)])
    (later,) = calls.renumbered([piece("", "f", "a", 1, **signed, id2="b")])

    assert first == {"index": 0, "id": "a", **signed, "function": {"name": "f", "arguments": "{}"}}
    assert later == {"index": 0, **signed, "id2": "b", "function": {"arguments": ""}}


def test_a_name_that_comes_late_comes_once() -> None:
    calls = ToolCalls()
    chunks = [piece("", None, "a", 0), piece("", "weather", index=0), piece(PARIS, "weather", index=0)]

    found = [calls.renumbered([each])[0] for each in chunks]

    assert {each["index"] for each in found} == {0}
    assert [each["function"].get("name") for each in found] == [None, "weather", None]


@pytest.mark.parametrize("function", [None, "odd", [], {}])
def test_a_piece_without_a_function_does_no_harm(function: Any) -> None:
    calls = ToolCalls()

    (first,) = calls.renumbered([{"index": 0, "id": "a", "function": function}])
    (later,) = calls.renumbered([{"index": 0, "function": function}])

    assert first == {"index": 0, "id": "a", "type": "function", "function": function}
    assert later == {"index": 0, "function": function}


def test_a_piece_is_not_changed_in_place() -> None:
    sent = [piece("", "f", "a", 1), piece("", "f", "a", 1)]
    before = json.dumps(sent)

    ToolCalls().renumbered(sent)

    assert json.dumps(sent) == before


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(["weather", "time"]),
            st.dictionaries(st.sampled_from(["city", "}{"]), st.sampled_from(["Paris", '"', "{}"])).map(json.dumps),
        ),
        min_size=1,
        max_size=4,
    ),
    indexes=st.sampled_from(["dense", "from 1", "sparse", "zero", "none"]),
    ids=st.sampled_from(["once", "always", "none", "empty"]),
    names_each_piece=st.booleans(),
    size=st.integers(1, 20),
)
def test_calls_survive_every_dialect(
    calls: list[tuple[str, str]], indexes: str, ids: str, names_each_piece: bool, size: int
) -> None:
    chunks = []
    for place, (name, arguments) in enumerate(calls):
        index = {"dense": place, "from 1": place + 1, "sparse": 7 * place, "zero": 0, "none": None}[indexes]
        for at in range(0, len(arguments), size):
            is_first = at == 0
            call_id = {"none": None, "empty": ""}.get(ids, f"id{place}" if is_first or ids == "always" else None)
            said_name = name if is_first or names_each_piece else None
            chunks.append([piece(arguments[at : at + size], said_name, call_id, index)])

    found = collected(*chunks)

    assert [(call["name"], call["arguments"]) for call in found] == calls
