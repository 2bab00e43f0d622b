"""A tool's parameters: what the LLM is told of each, and what becomes of the value that it sends."""

import inspect
from collections.abc import Mapping
from math import isfinite
from types import SimpleNamespace
from typing import Any, get_type_hints

import msgspec

_MISSING = inspect.Parameter.empty
_REF = "#/$defs/"
_NULL = {"type": "null"}
_TYPES = {str: "string", int: "integer", bool: "boolean"}


class Mismatch(ValueError):
    """Say what is wrong with a value, and where."""


class Parameter:
    """One parameter of a function: its name, its schema, and whether it must be given.

    Raises TypeError where its hint is missing, unknown, or of a type that JSON has no form for.
    """

    def __init__(self, parameter: inspect.Parameter, description: str | None, names: Mapping[str, Any]) -> None:
        self.name = parameter.name
        self.is_required = parameter.default is _MISSING
        self._default = parameter.default
        if parameter.annotation is _MISSING:
            raise TypeError("it has no type hint")
        self._hint = _resolved(parameter.annotation, names)
        self.schema, self.definitions = _schema(self._hint)
        if described := description or _described(self._hint):
            self.schema.setdefault("description", described)
        self._takes_null = self._fits(None)
        if not self.is_required:
            self._tell_default()

    def value(self, sent: Any) -> Any:
        """Return what the function gets for a decoded value, or `inspect.Parameter.empty` for its own default.

        Takes what LLMs send although it is not quite right: "2" for a number, 2 for a text, and null for what may be
        left out. Raises Mismatch.
        """
        if sent is None and not self.is_required and (self._default is None or not self._takes_null):
            return _MISSING
        if self.schema.get("type") == "string" and type(sent) is int:
            sent = str(sent)
        try:
            value = msgspec.convert(sent, self._hint, strict=False, str_keys=True)
        except msgspec.ValidationError as error:
            raise Mismatch(self._explained(str(error))) from None
        if isinstance(value, float) and not isfinite(value):
            raise Mismatch(f"{self.name}: expected a finite number")
        return value

    def _fits(self, value: Any) -> bool:
        try:
            msgspec.convert(value, self._hint)
        except msgspec.ValidationError:
            return False
        return True

    def _tell_default(self) -> None:
        if self._default is None:
            # null may be sent, but many upstreams don't know a union of types
            others = [each for each in self.schema.get("anyOf", ()) if each != _NULL]
            if len(others) == 1:
                self.schema = others[0] | {key: value for key, value in self.schema.items() if key != "anyOf"}
            return
        try:
            self.schema["default"] = msgspec.to_builtins(self._default)
        except (TypeError, ValueError):
            return  # what JSON has no form for, the LLM can't send either

    def _explained(self, error: str) -> str:
        """Return msgspec's words as "items[0].price: expected int, got str"."""
        text, _, path = error.partition(" - at `$")
        where = f"{self.name}{path.rstrip('`')}"
        text = text.replace("`", "")
        if text.startswith("Object missing required field "):
            return f"{where}.{text.rsplit(' ', 1)[1]}: missing"
        if not path and text.startswith("Invalid enum value"):
            allowed = [value for each in (self.schema, *self.schema.get("anyOf", ())) for value in each.get("enum", ())]
            text += f", expected one of {msgspec.json.encode(allowed).decode()}"
        return f"{where}: {text[0].lower()}{text[1:]}"


def _resolved(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return the type that an annotation means, also where it is text (`from __future__ import annotations`)."""
    try:
        holder = SimpleNamespace(__annotations__={"hint": annotation})
        return get_type_hints(holder, dict(names), include_extras=True)["hint"]
    except Exception as error:
        raise TypeError(f"its type hint can't be read: {type(error).__name__}: {error}") from None


def _schema(hint: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON schema of a type, and the definitions that it refers to because they contain themselves."""
    try:
        (schema,), components = msgspec.json.schema_components([hint], ref_template=_REF + "{name}")
        msgspec.json.Decoder(hint)  # which refuses unions that nobody could tell apart
    except (TypeError, ValueError, NameError) as error:
        raise TypeError(f"its type is not supported: {' '.join(str(error).split())}") from None
    definitions: dict[str, Any] = {}
    return _inlined(schema, components, (), definitions), definitions


def _inlined(schema: Any, components: dict[str, Any], within: tuple[str, ...], kept: dict[str, Any]) -> Any:
    """Return a schema with its definitions in the places that refer to them: many upstreams don't follow `$ref`."""
    if isinstance(schema, list):
        return [_inlined(each, components, within, kept) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        others = {key: value for key, value in schema.items() if key != "$ref"}
        if name in within:
            if name not in kept:
                kept[name] = {}
                kept[name] = _inlined(components[name], components, (name,), kept)
            return schema
        return _inlined(components[name] | others, components, (*within, name), kept)
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: _inlined(each, components, within, kept) for name, each in value.items()}
        elif key in ("default", "enum", "examples"):
            found[key] = value
        elif key != "title":
            found[key] = _inlined(value, components, within, kept)
    kinds = {_TYPES.get(type(value), "") for value in found.get("enum", ())}
    if len(kinds) == 1 and "" not in kinds:
        found.setdefault("type", kinds.pop())
    return found


def _described(hint: Any) -> str | None:
    """Return the text of `Annotated[int, "text"]`, which others write for a description."""
    if hasattr(hint, "__metadata__"):
        return next((each for each in hint.__metadata__ if isinstance(each, str)), None)
    return None
