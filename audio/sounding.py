"""What an endpoint that speaks answers with: which sound, for which turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from audio.recording import Recording
from audio.resampling import prepare
from audio.sources import recorded, relayed, simulation
from audio.speech import Speech
from audio.wanted import Wanted, wanted
from protocol.chunks import Answer
from protocol.language import Language
from turns.meanwhile import meanwhile
from turns.turn import Turn

Source = Literal["recording", "speech", "simulated", "upstream"]
Written = Callable[[Turn], Answer]
"""What a turn says in writing."""


@dataclass(frozen=True)
class Sounding:
    """How answers sound: `source` is that of /audio itself, all other endpoints speak with a voice.

    `phrases` are said where nothing has come after `waits_after_ms`; None: never. `upstream_hz` is the rate of a model
    that speaks itself.
    """

    speech: Speech
    source: Source = "speech"
    recording: Recording | None = None
    upstream_hz: int = 24000
    waits_after_ms: float | None = None
    phrases: Mapping[Language, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Load now what the first call would wait for."""
        if self.speech.voice is not None:
            prepare(self.speech.voice.rate, self.speech.form.hz)
        if self.source == "upstream":
            prepare(self.upstream_hz, self.speech.form.hz)

    def speak(self, turn: Turn, written: Written) -> Answer:
        """Return what a turn says, spoken."""
        want = wanted(turn.request)
        if not want.sound or turn.request.is_empty_turn:
            return written(turn)
        if turn.trace:
            turn.trace.audio_hz = self.speech.form.hz
        if turn.says is not None:
            return self._say(turn, written, want)
        return self._spoken(turn, written, want)

    def play(self, turn: Turn, written: Written) -> Answer:
        """Return the sound of a turn on /audio: spoken, recorded, simulated or the upstream's own."""
        if self.source == "speech" or turn.says is not None or turn.request.is_empty_turn:
            return self.speak(turn, written)
        want = wanted(turn.request)
        if not want.sound:
            return written(turn)
        if turn.trace:
            turn.trace.audio_hz = self.speech.form.hz
        if self.source == "upstream":
            turn.request.body["modalities"] = ["text", "audio"]
            turn.request.body["audio"] = {"voice": want.voice or "alloy", "format": "pcm16"}
            return relayed(turn, written(turn), self.speech.form, self.upstream_hz, want)
        recording = self.recording if self.source == "recording" else None
        form = self.speech.form
        return recorded(turn, recording or simulation(turn.language, form.hz), form, want)

    def _spoken(self, turn: Turn, written: Written, want: Wanted) -> Answer:
        if self.waits_after_ms is None:
            return self.speech.speak(turn, written(turn), want)
        turn.say_meanwhile(self.phrases[turn.language], self.waits_after_ms)
        return self.speech.speak(turn, meanwhile(turn, written(turn)), want)

    def _say(self, turn: Turn, written: Written, want: Wanted) -> Answer:
        """Speak exactly what a request says is to be said; without a voice it is shown."""
        if self.speech.voice is not None:
            return self.speech.speak(turn, written(turn), want, verbatim=True)
        return recorded(turn, Recording(turn.says or "", b""), self.speech.form, want)
