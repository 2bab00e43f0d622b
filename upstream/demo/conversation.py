"""Reads a request's messages as a conversation: who said what, and what the caller asks now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.language import Language, language

# in characters, so that a long history costs no more than a short one
_MESSAGE_READ, _HISTORY_READ = 4_000, 8_000
_LANGUAGE_KEPT = 8  # messages


@dataclass(frozen=True)
class Message:
    """What one message says, whatever form it has; `role` is "system" for the developer too."""

    role: str
    text: str
    picture: bool = False
    recording: bool = False


@dataclass(frozen=True)
class Conversation:
    """The caller's last turn, what was said before it, and the language that the caller speaks in it."""

    question: Message
    before: Sequence[Message]
    language: Language

    def history(self, roles: Sequence[str]) -> Iterator[Message]:
        """Give what was said before in these roles, the newest first: who corrects himself means what he said last."""
        room = _HISTORY_READ
        for message in reversed(self.before):
            if message.role in roles and message.text:
                room -= len(message.text)
                if room < 0:
                    return
                yield message


def read(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Read the messages of a request; their content may be a text, null or a list of parts.

    A turn without a letter, such as a number, is in the language of the turns before it.
    """
    said = [_read_message(message) for message in messages]
    last = max((at for at, message in enumerate(said) if message.role == "user"), default=len(said))
    question = said[last] if last < len(said) else Message("user", "")
    earlier = " ".join(message.text for message in said[:last][-_LANGUAGE_KEPT:] if message.role == "user")
    return Conversation(question, said[:last], language(question.text, default=language(earlier)))


def _read_message(message: Mapping[str, Any]) -> Message:
    role, content = message.get("role"), message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    parts = [part for part in parts if isinstance(part, dict)]
    texts = [part.get("text") for part in parts]
    kinds = [part.get("type") for part in parts]
    return Message(
        role="system" if role == "developer" else str(role),
        text=" ".join(text for text in texts if isinstance(text, str)).strip()[:_MESSAGE_READ],
        picture=any(kind in kinds for kind in ("image_url", "image", "input_image")),
        recording="input_audio" in kinds,
    )
