"""What an LLM can call: a typed Python function with a docstring, and the schema that the LLM is given of it."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, overload

import msgspec

from agents.docstring import read_docstring
from agents.parameters import Mismatch, Parameter
from protocol.lenient import deeper_than, mend
from turns.tools import ToolError

TURN = "turn"
"""The parameter that the LLM does not see: the function gets the turn by it."""
_DEEPEST = 100
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "an array"}


class BadTool(TypeError):
    """Say why a function can't be a tool, naming it and its parameter."""


class WrongArguments(ToolError):
    """Tell the LLM what is wrong with the arguments that it sent, so that it can mend them."""


class Tool:
    """A function that the LLM can call: `name` and `schema` go into the request, `run` answers the call.

    `deadline_s` is how long a call may take, in seconds; None leaves that to the server. A tool is still the function:
    it can be called as such.
    """

    def __init__(
        self, function: Callable[..., Any], name: str | None, deadline_s: float | None, local_names: Mapping[str, Any]
    ) -> None:
        if not inspect.isroutine(function):
            raise BadTool(f"@tool takes a function, not {function!r}")
        functools.update_wrapper(self, function)
        self.name = name or function.__name__
        self.deadline_s = deadline_s
        self._function = function
        _check(function, self.name, deadline_s)
        description, described = read_docstring(function.__doc__ or "")
        if not description:
            raise BadTool(f"{self.name} needs a docstring: the LLM reads there what it is for")
        signature = inspect.signature(function)
        names = {**getattr(inspect.unwrap(function), "__globals__", {}), **local_names}
        self._takes_turn = TURN in signature.parameters
        self._parameters = {
            each.name: _parameter(self.name, each, described.get(each.name), names)
            for each in signature.parameters.values()
            if each.name != TURN
        }
        self._has_nothing_to_say = signature.return_annotation in (None, "None")
        self.schema: dict[str, Any] = {
            "type": "function",
            "function": {"name": self.name, "description": description, "parameters": self._schema()},
        }

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.name}>"

    def run(self, arguments: str, turn: Any = None) -> str:
        """Call the function with the JSON that the LLM sent, and return what the LLM gets to read.

        Text is returned as it is, all else as JSON, and of a function that is declared `-> None`: "done". Raises
        WrongArguments, TypeError where JSON has no form for the result, and whatever the function raises.
        """
        given = self._given(_read(arguments))
        if self._takes_turn:
            given[TURN] = turn
        result = self._function(**given)
        if result is None and self._has_nothing_to_say:
            return "done"
        if isinstance(result, str):
            # half a surrogate pair could be sent to nobody
            return result.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return msgspec.json.encode(result).decode()

    def _given(self, sent: dict[str, Any]) -> dict[str, Any]:
        """Return the function's arguments; raise one WrongArguments for all that is wrong with them."""
        given, wrong = {}, []
        for name, parameter in self._parameters.items():
            if name not in sent:
                if parameter.is_required:
                    wrong.append(f"{name}: missing")
                continue
            try:
                value = parameter.value(sent[name])
            except Mismatch as mismatch:
                wrong.append(str(mismatch))
            else:
                if value is not inspect.Parameter.empty:
                    given[name] = value
        known = ", ".join(self._parameters) or "none"
        wrong += [
            f"{name[:64]}: no such argument (there are: {known})" for name in sent if name not in self._parameters
        ]
        if wrong:
            raise WrongArguments("; ".join(wrong))
        return given

    def _schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: each.schema for name, each in self._parameters.items()},
            "required": [name for name, each in self._parameters.items() if each.is_required],
            "additionalProperties": False,
        }
        definitions: dict[str, Any] = {}
        for each in self._parameters.values():
            definitions |= each.definitions
        return schema | {"$defs": definitions} if definitions else schema


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(*, name: str | None = None, deadline_s: float | None = None) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, deadline_s: float | None = None
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function that has a docstring and a type hint for each parameter; raise BadTool.

    Written as `@tool`, or as `@tool(name="…", deadline_s=3)` for another name than the function's or a deadline of its
    own. A parameter called `turn` is not the LLM's: it is the running turn, which
    waits for the tool: it can be read, and not asked by.
    """
    if function is not None:
        return Tool(function, name, deadline_s, sys._getframe(1).f_locals)

    def decorate(function: Callable[..., Any]) -> Tool:
        # hints that are text may name classes that are local where the function is
        return Tool(function, name, deadline_s, sys._getframe(1).f_locals)

    return decorate


def _check(function: Callable[..., Any], name: str, deadline_s: float | None) -> None:
    if not _NAME.fullmatch(name):
        raise BadTool(f"{name}: a tool's name has 1 to 64 letters (a to z), digits, _ and -")
    if deadline_s is not None and not deadline_s > 0:
        raise BadTool(f"{name}: deadline_s must be more than 0")
    if inspect.iscoroutinefunction(function):
        raise BadTool(f"{name} is async: write a plain function, the server runs it beside the call")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadTool(f"{name} yields: return the whole result instead")


def _parameter(tool: str, parameter: inspect.Parameter, description: str | None, names: Mapping[str, Any]) -> Parameter:
    if parameter.kind not in _NAMED:
        raise BadTool(f"{tool}: {str(parameter).split(':')[0]} can't be a parameter: the LLM gives arguments by name")
    try:
        return Parameter(parameter, description, names)
    except TypeError as error:
        raise BadTool(f"{tool}: parameter {parameter.name}: {error}") from None


def _read(arguments: str) -> dict[str, Any]:
    """Return the arguments that an LLM sent; none at all may be "", null or {}."""
    if not arguments.strip():
        return {}
    try:
        read = _decoded(arguments)
        if isinstance(read, str):
            read = _decoded(read) if read.strip() else {}  # some send their JSON as a text of JSON
    except WrongArguments:
        raise
    except ValueError as error:
        raise WrongArguments(f"the arguments are no valid JSON: {error}") from None
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise WrongArguments(f"the arguments must be a JSON object, not {_KINDS[type(read)]}")
    return read


def _decoded(text: str) -> Any:
    data = text.encode("utf-8", "surrogatepass")
    if deeper_than(_DEEPEST, data):
        raise WrongArguments(f"the arguments are nested deeper than {_DEEPEST}")
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return msgspec.json.decode(mend(data, nan=False))
