from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from operator import getitem
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypedDict, Union

import msgspec
import pytest
from msgspec import Meta, Struct

from agents import Tool, WrongArguments, tool
from agents.tool import BadTool

if TYPE_CHECKING:
    from turns.turn import Turn


# as people write who know an older Python
OPTIONAL_INT = getitem(Optional, int)
INT_OR_STR = getitem(Union, (int, str))


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Item:
    name: str
    count: int = 1


class Person(Struct):
    """Who orders."""

    name: str
    title: str | None = None


class Place(TypedDict, total=False):
    street: str
    number: int


class Part(Struct):
    name: str
    parts: list[Part] = []


class Husband(Struct):
    wife: Wife | None = None


class Wife(Struct):
    husband: Husband | None = None


def taking(hint: Any, **default: Any) -> Tool:
    """Return a tool with one parameter `x` of that type, which returns what it gets."""

    def give_back(x: Any) -> Any:
        """Give it back."""
        return x

    give_back.__annotations__ = {"x": hint}
    give_back.__defaults__ = tuple(default.values()) or None
    return tool(give_back)


def parameters(of: Tool) -> dict[str, Any]:
    found: dict[str, Any] = of.schema["function"]["parameters"]
    return found


def property_of(of: Tool) -> dict[str, Any]:
    found: dict[str, Any] = parameters(of)["properties"]["x"]
    return found


def complaint(of: Tool, arguments: str) -> str:
    with pytest.raises(WrongArguments) as caught:
        of.run(arguments)
    return str(caught.value)


@tool
def order(item: str, count: int = 1, *, size: Literal["small", "large"] = "small") -> str:
    """Order something from the shop."""
    return f"{count} {size} {item}"


def test_a_function_becomes_a_tool_in_openais_form() -> None:
    assert order.name == "order"
    assert order.deadline_s is None
    assert order.schema == {
        "type": "function",
        "function": {
            "name": "order",
            "description": "Order something from the shop.",
            "parameters": {
                "type": "object",
                "properties": {
                    "item": {"type": "string"},
                    "count": {"type": "integer", "default": 1},
                    "size": {"type": "string", "enum": ["large", "small"], "default": "small"},
                },
                "required": ["item"],
                "additionalProperties": False,
            },
        },
    }


def test_a_tool_is_still_the_function() -> None:
    assert order("lamp", 2) == "2 small lamp"
    assert order.__doc__ == "Order something from the shop."
    assert repr(order) == "<tool order>"


def test_a_tool_may_have_another_name_and_a_deadline() -> None:
    @tool(name="place-order", deadline_s=2.5)
    def place() -> str:
        """Order."""
        return "ordered"

    assert (place.name, place.deadline_s, place.run("")) == ("place-order", 2.5, "ordered")
    assert place.schema["function"]["name"] == "place-order"


