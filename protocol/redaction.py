"""Take out of other people's text what must not be passed on."""

import re
import unicodedata

CALLER_LIMIT = 200
"""Characters of an upstream's message that a caller is shown."""
LOG_LIMIT = 2000
"""Characters of an upstream's message that the log keeps."""
QUOTE_LIMIT = 64
"""Characters of a caller's own text that the log keeps."""

_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>]+")
_PATH = re.compile(r"(?<![\w/])(?:[A-Za-z]:)?(?:[/\\][\w.@~+-]+){2,}[/\\]?")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b")
_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|key|ghp|hf|AIza)[-_][\w*.-]{4,}"
    r"|\bBearer\s+\S+"
    # long, and with a stretch that mixes letters and digits, which names of models have not
    r"|(?<![\w-])(?=[\w-]{24})[\w-]*?(?<![A-Za-z0-9])(?=[A-Za-z]{0,40}\d)(?=\d{0,40}[A-Za-z])[A-Za-z0-9]{12,}[\w-]*",
    re.IGNORECASE,
)
_READ_LIMIT = 4000


def for_caller(text: str, key: str | None = None) -> str:
    """Return an upstream's message without addresses, paths and keys, at most 200 characters."""
    text = _without(key, text)
    for pattern in (_URL, _ADDRESS, _KEY, _PATH):
        text = pattern.sub("…", text)
    text = _printable(" ".join(text.split()))
    return text if len(text) <= CALLER_LIMIT else text[: CALLER_LIMIT - 1] + "…"


def for_log(text: str, key: str | None = None) -> str:
    """Return an upstream's message for the log: on one line, the key and what looks like one masked."""
    return _printable(_KEY.sub("***", _without(key, text)))[:LOG_LIMIT]


def _without(key: str | None, text: str) -> str:
    text = text[:_READ_LIMIT]
    return text.replace(key, "***") if key else text


def quoted(text: str) -> str:
    """Return a caller's own text for the log: at most 64 characters, on one line."""
    return _printable(text[:QUOTE_LIMIT])


def _printable(text: str) -> str:
    """Write line ends and control characters (terminals obey them) as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character)[0] in "CZ" and character != " "
        else character
        for character in text
    )
