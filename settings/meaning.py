"""How a setting is described: its meaning in one line, and what it must be."""

from typing import Any

from msgspec import Meta

HEADER_NAME = r"[A-Za-z0-9-]+"
URL = "an http:// or https:// URL"
LIST = "a list, separated by commas"
PHRASES = "sentences, separated by |"


def about(line: str, must: str, **bounds: Any) -> Meta:
    """Describe a setting: what it means, what it must be, and its bounds."""
    return Meta(description=line, extra={"must": must}, **bounds)


def whole(line: str, least: int, most: int) -> Meta:
    """Describe a whole number."""
    return about(line, f"a whole number, {least} to {most}", ge=least, le=most)


def seconds(line: str, least: float = 0.01) -> Meta:
    """Describe a number of seconds."""
    return about(line, f"a number of seconds, {least:g} or more", ge=least, le=86400)
