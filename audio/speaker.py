"""Say one reply's sentences, one after another, on one track."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from audio.resampling import Resampler
from audio.sentences import SentenceCutter
from audio.times import timed
from audio.track import SAMPLE_BYTES, Track
from audio.voice import Mark, Sound, Voice, VoiceFailed
from audio.wording import Wording, wording
from protocol.language import language
from turns.aside import Aside
from turns.turn import Turn
from upstream.waits import Waits

AHEAD_MS = 3000
"""How much sound there may be, beyond what is sent ahead, before a voice is asked for more: it takes 32 KB a second."""
SILENCE_S = 60.0
"""How long any voice may say nothing in the middle of a sentence; one that waits for others has shorter limits."""
_SLICE = 2000
"""Characters of a reply that are cut into sentences at a time."""


@dataclass
class _Saying:
    """A sentence that the voice is at work on."""

    wording: Wording
    began_ms: float  # where it begins on the track
    sounds: deque[Sound] = field(default_factory=deque)
    marks: list[Mark] = field(default_factory=list)
    size: int = 0  # bytes of its sound
    heard_at: float = field(default_factory=time.monotonic)  # or begun
    is_told: bool = False  # whether its transcript is on the track


class Speaker:
    """Cut a reply into sentences as it comes, have a voice say them beside the turn, and put them on a track.

    `take` brings the track up to date with what the voice has made, and is to be called whenever the turn's alarm
    rings. With `verbatim` the transcript is the text as it came, and the voice alone is spared its marks.
    """

    def __init__(
        self, turn: Turn, voice: Voice, track: Track, *, name: str | None, early_after: int, verbatim: bool
    ) -> None:
        self.track = track
        self._turn = turn
        self._voice = voice
        self._name = name
        self._verbatim = verbatim
        self._cutter = SentenceCutter(early_after=early_after)
        self._unheard: deque[str | None] = deque()  # what is still to be cut into sentences; None: a pause
        self._sentences: deque[Wording] = deque()
        self._resampler = Resampler(voice.rate, track.form.hz)
        self._said_ms = 0.0  # of the sound that the voice has made
        self._saying: _Saying | None = None
        self._work: Aside[None] | None = None
        self._is_complete = False
        self._last = "  "  # the last character that was shown, and the last of its piece

    def hear(self, text: str) -> None:
        """Take more of the reply."""
        self._unheard.extend(text[at : at + _SLICE] for at in range(0, len(text), _SLICE))
        self.take()

    def pause(self) -> None:
        """Say what has come up to here by itself, as after a waiting phrase."""
        self._unheard.append(None)
        self.take()

    def complete(self) -> None:
        """Say that the reply is complete."""
        self._is_complete = True
        self.pause()

    def take(self) -> None:
        """Put what the voice has made on the track, and ask it for the next sentence; raise VoiceFailed."""
        while True:
            if self._saying:
                self._put(self._saying)
                if self._work and self._work.is_done:
                    self._finish(self._saying)
                else:
                    self._look_at_clock(self._saying)
            if self._saying or not self._start_next():
                return

    def leave_off(self) -> None:
        """Say no more than what the voice has made by now: all of that is put on the track, which ends."""
        if self._saying:
            self._put(self._saying)
            self._saying = None
        if not self.track.is_ended:
            self._end()

    def close(self) -> None:
        """Leave off, wherever the voice is."""
        if self._work:
            self._work.close()
        self._sentences.clear()
        self._unheard.clear()

    def _cut(self) -> None:
        """Cut as much of the reply into sentences as the voice needs next: all of a long one would take seconds."""
        while self._unheard and not self._sentences:
            text = self._unheard.popleft()
            for piece in self._cutter.end() if text is None else self._cutter.feed(text):
                said = wording(piece if self._verbatim else self._joined(piece), verbatim=self._verbatim)
                if said.shown:
                    self._last = said.shown[-1] + piece[-1]
                    self._sentences.append(said)
                elif piece.isspace():
                    self._last = self._last[0] + piece[-1]

    def _joined(self, piece: str) -> str:
        """Return a piece with the white space that parts it from the one before: it may stand at that one's end."""
        if self._last[0].isspace():
            return piece.lstrip()
        is_parted = self._last[1].isspace() and self._last[0].isascii()
        return f" {piece}" if is_parted and not piece[:1].isspace() else piece

    def _start_next(self) -> bool:
        """Begin a sentence, if there is one and it is time; tell whether there may be more to do at once."""
        form = self.track.form
        self._cut()
        if not self._sentences:
            if self._is_complete and not self.track.is_ended:
                self._end()
            return False
        if form.lead_ms and self.track.ahead_ms > form.lead_ms + AHEAD_MS:
            return False
        said = self._sentences.popleft()
        if not said.spoken:
            self.track.note(self._said_ms, transcript=said.shown)
            return True
        saying = self._saying = _Saying(said, self._said_ms)
        spoken = language(said.spoken, self._turn.language)

        def work(waits: Waits) -> None:
            began = time.monotonic()
            try:
                for sound in self._voice.speak(said.spoken, spoken, self._name, waits):
                    saying.sounds.append(sound)
                    self._turn.call.ring()
            finally:
                self._turn.record.synthesis_s += time.monotonic() - began

        self._work = Aside(self._turn, work)
        return False

    def _put(self, saying: _Saying) -> None:
        while saying.sounds:
            sound = saying.sounds.popleft()
            self._tell(saying)
            saying.marks += sound.marks
            saying.size += len(sound.pcm)
            saying.heard_at = time.monotonic()
            self.track.add(self._resampler.feed(sound.pcm))

    def _look_at_clock(self, saying: _Saying) -> None:
        """Raise VoiceFailed for a voice that has no limits of its own and says nothing any more."""
        until = saying.heard_at + SILENCE_S
        if time.monotonic() >= until:
            raise VoiceFailed("The voice did not answer in time.", code="voice_timeout", status=504)
        self._turn.call.wake_at(until)

    def _finish(self, saying: _Saying) -> None:
        assert self._work
        self._put(saying)
        self._saying, work, self._work = None, self._work, None
        work.close()
        work.result()  # of a sentence whose voice failed no words are told, for there is no telling which were spoken
        self._tell(saying)
        duration_ms = saying.size * 1000 / (self._voice.rate * SAMPLE_BYTES)
        self.track.note(saying.began_ms, words=list(_words(saying, duration_ms)))
        self._said_ms = saying.began_ms + duration_ms

    def _tell(self, saying: _Saying) -> None:
        """Send a sentence's transcript with its first sound: nothing is told of one that fails before."""
        if not saying.is_told:
            saying.is_told = True
            self.track.note(saying.began_ms, transcript=saying.wording.shown)

    def _end(self) -> None:
        self.track.add(self._resampler.end())
        self.track.end()


def _words(saying: _Saying, duration_ms: float) -> Iterator[dict[str, Any]]:
    """Give each word its times in ms from the reply's first sample, as the engine wants them."""
    for word in timed(saying.wording, saying.marks, duration_ms):
        start, end = round(saying.began_ms + word.start_ms), round(saying.began_ms + word.end_ms)
        yield {"text": word.text, "start_ts": start, "end_ts": end, "duration": end - start}
