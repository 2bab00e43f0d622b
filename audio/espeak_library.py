"""espeak-ng's shared library: sound and word events of one text at a time.

The functions and structures are those of https://github.com/espeak-ng/espeak-ng/blob/master/src/include/espeak-ng/speak_lib.h.
espeak-ng is under GPL-3. It is a dependency at run time only, which the espeakng-loader wheel brings: nothing of it is
part of this project, and the server runs without it.
"""

import ctypes
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

from protocol.errors import ServerError
from turns.pool import beside_the_hub, native_lock

_SYNCHRONOUS = 2  # espeak_Synth returns when all has been said, and calls back in its caller's thread
_DONT_EXIT = 0x8000
_UTF8 = 1
_END_PAUSE = 0x1000
_BY_CHARACTER = 1
_WORD_EVENT = 1
_RATE = 1
_VOLUME = 2
# one call back for each clause: each has to wait for the GIL, and with short buffers there were 30 in a sentence
_BUFFER_MS = 20_000


class EspeakUnavailable(Exception):
    """Say, in one sentence, why espeak-ng can't be used here."""


class Manner(NamedTuple):
    """How a text is said: espeak-ng's name of the voice, and its volume, of which 100 is usual."""

    voice: str
    words_a_minute: int
    volume: int


class Heard(NamedTuple):
    """What espeak-ng made of a text: samples, and for each word event its character (from 0) and its ms."""

    pcm: bytes
    words: list[tuple[int, int]]


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class Library:
    """The one espeak-ng of this process: it has a state, so one text is said at a time.

    `rate` is that of its samples, in Hz. Raises EspeakUnavailable.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise EspeakUnavailable("espeak-ng is not installed: pip install espeakng-loader.") from None
        try:
            self._native = ctypes.CDLL(espeakng_loader.get_library_path())
            data = espeakng_loader.get_data_path()
            self.rate: int = self._native.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data.encode(), _DONT_EXIT)
        except (OSError, RuntimeError, AttributeError) as error:
            raise EspeakUnavailable(f"espeak-ng's library can't be loaded: {error}.") from None
        if self.rate <= 0:
            raise EspeakUnavailable(f"espeak-ng can't read its data in {data}.")
        self._native.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._pcm: list[bytes] = []
        self._words: list[tuple[int, int]] = []
        self._callback: Any = _Callback(self._called_back)  # which must live as long as the library
        self._native.espeak_SetSynthCallback(self._callback)
        self._next = Lock()
        self._busy = native_lock()

    def say(self, text: str, manner: Manner) -> Heard:
        """Say a short text, with the pause that its end asks for; raise ServerError."""
        with self._next:  # those who wait for their turn do it here, and not in the pool's few threads
            return beside_the_hub(self._say, text, manner)

    def _say(self, text: str, manner: Manner) -> Heard:
        encoded = text.encode()
        with self._busy:  # a greenlet that was killed meanwhile has let the next one come
            self._pcm, self._words = [], []
            # all of it each time: whoever spoke before leaves nothing behind
            self._native.espeak_SetParameter(_RATE, manner.words_a_minute, 0)
            self._native.espeak_SetParameter(_VOLUME, manner.volume, 0)
            failed = self._native.espeak_SetVoiceByName(manner.voice.encode()) or self._native.espeak_Synth(
                encoded, len(encoded) + 1, 0, _BY_CHARACTER, 0, _UTF8 | _END_PAUSE, None, None
            )
            if failed:
                raise ServerError("The voice failed.", detail=f"espeak-ng: error {failed} with {manner.voice}")
            return Heard(b"".join(self._pcm), self._words)

    def _called_back(self, samples: int | None, count: int, events: Any) -> int:
        if samples and count > 0:
            self._pcm.append(ctypes.string_at(samples, 2 * count))
        for event in events:
            if not event.type:
                break
            if event.type == _WORD_EVENT:
                self._words.append((event.text_position - 1, event.audio_position))
        return 0


@cache
def library() -> Library:
    """Return this process's espeak-ng, loaded at the first call; raise EspeakUnavailable."""
    return Library()
