"""Speak an answer as it comes: a generator of events around a generator of events."""

from contextlib import closing
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import msgspec

from audio.speaker import Speaker
from audio.track import Form, Track
from audio.voice import Voice, VoiceFailed
from audio.wanted import Wanted
from protocol.chunks import (
    CHUNK,
    COMPLETION,
    WAITING_ID,
    Answer,
    Batch,
    Completion,
    Event,
    event,
    read_body,
)
from turns.aside import idle
from turns.turn import Turn


@dataclass(frozen=True)
class Speech:
    """How answers are spoken; without a voice none is.

    The first piece of an answer may be spoken from a clause's end on, once it has `early_after` letters' weight.
    """

    voice: Voice | None
    form: Form = Form()
    early_after: int = 24

    def speak(self, turn: Turn, pieces: Answer, wanted: Wanted, *, verbatim: bool = False) -> Answer:
        """Yield an answer's sound, and its text too where that is wanted; raise VoiceFailed.

        What was made before a failure is sent first, paced like all else. With `verbatim` the transcript is the text
        as it came.
        """
        if self.voice is None:
            raise VoiceFailed("This server has no voice.", code="no_voice", status=503)
        # what is not streamed is not paced: nobody would take anything off the track for more to be spoken
        track = Track(self.form if turn.request.stream else replace(self.form, lead_ms=0))
        speaker = Speaker(turn, self.voice, track, name=wanted.voice, early_after=self.early_after, verbatim=verbatim)
        with closing(pieces), closing(speaker):
            if turn.request.stream:
                yield from _streamed(turn, pieces, speaker, wanted)
            else:
                yield from _whole(turn, pieces, speaker, wanted)


def _streamed(turn: Turn, pieces: Answer, speaker: Speaker, wanted: Wanted) -> Answer:
    failed: Exception | None = None
    sent = Sent(turn, speaker.track)
    finish = Batch()
    try:
        for piece in pieces:
            assert isinstance(piece, Batch)
            passed = Batch()
            for each in piece:
                sent.look_at(each)
                if each.text:
                    speaker.hear(each.text)
                    if each.chunk.id == WAITING_ID:
                        speaker.pause()
                if wanted.text:
                    passed.append(each)
                elif rest := without_text(each):
                    (finish if any(c.finish_reason for c in each.chunk.choices or ()) else passed).append(rest)
            speaker.take()
            if passed or not piece:
                yield passed
            if sounds := sent.batch():
                yield sounds
        speaker.complete()
    except Exception as error:
        pieces.close()
        failed = error
    yield from playing(turn, sent, speaker, failed)
    if failed:
        raise failed
    yield finish


class Sent:
    """The events that bring a track to its listener; they belong to the answer that they speak."""

    def __init__(self, turn: Turn, track: Track) -> None:
        self.track = track
        self._turn = turn
        self._head = {"id": turn.id, "object": CHUNK, "created": turn.created, "model": turn.request.model or "default"}
        self._has_looked = False

    def look_at(self, each: Event) -> None:
        """Take over id, time and model of the answer, so that the chunks of both are those of one answer."""
        chunk = each.chunk
        if self._has_looked or chunk.id == WAITING_ID or not chunk.choices:
            return
        self._has_looked = True
        self._head["model"] = chunk.model or self._head["model"]
        if chunk.id and chunk.object == CHUNK and isinstance(chunk.created, int) and chunk.created:
            self._head |= {"id": chunk.id, "created": chunk.created}

    def batch(self) -> Batch:
        """Return what is to be sent now, and have the turn woken for what comes next."""
        batch = Batch(self._event(delta) for delta in self.track.take())
        record = self._turn.record
        if record.first_audio is None:
            record.first_audio = self.track.first_sent
        record.late_chunks = self.track.late
        if self.track.due < inf:
            self._turn.call.wake_at(self.track.due)
        return batch

    def _event(self, delta: dict[str, Any]) -> Event:
        return event({**self._head, "choices": [{"index": 0, "delta": {"audio": delta}, "finish_reason": None}]})


def playing(turn: Turn, sent: Sent, speaker: Speaker | None = None, failed: Exception | None = None) -> Answer:
    """Yield what is still to be heard of a track, each chunk at its time; raise VoiceFailed.

    After a failure that is what has been made by then; a voice is not asked for more.
    """
    call = turn.call
    if failed and speaker:
        speaker.leave_off()
    elif failed:
        sent.track.end()
    while not sent.track.is_over:
        batch = sent.batch()
        yield batch
        if not batch and not sent.track.is_over:
            call.waits.readable(None, call.alarm)
            call.silence()
        if speaker and not failed:
            try:
                speaker.take()
            except Exception as error:
                yield from playing(turn, sent, speaker, error)
                raise


def _whole(turn: Turn, pieces: Answer, speaker: Speaker, wanted: Wanted) -> Answer:
    completion: Completion | None = None
    text = ""
    for piece in pieces:
        text += piece.text
        if isinstance(piece, Completion):
            completion = piece
    body: dict[str, Any] = completion.body if completion else {"model": turn.request.model or "default"}
    choice: dict[str, Any] = body["choices"][0] if completion else {"index": 0, "finish_reason": "stop"}
    message = {
        **(choice.get("message") or {}),
        "role": "assistant",
        "content": text if wanted.text else None,
    }
    if text:
        speaker.hear(text)
        speaker.complete()
        while not speaker.track.is_ended:
            yield from idle(turn)
            speaker.take()
        message["audio"] = speaker.track.all()
    whole = {"id": turn.id, "object": COMPLETION, "created": turn.created, **body}
    whole["choices"] = [{**choice, "message": message}]
    yield Completion(msgspec.json.encode(whole), whole)


def without_text(each: Event) -> Event | None:
    """Return an event without the text that is spoken in its place, None where nothing is left of it."""
    choices = each.chunk.choices
    if not choices:
        return each
    if each.chunk.id == WAITING_ID:
        return None
    first = choices[0]
    delta = first.delta
    decides = first.finish_reason or (delta and (delta.tool_calls or delta.function_call or delta.refusal))
    if not decides and not each.chunk.usage:
        return None
    if not each.text:
        return each
    _, body = read_body(each.data)
    choice = body["choices"][0]
    kept = {name: value for name, value in choice["delta"].items() if name != "content"}
    return event({**body, "choices": [{**choice, "delta": kept}, *body["choices"][1:]]})