def test_a_method_is_a_tool_of_its_object() -> None:
    class Shop:
        def sell(self, item: str) -> str:
            """Sell."""
            return f"{item} sold by {type(self).__name__}"

    assert tool(Shop().sell).run('{"item": "lamp"}') == "lamp sold by Shop"


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (list, {"type": "array"}),
        (dict, {"type": "object"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
        (Literal[1, "a"], {"enum": [1, "a"]}),
        (Size, {"type": "string", "enum": ["large", "small"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (list[Size], {"type": "array", "items": {"type": "string", "enum": ["large", "small"]}}),
        (INT_OR_STR, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (date, {"type": "string", "format": "date"}),
        (
            Annotated[int, Meta(description="How many", ge=1)],
            {"type": "integer", "description": "How many", "minimum": 1},
        ),
        (Annotated[int, "How many"], {"type": "integer", "description": "How many"}),
        ("int", {"type": "integer"}),
        ("list[Size]", {"type": "array", "items": {"type": "string", "enum": ["large", "small"]}}),
        (
            Item,
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
                "required": ["name"],
            },
        ),
        (
            Person,
            {
                "type": "object",
                "description": "Who orders.",
                "properties": {
                    "name": {"type": "string"},
                    "title": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                },
                "required": ["name"],
            },
        ),
        (
            Place,
            {
                "type": "object",
                "properties": {"street": {"type": "string"}, "number": {"type": "integer"}},
                "required": [],
            },
        ),
    ],
)
def test_the_schema_comes_from_the_type_hint(hint: Any, schema: dict[str, Any]) -> None:
    assert property_of(taking(hint)) == schema


@pytest.mark.parametrize("hint", [OPTIONAL_INT, int | None, int, Annotated[int, Meta(ge=1)] | None])
def test_a_parameter_that_may_be_none_by_default_is_told_as_one_that_may_be_left_out(hint: Any) -> None:
    of = taking(hint, x=None)

    assert property_of(of)["type"] == "integer"
    assert "anyOf" not in property_of(of)
    assert parameters(of)["required"] == []
    assert [of.run(sent) for sent in ("{}", '{"x": null}', '{"x": 3}')] == ["null", "null", "3"]


@pytest.mark.parametrize(
    ("default", "told"),
    [(Size.LARGE, "large"), (date(2026, 11, 26), "2026-11-26"), ([1], [1]), (Item("a"), {"name": "a", "count": 1})],
)
def test_a_default_is_told_as_json(default: Any, told: Any) -> None:
    assert property_of(taking(type(default), x=default))["default"] == told


def test_a_default_that_json_has_no_form_for_is_not_told() -> None:
    nothing = object()
    of = taking(int, x=nothing)

    assert property_of(of) == {"type": "integer"}
    assert of("mine") == "mine"


def test_types_that_contain_themselves_are_defined_once_and_nothing_else_is() -> None:
    of = taking(Part)

    assert property_of(of)["properties"]["parts"] == {"type": "array", "items": {"$ref": "#/$defs/Part"}, "default": []}
    assert list(parameters(of)["$defs"]) == ["Part"]
    assert of.run('{"x": {"name": "a", "parts": [{"name": "b"}]}}') == (
        '{"name":"a","parts":[{"name":"b","parts":[]}]}'
    )


def test_types_that_contain_each_other_are_defined_too() -> None:
    text = msgspec.json.encode(parameters(taking(Husband))).decode()

    assert text.count("#/$defs/") >= 1
    assert all(f'"{name}"' in text for name in ("husband", "wife"))
    assert set(parameters(taking(Husband))["$defs"]) == {"Husband"}


def test_local_classes_can_be_hints_of_a_function_beside_them() -> None:
    @dataclass
    class Drink:
        name: str

    @tool
    def pour(drink: Drink) -> str:
        """Pour."""
        return drink.name

    @tool(name="pour_all")
    def pour_all(drinks: list[Drink] | None = None) -> str:
        """Pour all."""
        return str(len(drinks or []))

    assert pour.run('{"drink": {"name": "tea"}}') == "tea"
    assert pour_all.run('{"drinks": [{"name": "tea"}]}') == "1"


def test_parameters_are_described_by_the_docstring_in_googles_style() -> None:
    @tool
    def book(day: str, people: int, name: Annotated[str, Meta(description="Whose")] = "") -> None:
        """Book a table.

        Only for tonight: no later.

        Args:
            day (str): The day, as in
                2026-11-26.
            people: How many: 2 to 8
            name: not this

        Returns:
            Nothing.
        """

    assert book.schema["function"]["description"] == (
        "Book a table.\n\nOnly for tonight: no later.\n\nReturns:\n    Nothing."
    )
    told = {name: each["description"] for name, each in parameters(book)["properties"].items()}
    assert told == {"day": "The day, as in 2026-11-26.", "people": "How many: 2 to 8", "name": "Whose"}


def test_parameters_are_described_by_the_docstring_in_sphinxs_style() -> None:
    @tool
    def book(day: str, people: int) -> None:
        """Book a table.

        :param day: The day,
            as a date
        :param int people: How many
        :raises ValueError: never
        """

    assert book.schema["function"]["description"] == "Book a table.\n\n:raises ValueError: never"
    told = [each["description"] for each in parameters(book)["properties"].values()]
    assert told == ["The day, as a date", "How many"]


def test_the_turn_is_passed_in_and_the_llm_does_not_see_it() -> None:
    @tool
    def who(turn: Turn, greeting: str) -> str:
        """Tell who calls."""
        return f"{greeting} {turn}"

    assert list(parameters(who)["properties"]) == ["greeting"]
    assert who.run('{"greeting": "hello"}', "Ann") == "hello Ann"
    assert "turn: no such argument (there are: greeting)" in complaint(who, '{"greeting": "a", "turn": "b"}')


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("text", "text"),
        ("", ""),
        ("电话 ☎", "电话 ☎"),
        ("cut \ud83d", "cut \ufffd"),
        (None, "null"),
        (3, "3"),
        (True, "true"),
        ([1, "a"], '[1,"a"]'),
        ({"a": Item("b")}, '{"a":{"name":"b","count":1}}'),
        (Decimal("1.10"), '"1.10"'),
        (date(2026, 11, 26), '"2026-11-26"'),
        (Size.SMALL, '"small"'),
        (Person("Ann"), '{"name":"Ann","title":null}'),
    ],
)
def test_the_result_is_text_or_json(result: Any, text: str) -> None:
    def look() -> Any:
        """Look."""
        return result

    told = tool(look).run("{}")
    del look.__annotations__["return"]

    assert told == tool(look).run("{}") == text


def test_a_function_that_returns_nothing_by_its_hint_is_done() -> None:
    @tool
    def act() -> None:
        """Act."""

    assert act.run("{}") == "done"


def test_a_result_that_json_has_no_form_for_is_an_error_of_the_function() -> None:
    @tool
    def look() -> object:
        """Look."""
        return object()

    with pytest.raises(TypeError, match="object"):
        look.run("{}")


def test_an_error_in_the_function_comes_out_as_it_is() -> None:
    @tool
    def fail() -> None:
        """Fail."""
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail.run("{}")


@pytest.mark.parametrize("arguments", ["", " \n", "{}", "null", '""', '"{}"', '"null"'])
def test_no_arguments_may_be_sent_in_any_way(arguments: str) -> None:
    @tool
    def look(where: str = "here") -> str:
        """Look."""
        return where

    assert look.run(arguments) == "here"


@pytest.mark.parametrize(
    ("hint", "sent", "value"),
    [
        (int, '"2"', "2"),
        (int, "2.0", "2"),
        (float, '"2.5"', "2.5"),
        (float, "2", "2.0"),
        (bool, '"true"', "true"),
        (bool, "1", "true"),
        (str, "4711", "4711"),
        (list[int], '["1", 2]', "[1,2]"),
        (dict[int, str], '{"1": "a"}', '{"1":"a"}'),
        (Item, '{"name": "a", "count": "2", "colour": "red"}', '{"name":"a","count":2}'),
        (int | None, "null", "null"),
        (int | None, '"null"', "null"),
        (Size, '"large"', '"large"'),
        (Decimal, "0.1", '"0.1"'),
        (str, '"cut \\ud83d"', "cut \ufffd"),
        (str, '"a\\u2028b"', "a\u2028b"),
        (int, str(2**63), str(2**63)),
    ],
)
def test_what_llms_send_though_it_is_not_quite_right_is_taken(hint: Any, sent: str, value: str) -> None:
    assert taking(hint).run(f'{{"x": {sent}}}') == value


def test_arguments_that_are_json_in_a_text_of_json_are_taken() -> None:
    assert order.run('"{\\"item\\": \\"lamp\\"}"') == "1 small lamp"


def test_null_for_what_may_be_left_out_leaves_it_out() -> None:
    assert order.run('{"item": "lamp", "count": null, "size": null}') == "1 small lamp"


def test_null_is_a_value_where_it_is_not_the_default() -> None:
    assert taking(int | None, x=5).run('{"x": null}') == "null"


@pytest.mark.parametrize(
    ("hint", "sent", "told"),
    [
        (int, '"two"', "x: expected int, got str"),
        (int, "2.5", "x: expected int, got float"),
        (int, "null", "x: expected int, got null"),
        (str, "[]", "x: expected str, got array"),
        (str, "true", "x: expected str, got bool"),
        (float, '"nan"', "x: expected a finite number"),
        (Annotated[int, Meta(ge=1)], "0", "x: expected int >= 1"),
        (Literal["a", "b"], '"c"', 'x: invalid enum value \'c\', expected one of ["a","b"]'),
        (Size, '"huge"', 'x: invalid enum value \'huge\', expected one of ["large","small"]'),
        (Size | None, '"huge"', 'x: invalid enum value \'huge\', expected one of ["large","small"]'),
        (list[Item], '[{"name": "a"}, {"name": 1}]', "x[1].name: expected str, got int"),
        (list[Item], "[{}]", "x[0].name: missing"),
        (Item, "{}", "x.name: missing"),
        (date, '"tomorrow"', "x: invalid RFC3339 encoded date"),
    ],
)
def test_a_wrong_argument_is_told_with_its_place(hint: Any, sent: str, told: str) -> None:
    assert complaint(taking(hint), f'{{"x": {sent}}}') == told


def test_everything_that_is_wrong_is_told_at_once() -> None:
    told = complaint(order, '{"count": "many", "size": "huge", "colour": "red"}').split("; ")

    assert told == [
        "item: missing",
        "count: expected int, got str",
        'size: invalid enum value \'huge\', expected one of ["large","small"]',
        "colour: no such argument (there are: item, count, size)",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{", "the arguments are no valid JSON: "),
        ('{"item": "lamp"', "the arguments are no valid JSON: "),
        ("{'item': 'lamp'}", "the arguments are no valid JSON: "),
        ("lamp", "the arguments are no valid JSON: "),
        ('{"item": 1e999}', "the arguments are no valid JSON: 1e999"),
        ('{"item": NaN}', "the arguments are no valid JSON: "),
        ('"lamp"', "the arguments are no valid JSON: "),
        ("\ud83d", "the arguments are no valid JSON: "),
        ("[]", "the arguments must be a JSON object, not an array"),
        ("1", "the arguments must be a JSON object, not a number"),
        ("true", "the arguments must be a JSON object, not true or false"),
        ("[" * 100_000, "the arguments are nested deeper than 100"),
        ('{"item":' * 100_000, "the arguments are nested deeper than 100"),
        ('{"item":' + "[" * 100 + "]" * 100 + "}", "the arguments are nested deeper than 100"),
    ],
)
def test_arguments_that_are_no_json_object_are_told_so(arguments: str, told: str) -> None:
    assert complaint(order, arguments).startswith(told)


def test_a_thousand_calls_are_fast() -> None:
    started = time.perf_counter()
    for _ in range(1000):
        order.run('{"item": "lamp", "count": "2", "size": "large"}')

    assert time.perf_counter() - started < 0.5


def no_docstring(x: int) -> None:
    pass


def no_hint(x: int) -> None:
    """Do."""


del no_hint.__annotations__["x"]


def many(*things: str) -> None:
    """Do."""


def options(**things: str) -> None:
    """Do."""


def by_place(x: int, /) -> None:
    """Do."""


def a_custom_type(x: Iterator[int]) -> None:
    """Do."""


def an_unknown_type(x: int) -> None:
    """Do."""


an_unknown_type.__annotations__["x"] = "Nowhere"


def a_union_that_nobody_can_tell_apart(x: Item | Person) -> None:
    """Do."""


async def later(x: int) -> None:
    """Do."""


def piecewise(x: int) -> Iterator[int]:
    """Do."""
    yield x


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (no_docstring, "no_docstring needs a docstring"),
        (no_hint, "no_hint: parameter x: it has no type hint"),
        (many, r"many: \*things can't be a parameter"),
        (options, r"options: \*\*things can't be a parameter"),
        (by_place, "by_place: x can't be a parameter"),
        (a_custom_type, "a_custom_type: parameter x: its type is not supported: .*Iterator"),
        (an_unknown_type, "an_unknown_type: parameter x: its type hint can't be read: NameError: .*Nowhere"),
        (a_union_that_nobody_can_tell_apart, "parameter x: its type is not supported: Type unions may not"),
        (later, "later is async: write a plain function"),
        (piecewise, "piecewise yields: return the whole result instead"),
        (lambda: 1, "<lambda>: a tool's name has"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_by_name(function: Callable[..., Any], told: str) -> None:
    with pytest.raises(BadTool, match=told):
        tool(function)


@pytest.mark.parametrize("name", ["two words", "名", "a" * 65, "a.b"])
def test_a_name_that_openai_refuses_is_refused(name: str) -> None:
    with pytest.raises(BadTool, match="a tool's name has 1 to 64 letters"):

        @tool(name=name)
        def act() -> None:
            """Act."""


@pytest.mark.parametrize("deadline_s", [0, -1.0, float("nan")])
def test_a_deadline_that_is_none_is_refused(deadline_s: float) -> None:
    with pytest.raises(BadTool, match="act: deadline_s must be more than 0"):

        @tool(deadline_s=deadline_s)
        def act() -> None:
            """Act."""


def test_something_else_than_a_function_is_refused() -> None:
    not_a_function: Any = "order"

    with pytest.raises(BadTool, match="@tool takes a function, not 'order'"):
        tool(not_a_function)
