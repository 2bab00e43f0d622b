"""A voice that speaks over HTTP: any server with OpenAI's `POST /audio/speech`, which many others speak too.

https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

import time
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import requests

from audio.voice import Sound, VoiceFailed
from protocol.errors import Failure, UpstreamRefused, UpstreamTimeout
from protocol.language import Language
from protocol.redaction import for_log
from upstream.adapter import Exchange, StaleConnection, UpstreamAdapter
from upstream.reading import read_some
from upstream.waits import Waits

SOUND_LIMIT_S = 600
"""Seconds of sound that one text may have: a server that never stops must not be listened to for ever."""

_VOICE_LIMIT = 64  # characters of a caller's name for a voice
_REFUSAL_LIMIT = 4096
_REFUSAL_S = 1.0
# text/event-stream is here too: `stream_format: sse` wraps the sound in JSON, and was not asked for
_NO_SOUND = ("text/", "application/json", "application/problem", "application/xml", "application/xhtml")
# how other forms begin; as samples each of them would be a loud crack, which speech does not begin with
_OTHER_FORMS = {b"RIFF": "WAV", b"ID3": "MP3", b"OggS": "Ogg", b"fLaC": "FLAC", b'{"': "JSON", b"<!": "HTML"}
_LONGEST_MARK = 4


class SpeechServer:
    """Ask the server at `url` (with or without its last part, `/audio/speech`; a query is kept) for raw PCM.

    `model` and `voice` are names of the server's own; `rate` is that of its samples, in Hz. The first of a text's
    sound must be there within `first_s`, each further block within `stall_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        voice: str,
        key: str | None = None,
        rate: int = 24_000,
        first_s: float = 5.0,
        stall_s: float = 5.0,
        ca_file: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        path = f"{parts.path.rstrip('/').removesuffix('/audio/speech')}/audio/speech"
        self.rate = rate
        self._url = urlunsplit(parts._replace(path=path, fragment=""))
        self._model = model
        self._voice = voice
        self._key = key
        self._first_s = first_s
        self._stall_s = stall_s
        self._headers = {"Content-Type": "application/json", "Accept": "audio/*", "Accept-Encoding": "identity"}
        self._headers["User-Agent"] = "custom-llm-server"
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._session = requests.Session()
        self._session.trust_env = False
        adapter = UpstreamAdapter(ca_file=ca_file)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def speak(self, text: str, language: Language, voice: str | None, waits: Waits) -> Iterator[Sound]:
        """Yield the sound of a text as it comes; raise VoiceFailed, with status 504 where it comes too late.

        A server that is given a text finds out its language by itself.
        """
        data = msgspec.json.encode(
            {
                "model": self._model,
                "input": text,
                "voice": voice if voice and _is_plain(voice) else self._voice,
                "response_format": "pcm",
            }
        )
        until = time.monotonic() + self._first_s
        try:
            try:
                yield from self._sound(data, waits, until)
            except StaleConnection:
                # nothing had come, so nothing is said twice; the other kept connections were closed with this one
                yield from self._sound(data, waits, until)
        except VoiceFailed:
            raise
        except UpstreamTimeout as failure:
            raise _late("The voice could not be reached in time.", failure.detail) from None
        except UpstreamRefused as failure:
            raise self._failed("The voice could not be reached.", failure.detail) from None
        except Failure as failure:
            raise self._failed("The voice was cut off.", failure.detail or failure.message) from None

    def close(self) -> None:
        """Close the connections that are kept."""
        self._session.close()

    def _sound(self, data: bytes, waits: Waits, until: float) -> Generator[Sound, None, None]:
        waits.connect_s = waits.send_s = max(0.001, until - time.monotonic())
        timeout: Any = waits
        response = self._session.post(
            self._url, data, headers=self._headers, stream=True, timeout=timeout, allow_redirects=False
        )
        raw: Any = response.raw
        exchange: Exchange = raw
        try:
            if not exchange.head(until):
                raise _late("The voice did not begin in time.")
            self._check_head(response, exchange, until)
            yield from self._samples(exchange, until)
        finally:
            # of a sound that was not heard to its end the connection is closed, which stops the server
            exchange.close()

    def _check_head(self, response: requests.Response, exchange: Exchange, until: float) -> None:
        kind, _, parameters = response.headers.get("Content-Type", "").lower().partition(";")
        is_text = kind.strip().startswith(_NO_SOUND) or kind.strip().endswith(("+json", "+xml"))
        if response.status_code != 200 or is_text:
            body = read_some(exchange, min(until, time.monotonic() + _REFUSAL_S), _REFUSAL_LIMIT)
            said = f"status {response.status_code}, {kind.strip() or 'no content type'}: "
            raise self._failed("The voice answered with an error.", said + body.decode(errors="replace"))
        rate = next((value for name, _, value in map(_parted, parameters.split(";")) if name == "rate"), "")
        if rate.isdecimal() and int(rate) != self.rate:
            raise self._failed("The voice sent another form of sound.", f"its rate is {rate} Hz, not {self.rate}")

    def _samples(self, exchange: Exchange, until: float) -> Generator[Sound, None, None]:
        """Yield whole samples; half a one at the end is dropped, for the server said that it had ended well."""
        rest = b""
        heard = 0
        while block := exchange.read1(until):
            rest += block
            if not heard:
                if _is_undecided(rest):
                    continue
                if form := _other_form(rest):
                    raise self._failed("The voice sent another form of sound.", f"{form} came instead of PCM")
            whole = len(rest) & ~1
            if whole:
                heard += whole
                if heard > SOUND_LIMIT_S * self.rate * 2:
                    raise self._failed("The voice does not come to an end.")
                pcm, rest = rest[:whole], rest[whole:]
                yield Sound(pcm)
                until = time.monotonic() + self._stall_s
        if block is None:
            raise _late("The voice came to a stop." if heard else "The voice did not begin in time.")
        if not heard:
            # so short that its form was not decided
            if len(rest) < 2 or _other_form(rest):
                raise self._failed("The voice sent no sound.", f"{len(rest)} bytes came")
            yield Sound(rest[: len(rest) & ~1])

    def _failed(self, message: str, detail: str = "") -> VoiceFailed:
        return VoiceFailed(message, code="voice_failed", detail=for_log(detail, self._key))


def _late(message: str, detail: str = "") -> VoiceFailed:
    return VoiceFailed(message, code="voice_timeout", status=504, detail=detail)


def _is_plain(voice: str) -> bool:
    return len(voice) <= _VOICE_LIMIT and voice.isprintable() and bool(voice.strip())


def _parted(parameter: str) -> tuple[str, str, str]:
    name, sign, value = parameter.strip().partition("=")
    return name, sign, value.strip('"')


def _is_undecided(data: bytes) -> bool:
    """Tell whether more must come before the form can be told; of PCM that is a sample or two."""
    if len(data) < _LONGEST_MARK:
        return True
    length = _mp3_frame(data)
    return length is not None and len(data) < length + _LONGEST_MARK


def _other_form(data: bytes) -> str | None:
    """Name the form of what is not raw PCM, as far as its first bytes tell."""
    for mark, form in _OTHER_FORMS.items():
        if data.startswith(mark):
            return form
    length = _mp3_frame(data)
    # four bytes of PCM may look like a frame by chance, but no second one follows where the first ends
    if length is not None and _mp3_frame(data[length:]) is not None:
        return "MP3"
    return None


def _mp3_frame(data: bytes) -> int | None:
    """Return the length of the MPEG audio (layer III) frame that begins here, None where none does.

    http://www.mp3-tech.org/programmer/frame_header.html
    """
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:
        return None
    version, rates, place = data[1] >> 3 & 3, data[2] >> 2 & 3, data[2] >> 4
    if version == 1 or rates == 3 or place in (0, 15):
        return None
    is_first = version == 3
    kbps = (_MPEG1_KBPS if is_first else _MPEG2_KBPS)[place]
    rate = _MPEG1_HZ[rates] // (1 if is_first else 2 if version == 2 else 4)
    return (144 if is_first else 72) * kbps * 1000 // rate + (data[2] >> 1 & 1)


_MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_HZ = (44_100, 48_000, 32_000)
