"""The one interface that every voice stands behind."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from protocol.errors import Failure
from protocol.language import Language
from upstream.waits import Waits


class Mark(NamedTuple):
    """When a part of a text is spoken: characters `start` to `end` of it, ms from the first sample of its sound."""

    start: int
    end: int
    start_ms: float
    end_ms: float


class Sound(NamedTuple):
    """The next part of a text's sound: signed 16-bit little-endian mono samples, and the marks known by now."""

    pcm: bytes
    marks: Sequence[Mark] = ()


class VoiceFailed(Failure):
    """Report that a voice could not say something."""

    status = 502
    type = "voice_error"
    outcome = "voice_failed"


class Voice(Protocol):
    """Whatever makes sound of text; `rate` is that of its samples, in Hz."""

    rate: int

    def speak(self, text: str, language: Language, voice: str | None, waits: Waits) -> Iterator[Sound]:
        """Yield the sound of a text as it is made; raise VoiceFailed.

        `voice` is the one that the request names, if it names one. `waits` is how to wait: it raises where the turn
        is over. A voice that knows when each word is spoken gives marks, in order; one that does not gives none.
        """
        ...
