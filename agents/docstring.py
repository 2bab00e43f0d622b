"""What a docstring says about a function and about each of its parameters."""

import inspect
import re

_SECTION = re.compile(r"(?:Args|Arguments|Parameters):\s*$")
_ENTRY = re.compile(r"(\w+)\s*(?:\([^)]*\))?\s*:\s+(.+)")
_FIELD = re.compile(r":param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)")


def read_docstring(docstring: str) -> tuple[str, dict[str, str]]:
    """Return the description of a function, and those of its parameters by name.

    Parameters are described in Google's style (`Args:` and an indented line for each) or in Sphinx's (`:param x: …`);
    the lines that describe them are no part of the function's own description.
    """
    described: dict[str, str] = {}
    kept: list[str] = []
    in_section, current, indent = False, "", 0
    for line in inspect.cleandoc(docstring).split("\n"):
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if field := _FIELD.match(text):
            in_section, current, indent = False, field[1], depth
            described[current] = field[2]
        elif not depth and _SECTION.match(text):
            in_section, current, indent = True, "", 0
        elif text and current and depth > indent:
            described[current] = f"{described[current]} {text}".strip()
        elif in_section and depth and (entry := _ENTRY.match(text)):
            current, indent = entry[1], depth
            described[current] = entry[2]
        elif text or not in_section:
            in_section, current = in_section and depth > 0, ""
            kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), described
