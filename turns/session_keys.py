"""Which session a request belongs to, as a key that tells nothing of the caller."""

import hmac
from typing import Any, Protocol

from protocol.request import ChatRequest

ROOT_FIELD = "session_id"
"""The root field, and the query's argument, that carries a session's id."""
ID_LIMIT = 256
"""Characters that an id may have."""

# what an upstream or this server needs at the root, and what can't name a channel
_NO_CHANNEL = frozenset({"messages", "model", "stream", "stream_options", "tools", "params", ROOT_FIELD})


class Names(Protocol):
    """Headers, or the query's arguments."""

    def get(self, key: str, /) -> str | None:
        """Return the first value of this name, None if there is none."""
        ...


class SessionKeys:
    """Find the session of a request, where it carries one.

    The id is looked for in the header of this name, at the root as `session_id`, and in the query; the first place that
    holds anything decides. Else it is `metadata.user` of the last user message, together with the root field
    `channel_field`, if one is given: the same uid is another caller in another channel. A request without an id has no
    session, and neither has one whose id can't be told from others: there is no default that callers could share.

    `secret` is one that all processes share, if there is one: it keeps who can read keys from guessing ids. Raises
    ValueError for a channel field that can't be one.
    """

    def __init__(self, header: str = "X-Session-Id", channel_field: str | None = None, *, secret: bytes = b"") -> None:
        if channel_field in _NO_CHANNEL:
            raise ValueError(f"the root field {channel_field!r} can't name a channel")
        self.header = header
        self.channel_field = channel_field
        self._secret = secret

    @property
    def fields(self) -> frozenset[str]:
        """Return the root fields that are for this server alone, and not for an upstream."""
        return frozenset({ROOT_FIELD, self.channel_field or ROOT_FIELD})

    def key_of(self, endpoint: str, shown: str, chat: ChatRequest, headers: Names, query: Names) -> str | None:
        """Return the key of a request's session, 64 hexadecimal digits, or None if it has none.

        `shown` is the Bearer that the caller showed, "" for none. It is part of the key, and so is the endpoint:
        whoever shows another key can't meet this session, whatever id is sent.
        """
        name = self._name(chat, headers, query)
        if name is None:
            return None
        # hashed first: as HMAC's own key "k" and "k\0" would be the same
        signed = hmac.digest(self._secret, shown.encode("utf-8", "surrogatepass"), "sha256")
        return hmac.digest(signed, f"{endpoint}\0{name}".encode("utf-8", "surrogatepass"), "sha256").hex()

    def _name(self, chat: ChatRequest, headers: Names, query: Names) -> str | None:
        for value in (_utf8(headers.get(self.header)), _root(chat, ROOT_FIELD), query.get(ROOT_FIELD)):
            if value is not None and not (isinstance(value, str) and not value.strip()):
                found = _id(value)
                return None if found is None else f"id:{found}"
        if self.channel_field is None:
            return None
        channel, user = _id(_root(chat, self.channel_field)), _id(_user(chat))
        if channel is None or user is None:
            return None
        return f"user:{len(channel)}:{channel}{user}"


def _root(chat: ChatRequest, field: str) -> Any:
    return chat.extras[field] if field in chat.extras else chat.body.get(field)


def _user(chat: ChatRequest) -> Any:
    for message in reversed(chat.messages):
        if message["role"] == "user":
            metadata = message.get("metadata")
            return metadata.get("user") if isinstance(metadata, dict) else None
    return None


def _id(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= ID_LIMIT:
        value = str(value)
    if not isinstance(value, str):
        return None
    value = value.strip()
    # U+FFFD stands for bytes that were no UTF-8: two ids may look the same with it
    return value if 0 < len(value) <= ID_LIMIT and "\ufffd" not in value else None


def _utf8(header: str | None) -> str | None:
    """Return a header as the same id reads in JSON: WSGI takes its bytes for Latin-1."""
    try:
        return header.encode("latin-1").decode() if header else None
    except UnicodeError:
        return header
