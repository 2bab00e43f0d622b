"""What JSON Schemas in both languages are made of."""

from typing import Any

from protocol.openapi.text import Text

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(description: Text, properties: Schema, *required: str) -> Schema:
    """Return an object with these fields, and any others."""
    found: Schema = {"type": "object", "description": description, "properties": properties}
    return found | ({"required": list(required)} if required else {})


def or_null(kind: str, en: str, zh: str, **more: Any) -> Schema:
    """Return a value of this type, or null."""
    return {"type": [kind, "null"], "description": Text(en, zh), **more}


def anything(en: str, zh: str, **more: Any) -> Schema:
    """Return what may be anything."""
    return {"description": Text(en, zh), **more}
