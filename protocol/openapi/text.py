"""Text in both languages of the product, inside of a document that is then said in one of them."""

from typing import Any, NamedTuple

from protocol.language import Language


class Text(NamedTuple):
    """One text in both languages."""

    en: str
    zh: str


def said(node: Any, language: Language) -> Any:
    """Return a copy of a JSON document with each Text in one language."""
    if isinstance(node, Text):
        return node.zh if language == "zh" else node.en
    if isinstance(node, dict):
        return {key: said(value, language) for key, value in node.items()}
    if isinstance(node, list):
        return [said(value, language) for value in node]
    return node
