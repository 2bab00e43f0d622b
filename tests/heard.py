"""What the engine hears of a spoken answer, after a strict look at the form of it."""

import re
from array import array
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

from running_server import Answer
from stream_rules import Stream, read_good_stream

HZ = 16000
CHUNK_BYTES = 1280


@dataclass
class Heard:
    """The sound of one reply, and what was told with it; `stream` is all else of the answer."""

    stream: Stream
    pcm: bytes = b""
    transcript: str = ""
    words: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    hz: int = HZ

    @property
    def ms(self) -> float:
        """Return how long the sound is."""
        return len(self.pcm) / 2 / self.hz * 1000

    @property
    def loudest(self) -> int:
        """Return the largest sample's size."""
        return max(map(abs, array("h", self.pcm)), default=0)


def hear(answer: Answer, **rules: Any) -> Heard:
    """Return what was heard of a streamed answer that went well; fail the test where it breaks a rule."""
    return listen(read_good_stream(answer), **rules)


def listen(stream: Stream, chunk_bytes: int = CHUNK_BYTES, hz: int = HZ) -> Heard:
    """Return what was heard of a stream, however it ended; fail the test where it breaks a rule."""
    heard = Heard(stream, hz=hz)
    for delta in (delta["audio"] for delta in stream.deltas if "audio" in delta):
        assert set(delta) <= {"id", "data", "transcript", "words"}, delta
        if "id" in delta:
            heard.ids.append(delta["id"])
        heard.transcript += delta.get("transcript", "")
        for word in delta.get("words", ()):
            check_word(word, heard)
            heard.words.append(word)
        if "data" in delta:
            pcm = b64decode(delta["data"], validate=True)
            assert len(pcm) == chunk_bytes
            heard.pcm += pcm
    if heard.words:
        assert heard.words[-1]["end_ts"] <= heard.ms
    assert len(set(heard.ids)) == (1 if heard.pcm or heard.transcript else 0), "a reply has one id"
    return heard


def check_word(word: dict[str, Any], before: Heard) -> None:
    """Assert that a word has all four fields, comes after the one before it, and that its transcript is known."""
    assert set(word) == {"text", "start_ts", "end_ts", "duration"}
    assert all(isinstance(word[name], int) for name in ("start_ts", "end_ts", "duration"))
    assert word["end_ts"] - word["start_ts"] == word["duration"] >= 0
    assert word["start_ts"] >= (before.words[-1]["end_ts"] if before.words else 0)
    said = letters("".join(each["text"] for each in [*before.words, word]))
    assert letters(before.transcript).startswith(said), "words never come before their transcript"


def letters(text: str) -> str:
    """Return a text without white space and punctuation."""
    return re.sub(r"[\W_]+", "", text)
