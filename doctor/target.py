"""What is examined: an endpoint's full URL, and how it is asked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

# visible ASCII without what would end a header's line
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class BadTarget(ValueError):
    """Say that an endpoint can't be asked as it is given."""


@dataclass(frozen=True)
class Target:
    """One endpoint; `ca_file` has the certificates to trust where they are not the public ones."""

    url: SplitResult
    key: str | None = None
    model: str = "default"
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    is_audio: bool = False

    @property
    def is_secure(self) -> bool:
        """Tell whether it is asked over TLS."""
        return self.url.scheme == "https"

    @property
    def host(self) -> str:
        """Return its name or address."""
        return self.url.hostname or ""

    @property
    def port(self) -> int:
        """Return its port."""
        return self.url.port or (443 if self.is_secure else 80)

    @property
    def path(self) -> str:
        """Return its path and query."""
        return (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must not be shown: the key, and the values of the headers, of which one may be a key."""
        return tuple(secret for secret in (self.key, *self.headers.values()) if secret)

    @property
    def place(self) -> str:
        """Return its address as it may be shown: people carry secrets in a query, and in a name before an @."""
        return f"{self.url.scheme}://{self.url.netloc.rpartition('@')[2]}{self.url.path}"


def read_target(
    url: str,
    *,
    key: str | None = None,
    model: str = "default",
    headers: Mapping[str, str] | None = None,
    ca_file: str | None = None,
    audio: bool | None = None,
) -> Target:
    """Return the target that these words name; raise BadTarget. With `audio` None, the URL's path tells."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise BadTarget(f"the URL can't be read: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadTarget("the URL must be a whole one, as in https://host/chat/completions")
    if not _PLAIN.fullmatch(parts.path or "/") or " " in parts.path + parts.query or not parts.query.isascii():
        raise BadTarget("the URL holds a character that must be percent-encoded")
    for name, value in {**(headers or {}), "Authorization": key or "none"}.items():
        if not (_PLAIN.fullmatch(name) and _PLAIN.fullmatch(value)):
            raise BadTarget(f"{name} holds a character that no header may have")
    is_audio = "/audio/" in parts.path if audio is None else audio
    return Target(parts, key, model, headers or {}, ca_file, is_audio)
