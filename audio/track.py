"""One reply's sound, and what goes with it, cut into the deltas that the engine plays, each when it is due."""

import secrets
import time
from binascii import b2a_base64
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Any

SAMPLE_BYTES = 2
EXPIRES_S = 3600
"""How long OpenAI keeps the sound of an answer that is not streamed, in seconds; clients expect to be told."""
_AT_ONCE = 50
"""Deltas that are made in one go, so that a long recording, unpaced, leaves others their turn."""
_TOGETHER_MS = 200
"""Chunks that go together once the lead is there: each wake-up costs more than the chunk that it sends."""


@dataclass(frozen=True)
class Form:
    """What is sent: signed 16-bit little-endian mono samples of `hz`, in chunks of `chunk_ms`.

    Chunks run ahead of the listener by at most `lead_ms`; 0: as fast as they come. The engine takes 16,000 Hz and
    40 ms. With `repeats_id` each delta bears the reply's id, else the first one alone.
    """

    hz: int = 16000
    chunk_ms: int = 40
    lead_ms: int = 1000
    repeats_id: bool = False

    @property
    def chunk_bytes(self) -> int:
        """Return the size of a chunk, in bytes."""
        return self.hz * self.chunk_ms // 1000 * SAMPLE_BYTES

    @property
    def rest_ms(self) -> int:
        """Return how long a chunk that could go waits for others to go with it: a quarter of the lead at most."""
        together = min(_TOGETHER_MS, self.lead_ms // 4) // self.chunk_ms
        return max(0, together - 1) * self.chunk_ms

    def ms(self, size: int) -> float:
        """Return how long so many bytes sound, in ms."""
        return size * 1000 / (self.hz * SAMPLE_BYTES)

    def bytes_in(self, ms: float) -> int:
        """Return how many bytes so many ms of sound have."""
        return round(ms * self.hz / 1000) * SAMPLE_BYTES


class Track:
    """What is still to be sent of a reply: its sound, and the transcripts and words that go with places in it.

    Times are seconds of `time.monotonic()`. Chunk k is due at the first chunk's moment + k chunks, for the listener
    hears it then. `late` counts the chunks that were sent a chunk's time after that, or later; from there on the
    listener, who has heard silence, is taken to be where the chunk is.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.id = f"audio_{secrets.token_hex(8)}"
        self.late = 0
        self.first_sent: float | None = None
        self.is_ended = False
        self._sound = bytearray()  # what is still to be sent
        self._taken = 0  # bytes that were sent
        self._sent_ms = 0.0
        self._notes: deque[tuple[int, str, Any]] = deque()
        self._bears_id = True
        self._rest_s = 0.0  # for which the next chunk waits for those that can go with it
        self._origin = 0.0  # when the listener heard, or would have heard, the reply's first sample

    @property
    def ahead_ms(self) -> float:
        """Return how much of the sound is still to be sent."""
        return self.form.ms(len(self._sound))

    @property
    def end_ms(self) -> float:
        """Return how long the reply is by now."""
        return self.form.ms(self._taken + len(self._sound))

    @property
    def is_over(self) -> bool:
        """Tell whether all has been sent, and nothing more will come."""
        return self.is_ended and not self._sound and not self._notes

    def add(self, pcm: bytes) -> None:
        """Add sound to the end."""
        self._sound += pcm

    def note(self, at_ms: float, transcript: str = "", words: list[dict[str, Any]] | None = None) -> None:
        """Have a transcript or words go out with the chunk that holds this moment, or the next one that is sent."""
        place = self.form.bytes_in(at_ms)
        if transcript:
            self._notes.append((place, "transcript", transcript))
        if words:
            self._notes.append((place, "words", words))

    def end(self) -> None:
        """Say that nothing more will come."""
        self.is_ended = True

    @property
    def due(self) -> float:
        """Return when the next delta can be sent, at the earliest; never where there is none yet."""
        if not self._has_next():
            return inf
        if self.first_sent is None or not self.form.lead_ms:
            return 0.0
        return self._heard_at() - self.form.lead_ms / 1000 + self._rest_s

    def take(self) -> list[dict[str, Any]]:
        """Return the audio deltas that can be sent now."""
        deltas: list[dict[str, Any]] = []
        while len(deltas) < _AT_ONCE:
            if self.due > (now := time.monotonic()):
                self._rest_s = self.form.rest_ms / 1000
                break
            self._rest_s = 0.0
            deltas.append(self._next(now))
        return deltas

    def all(self) -> dict[str, Any]:
        """Return the whole of a reply that is not streamed, unpaced, as one message's `audio`."""
        whole: dict[str, Any] = {"id": self.id, "data": _base64(self._sound), "transcript": "", "words": []}
        whole["expires_at"] = int(time.time()) + EXPIRES_S
        for _, name, value in self._notes:
            whole[name] += value
        return whole

    def _heard_at(self) -> float:
        return self._origin + self._sent_ms / 1000

    def _has_next(self) -> bool:
        if self.is_ended:
            return bool(self._sound or self._notes)
        return len(self._sound) >= self.form.chunk_bytes

    def _next(self, now: float) -> dict[str, Any]:
        delta: dict[str, Any] = {"id": self.id} if self._bears_id or self.form.repeats_id else {}
        self._bears_id = False
        size = self.form.chunk_bytes
        chunk = self._sound[:size]
        if chunk:
            del self._sound[:size]  # cheap: a bytearray moves its beginning, not its bytes
            self._taken += len(chunk)
            self._keep_time(now)
            # the last one is filled up with silence: half a chunk is played as noise, or not at all
            delta["data"] = _base64(chunk + bytes(size - len(chunk)))
            self._sent_ms += self.form.ms(size)
        is_last = self.is_ended and not self._sound
        while self._notes and (is_last or self._notes[0][0] < self._taken):
            _, name, value = self._notes.popleft()
            delta[name] = delta[name] + value if name in delta else value
        return delta

    def _keep_time(self, now: float) -> None:
        if self.first_sent is None:
            self.first_sent = self._origin = now
        elif now > self._heard_at():
            self.late += now > self._heard_at() + self.form.chunk_ms / 1000
            self._origin = now - self._sent_ms / 1000


def _base64(pcm: bytes | bytearray) -> str:
    return b2a_base64(pcm, newline=False).decode("ascii")
