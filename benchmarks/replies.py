"""A spoken answer: its bytes as they come, and afterwards what was heard of it and when."""

import base64
import binascii
import json
import re
import sys
from array import array
from dataclasses import dataclass, field
from typing import Any

from benchmarks.framing import Broken, Response

CHUNK_MS = 40
HZ = 16_000
CHUNK_BYTES = HZ * CHUNK_MS // 1000 * 2
_SOUND = b'"data":"'
_FIELDS = {"text", "start_ts", "end_ts", "duration"}
_MOST_SILENCE_MS = 300
"""Between the last word's end and the sound's: what the engine is promised."""


class Reply:
    """The bytes of one answer, each read with its time; to look into them while others speak would take too long.

    With `first_only` it is over with its first sound.
    """

    __slots__ = ("asked", "came", "first_only", "response", "tag")

    def __init__(self, asked: int, tag: int, first_only: bool = False) -> None:
        self.asked = asked
        self.tag = tag
        self.first_only = first_only
        self.response = Response()
        self.came: list[tuple[int, bytes]] = []  # (monotonic ns, bytes of the body)

    def feed(self, data: bytes, now: int) -> bool:
        """Take what was read at `now`; return whether the answer is over, Broken if it is none."""
        if body := self.response.feed(data):
            self.came.append((now, body))
            if self.first_only and _SOUND in body:
                return True
        return self.response.over

    def close(self, now: int) -> None:
        """Take note that the peer has closed the connection; Broken if the answer was not whole."""
        self.response.close()

    @property
    def first_sound(self) -> int | None:
        """Return when (monotonic ns) its first sound came."""
        return next((now for now, body in self.came if _SOUND in body), None)

    @property
    def heard_at(self) -> int:
        """Return when (monotonic ns) the listener has heard all of it, as far as the number of its chunks tells."""
        chunks = sum(body.count(_SOUND) for _, body in self.came)
        return (self.first_sound or self.asked) + chunks * CHUNK_MS * 1_000_000


@dataclass
class Spoken:
    """What was heard of an answer: sound, transcript and words, and when (monotonic ns) each chunk came."""

    pcm: bytes = b""
    transcript: str = ""
    words: list[dict[str, Any]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    @property
    def ms(self) -> float:
        """Return how long the sound is."""
        return len(self.pcm) * 1000 / (2 * HZ)

    @property
    def late(self) -> int:
        """Count the chunks that came 40 ms or more after they were due: chunk k is due 40k ms after the first."""
        due = (self.times[0] + place * CHUNK_MS * 1_000_000 for place in range(len(self.times)))
        return sum(came - at >= CHUNK_MS * 1_000_000 for came, at in zip(self.times, due, strict=True))


def spoken(reply: Reply) -> Spoken:
    """Take an answer apart; Broken if it is not what the engine is promised."""
    heard = Spoken()
    rest = b""
    is_done = False
    if reply.response.status != 200:
        raise Broken(f"status {reply.response.status}: {b''.join(body for _, body in reply.came)[:120]!r}")
    for now, body in reply.came:
        *events, rest = (rest + body).split(b"\n\n")
        for event in events:
            if is_done:
                raise Broken("something after [DONE]")
            if event == b"data: [DONE]":
                is_done = True
            elif event.startswith(b"data: "):
                _take(heard, json.loads(event[6:]), now)
            elif not event.startswith(b":"):
                raise Broken(f"not an SSE event: {event[:40]!r}")
    if rest or not is_done:
        raise Broken("ended without [DONE]")
    check(heard)
    return heard


def _take(heard: Spoken, chunk: dict[str, Any], now: int) -> None:
    if chunk.get("error"):
        raise Broken(f"an error frame: {chunk['error'].get('message')}")
    for choice in chunk.get("choices", ()):
        audio = choice["delta"].get("audio") or {}
        heard.transcript += audio.get("transcript", "")
        heard.words += audio.get("words", ())
        if "data" in audio:
            heard.times.append(now)
            pcm = decoded(audio["data"])
            if len(pcm) != CHUNK_BYTES:
                raise Broken(f"a chunk of {len(pcm)} bytes")
            heard.pcm += pcm


def decoded(data: str) -> bytes:
    """Return the bytes that base64 stands for; Broken if it is none."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Broken("not base64") from None


def check(heard: Spoken) -> None:
    """Raise Broken where sound, words and transcript do not belong together."""
    if not heard.pcm or not heard.words:
        raise Broken("no sound" if not heard.pcm else "no words")
    if letters("".join(word["text"] for word in heard.words)) != letters(heard.transcript):
        raise Broken("the words, joined, are not the transcript")
    end = 0
    for word in heard.words:
        if set(word) != _FIELDS or not end <= word["start_ts"] <= word["end_ts"]:
            raise Broken("a word's times are out of order")
        end = word["end_ts"]
    # the last chunk is filled up with silence
    if not 0 <= heard.ms - end < _MOST_SILENCE_MS + CHUNK_MS:
        raise Broken(f"the sound ends {heard.ms - end:.0f} ms after the last word")
    if loudest(samples(heard.pcm)) >= 32_767:
        raise Broken("clipped")


def letters(text: str) -> str:
    """Return a text without white space and punctuation."""
    return re.sub(r"[\W_]+", "", text)


def samples(pcm: bytes) -> "array[int]":
    """Return signed 16-bit little-endian samples as numbers."""
    found = array("h", pcm)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def loudest(sound: "array[int]") -> int:
    """Return the size of the largest sample."""
    return max(max(sound), -min(sound))


def silences_ms(sound: "array[int]", hz: int, level: int = 64) -> list[float]:
    """Return how long each silence inside a sound lasts, the longest first; those of 1 ms or less are none."""
    found: list[float] = []
    start = None
    for place, sample in enumerate(sound):
        if -level <= sample <= level:
            continue
        if start is not None and (length := 1000 * (place - start) / hz) > 1:
            found.append(length)
        start = place + 1
    return sorted(found, reverse=True)
