"""Take out of other people's text what must not be passed on."""

import re
import unicodedata

CALLER_LIMIT = 200
"""Characters of an upstream's message that a caller is shown."""
LOG_LIMIT = 2000
"""Characters of an upstream's message that the log keeps."""
QUOTE_LIMIT = 64
"""Characters of a caller's own text that the log keeps."""

# begun in ASCII alone: to \b and \w a Chinese character is a letter, and what stands beside one would be missed
_URL = re.compile(r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{0,30}://[!#-&(-;=?-~]+")
_ADDRESS = re.compile(r"(?<![A-Za-z0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]+)?(?![A-Za-z0-9])")
_PATH = re.compile(r"(?<![A-Za-z0-9_/])(?:[A-Za-z]:)?(?:[/\\][\w.@~+-]+){2,}[/\\]?")
_KNOWN_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|gsk|xai|key|ghp|hf|AIza)[-_][A-Za-z0-9_*.-]{4,}|Bearer\s+[!-~]+)", re.IGNORECASE
)
_LONG_WORD = re.compile(r"[A-Za-z0-9_.-]{24,}")
_MIXED = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{12,}")
_READ_LIMIT = 4000


def for_caller(text: str, key: str | None = None) -> str:
    """Return an upstream's message without addresses, paths and keys, at most 200 characters."""
    text = _without_keys(text, key, "…")
    for pattern in (_URL, _ADDRESS, _PATH):
        text = pattern.sub("…", text)
    text = _printable(" ".join(text.split()))
    return text if len(text) <= CALLER_LIMIT else text[: CALLER_LIMIT - 1] + "…"


def for_log(text: str, key: str | None = None) -> str:
    """Return an upstream's message for the log: on one line, the key and what looks like one masked."""
    return _printable(_without_keys(text, key, "***"))[:LOG_LIMIT]


def _without_keys(text: str, key: str | None, mask: str) -> str:
    if key:
        text = text.replace(key, "***")
    text = _KNOWN_KEY.sub(mask, text[:_READ_LIMIT])
    return _LONG_WORD.sub(lambda word: mask if _is_key(word[0]) else word[0], text)


def _is_key(word: str) -> bool:
    """Tell a key from a model's name: it has a long part that mixes letters and digits."""
    return any(_MIXED.fullmatch(part) for part in re.split(r"[._-]", word))


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
