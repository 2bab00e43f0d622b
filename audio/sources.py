"""Sound that no voice of ours makes: a recording, a simulation that says what it is, and an upstream's own."""

import math
from array import array
from base64 import b64decode
from contextlib import closing
from functools import lru_cache
from sys import byteorder
from typing import Any

import msgspec

from audio.recording import Recording
from audio.resampling import Resampler
from audio.speech import Sent, playing, without_text
from audio.track import Form, Track
from audio.wanted import Wanted
from protocol.chunks import COMPLETION, Answer, Batch, Completion, Event, event, read_body, read_completion
from protocol.errors import UpstreamBroken
from protocol.language import Language
from turns.turn import Turn

HELD_LIMIT = 32 * 1024 * 1024
"""Bytes of an upstream's sound that wait to be sent: some 17 minutes."""
SIMULATED = {
    "en": "This is simulated sound. Set AUDIO_FILE and AUDIO_TEXT_FILE, or install a voice, to hear something real.",
    "zh": "这是模拟的声音。请设置 AUDIO_FILE 和 AUDIO_TEXT_FILE，或者安装一个语音，就能听到真正的声音。",
}
_TONE_HZ, _TONE_S, _TONE_LOUDNESS = 440, 3.0, 1500


def recorded(turn: Turn, recording: Recording, form: Form, wanted: Wanted) -> Answer:
    """Say what a recording says, and play it; its sound has the form's rate."""
    track = Track(form)
    track.note(0, transcript=recording.text)
    track.add(recording.pcm)
    track.end()
    if not turn.request.stream:
        content = recording.text if wanted.text else None
        message = {"role": "assistant", "content": content, "audio": track.all()}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        head = {"id": turn.id, "object": COMPLETION, "created": turn.created, "model": turn.request.model or "default"}
        whole = {**head, "choices": choices}
        yield Completion(msgspec.json.encode(whole), whole)
        return
    if wanted.text:
        yield turn.say(recording.text)
    yield from playing(turn, Sent(turn, track))


@lru_cache(maxsize=2)
def simulation(spoken: Language, hz: int) -> Recording:
    """Return a low tone, with a transcript that says that it is no more than that."""
    samples = array("h")
    for place in range(int(_TONE_S * hz)):
        swell = math.sin(math.pi * place / (_TONE_S * hz))
        samples.append(int(_TONE_LOUDNESS * swell * math.sin(2 * math.pi * _TONE_HZ * place / hz)))
    if byteorder == "big":
        samples.byteswap()
    return Recording(SIMULATED[spoken], samples.tobytes())


def relayed(turn: Turn, pieces: Answer, form: Form, upstream_hz: int, wanted: Wanted) -> Answer:
    """Pass on the sound of an upstream that speaks itself, in our form and at our pace.

    Its samples are signed 16-bit little-endian mono, at `upstream_hz`. Raises UpstreamBroken for what is no such sound.
    """
    track = Track(form)
    sent = Sent(turn, track)
    resampler = Resampler(upstream_hz, form.hz)
    finish = Batch()
    failed: Exception | None = None
    with closing(pieces):
        try:
            for piece in pieces:
                if isinstance(piece, Completion):
                    yield _converted(piece, upstream_hz, form.hz)
                    return
                passed = Batch()
                for each in piece:
                    sent.look_at(each)
                    choices = each.chunk.choices or ()
                    for audio in (c.delta.audio for c in choices if c.delta and isinstance(c.delta.audio, dict)):
                        _take(track, resampler, audio)
                    if rest := _without_sound(each, wanted):
                        (finish if any(c.finish_reason for c in choices) else passed).append(rest)
                if passed or not piece:
                    yield passed
                if sounds := sent.batch():
                    yield sounds
        except Exception as error:
            failed = error
        track.add(resampler.end())
        track.end()
    yield from playing(turn, sent, None, failed)
    if failed:
        raise failed
    yield finish


def _without_sound(each: Event, wanted: Wanted) -> Event | None:
    """Return what of an event goes on beside the sound that is sent in its place."""
    choices = each.chunk.choices
    if choices and choices[0].delta and choices[0].delta.audio:
        _, body = read_body(each.data)
        first, *others = body["choices"]
        kept = {name: value for name, value in first["delta"].items() if name != "audio"}
        each = event({**body, "choices": [{**first, "delta": kept}, *others]})
    return each if wanted.text and (each.text or not choices) else without_text(each)


def _take(track: Track, resampler: Resampler, audio: dict[str, Any]) -> None:
    if isinstance(audio.get("transcript"), str):
        track.note(track.end_ms, transcript=audio["transcript"])
    if isinstance(audio.get("data"), str):
        track.add(resampler.feed(_decoded(audio["data"])))
    if track.ahead_ms > track.form.ms(HELD_LIMIT):
        raise UpstreamBroken("The language model's answer has no end.", code="upstream_broken")


def _decoded(data: str) -> bytes:
    try:
        return b64decode(data, validate=True)  # else what is none would be passed over, or noise
    except ValueError:
        raise UpstreamBroken(
            "The language model's answer was unusable.", code="upstream_broken", detail="its sound is no base64"
        ) from None


def _converted(completion: Completion, from_hz: int, to_hz: int) -> Completion:
    choice = completion.body["choices"][0]
    audio = (choice.get("message") or {}).get("audio")
    if not isinstance(audio, dict) or not isinstance(audio.get("data"), str):
        return completion
    resampler = Resampler(from_hz, to_hz)
    track = Track(Form(to_hz))
    track.add(resampler.feed(_decoded(audio["data"])) + resampler.end())
    message = {**choice["message"], "audio": {**audio, "data": track.all()["data"]}}
    choices = [{**choice, "message": message}, *completion.body["choices"][1:]]
    return read_completion(msgspec.json.encode({**completion.body, "choices": choices}))
