"""Can the sound be played, shown word by word, and remembered?"""

import re
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from doctor.check import Check, Judge, Opinion, check, fail, first_of, not_seen, ok, warn
from doctor.stream import Stream
from doctor.visit import Visit

RATE_HZ = 16_000
CHUNK_BYTES = 1_280
"""40 ms of 16-bit mono at 16,000 Hz."""

_BYTES_A_MS = RATE_HZ * 2 // 1000
_SHORTEST_MS, _LONGEST_MS = 10, 1_000
_WORD_SLACK_MS = 300  # a last word may end so much before the sound, or be rounded past it
_LATE_MS = 40
_LATE_SHARE = 0.05
_MARKS = (b"RIFF", b"ID3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf3")
_TIMES = ("start_ts", "end_ts", "duration")
_NO_LETTER = re.compile(r"[\W_]+")


def _audio(id: str, rule: str, change: str) -> Callable[[Judge], Check]:
    """Make a check that is judged only where there is sound to be judged."""

    def of(judge: Judge) -> Check:
        def if_audio(visit: Visit) -> Opinion:
            if visit.audio_streams:
                return judge(visit)
            return not_seen("no sound came" if visit.target.is_audio else "not an audio endpoint")

        return check(id, rule, change)(if_audio)

    return of


def _pcm(stream: Stream) -> bytes:
    return b"".join(pcm for _, pcm in stream.sound if pcm)


@check(
    "audio.format",
    "`delta.audio.data` is base64 of signed 16-bit little-endian mono PCM without a header.",
    "Send raw PCM: no WAV header, no MP3, whole samples in each chunk.",
)
def form(visit: Visit) -> Opinion:
    """See whether sound came, and whether each piece of it can be PCM."""
    if not visit.audio_streams:
        if visit.target.is_audio and visit.streams:
            return fail("no `delta.audio` came")
        return not_seen("no stream came" if visit.target.is_audio else "not an audio endpoint")
    faults = []
    for stream in visit.audio_streams:
        for place, (_, pcm) in enumerate(stream.sound):
            if pcm is None:
                faults.append("no base64")
            elif len(pcm) % 2:
                faults.append(f"an odd number of bytes ({len(pcm)})")
            elif place == 0 and pcm.startswith(_MARKS):
                faults.append("a file's header instead of PCM")
    return first_of(faults)


@_audio(
    "audio.chunks",
    "A chunk is 1,280 bytes: 40 ms at 16,000 Hz.",
    "Cut the sound into pieces of 1,280 bytes, at 16,000 Hz; other rates are unconfirmed.",
)
def chunks(visit: Visit) -> Opinion:
    """See the sizes of the pieces; the last may be shorter."""
    sizes = [len(pcm or b"") for stream in visit.audio_streams for _, pcm in stream.sound[:-1]]
    if not sizes:
        return not_seen("too little sound came")
    usual = max(set(sizes), key=sizes.count)
    if not _SHORTEST_MS <= usual / _BYTES_A_MS <= _LONGEST_MS:
        return fail(f"{usual} bytes, which would be {usual / _BYTES_A_MS:.0f} ms")
    if usual != CHUNK_BYTES:
        return warn(f"{usual} bytes, which would be {usual / _BYTES_A_MS:.0f} ms")
    return ok() if set(sizes) == {usual} else warn(f"{len(set(sizes))} different sizes")


@_audio("audio.sound", "The sound is not mere silence.", "See what the voice was given, and what it returned.")
def sound(visit: Visit) -> Opinion:
    """See whether there is anything to hear."""
    for stream in visit.audio_streams:
        pcm = _pcm(stream)
        if not any(array("h", pcm[: len(pcm) & ~1])):
            return fail("every sample is 0" if pcm else "no sound came")
    return ok(f"{len(_pcm(visit.audio_streams[0])) / _BYTES_A_MS / 1000:.1f} s")


@_audio(
    "audio.transcript",
    "The transcript comes with the sound: the agent remembers only that.",
    "Send `delta.audio.transcript` with what is spoken.",
)
def transcript(visit: Visit) -> Opinion:
    """See whether each answer has a transcript."""
    return first_of(["none came" for stream in visit.audio_streams if not stream.transcript.strip()])


@_audio("audio.id", "`audio.id` is the same wherever it comes in one answer.", "Make it once for each answer.")
def id_(visit: Visit) -> Opinion:
    """See whether an answer's sound has one id."""
    found = [{str(part["id"]) for _, part in stream.audio if part.get("id")} for stream in visit.audio_streams]
    faults = [f"{len(ids)} different ones in one answer" for ids in found if len(ids) > 1]
    return first_of(faults, ["none came" for ids in found if not ids])


@_audio(
    "audio.words",
    "Words have text, start_ts, end_ts and duration, in ms from the answer's first sample; they rise within the sound.",
    "Count the times of all sentences from the first sample of the answer.",
)
def words(visit: Visit) -> Opinion:
    """See the times of the words."""
    if not any(list(_words(stream)) for stream in visit.audio_streams):
        return warn("none came: interruptions can't be placed in the text")
    return first_of([fault for stream in visit.audio_streams for fault in _word_faults(stream)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(stream: Stream) -> Iterator[Any]:
    for _, part in stream.audio:
        if isinstance(part.get("words"), list):
            yield from part["words"]


def _word_faults(stream: Stream) -> Iterator[str]:
    last = 0.0
    said = ""
    for word in _words(stream):
        times = [word[name] for name in _TIMES if _is_number(word.get(name))] if isinstance(word, dict) else []
        if len(times) < len(_TIMES) or not isinstance(word.get("text"), str):
            yield "a word without all four fields"
            return
        start, end, duration = times
        if start < last or end < start:
            yield "times do not rise"
        if abs(end - start - duration) > 1:
            yield "duration is not end_ts - start_ts"
        last = start
        said += word["text"]
        if end > len(_pcm(stream)) / _BYTES_A_MS + _WORD_SLACK_MS:
            yield "a word ends after the sound"
    if _NO_LETTER.sub("", said) != _NO_LETTER.sub("", stream.transcript):
        yield "the words are not those of the transcript"


@_audio(
    "audio.pace",
    "Sound comes no slower than it is played: chunk k within 40k ms of the first, and 40 ms more.",
    "Synthesise ahead, and pace by the clock instead of sleeping between chunks.",
)
def pace(visit: Visit) -> Opinion:
    """See whether the sound would have run dry."""
    late = count = 0
    for stream in visit.audio_streams:
        first, before_ms = stream.sound_at or 0.0, 0.0
        for at, pcm in stream.sound:
            late += (at - first) * 1000 > before_ms + _LATE_MS
            count += 1
            before_ms += len(pcm or b"") / _BYTES_A_MS
    if not late:
        return ok(f"{count} chunks in time")
    return (fail if late > count * _LATE_SHARE else warn)(f"{late} of {count} chunks were late")


CHECKS = (form, chunks, sound, transcript, id_, words, pace)
