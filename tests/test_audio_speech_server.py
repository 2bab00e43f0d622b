"""A voice server behind `SpeechServer`: what it is asked, and what is heard where it misbehaves."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import trustme
from running_server import free_port
from scripted_upstream import END, ScriptedUpstream, Step, framed, reply, scripted_upstream
from test_upstreams import tls_of

from audio.speech_server import SpeechServer
from audio.voice import Sound, Voice, VoiceFailed
from protocol.errors import CallerHungUp
from turns.caller import ThreadCaller
from upstream.waits import Waits

KEY = "sk-voice-canary-key-0123456789"
SOON_S = 0.3
"""The deadlines of a voice that is to fail for them."""
DROP_S = 0.2
PCM = struct.pack("<4000h", *(place * 7 % 2000 - 1000 for place in range(4000)))

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSING_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nConnection: close\r\n\r\n"
GOOD: list[Step] = [HEAD, framed(PCM), END]
MP3_FRAME = b"\xff\xf3\xc4\xc4" + bytes(380)
"""A frame of MPEG-2 layer III with 128 kbit/s at 24,000 Hz: 384 bytes."""


@pytest.fixture(scope="module")
def _service() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as service:
        yield service


@pytest.fixture
def service(_service: ScriptedUpstream) -> ScriptedUpstream:
    """The voice server, which speaks well until a test has it do something else."""
    _service.say(GOOD)
    return _service


Build = Callable[..., SpeechServer]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


@pytest.fixture
def build(ca_file: str) -> Iterator[Build]:
    """Builds voices, which trust one certificate (all public ones take long to load), and closes them in the end."""
    built: list[SpeechServer] = []

    def build(url: str, key: str | None = KEY, deadline_s: float = 5.0) -> SpeechServer:
        voice = SpeechServer(
            url, model="tts-7", voice="alto", key=key, first_s=deadline_s, stall_s=deadline_s, ca_file=ca_file
        )
        built.append(voice)
        return voice

    yield build
    for voice in built:
        voice.close()


@pytest.fixture
def voice(build: Build, service: ScriptedUpstream) -> SpeechServer:
    return build(service.url)


def speak(voice: Voice, named: str | None = None, waits: Waits | None = None) -> Iterator[Sound]:
    return voice.speak("Good morning.", "en", named, waits or Waits())


def hear(voice: Voice, named: str | None = None) -> bytes:
    """Return all that is heard."""
    return b"".join(sound.pcm for sound in speak(voice, named))


def hear_failure(voice: Voice) -> tuple[bytes, VoiceFailed]:
    """Return what is heard before the voice fails, and how it fails; nothing secret may be in what a caller sees."""
    heard = []
    with pytest.raises(VoiceFailed) as failed:
        for sound in speak(voice):
            heard.append(sound.pcm)
    failure = failed.value
    assert failure.outcome == "voice_failed"
    assert KEY not in failure.message + failure.detail
    assert "127.0.0.1" not in failure.message and "/" not in failure.message
    return b"".join(heard), failure


def test_it_is_asked_in_the_form_of_openais_speech(voice: SpeechServer, service: ScriptedUpstream) -> None:
    heard = hear(voice)

    asked = service.wait_for(1)
    assert heard == PCM
    assert (asked.method, asked.target) == ("POST", "/v1/audio/speech")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == {"model": "tts-7", "input": "Good morning.", "voice": "alto", "response_format": "pcm"}
    assert voice.rate == 24_000


@pytest.mark.parametrize(
    ("tail", "target"),
    [
        ("", "/v1/audio/speech"),
        ("/", "/v1/audio/speech"),
        ("/audio/speech", "/v1/audio/speech"),
        ("/audio/speech/", "/v1/audio/speech"),
        ("/eu/audio/speech?api-version=7&x=a%20b", "/v1/eu/audio/speech?api-version=7&x=a%20b"),
        ("?team=voice", "/v1/audio/speech?team=voice"),
    ],
)
def test_the_address_may_be_whole_and_keeps_its_query(
    build: Build, service: ScriptedUpstream, tail: str, target: str
) -> None:
    hear(build(service.url + tail))

    assert service.wait_for(1).target == target


def test_without_a_key_none_is_made_up(build: Build, service: ScriptedUpstream) -> None:
    hear(build(service.url, key=None))

    assert "authorization" not in service.wait_for(1).headers


@pytest.mark.parametrize(
    ("named", "taken"),
    [
        (None, "alto"),
        ("", "alto"),
        ("   ", "alto"),
        ("nova", "nova"),
        ("晓晓", "晓晓"),
        ("a" * 64, "a" * 64),
        ("a" * 65, "alto"),
        ("no\r\nva", "alto"),
        ("\x1b[31m", "alto"),
    ],
)
def test_the_requests_voice_wins_where_it_is_a_plain_name(
    voice: SpeechServer, service: ScriptedUpstream, named: str | None, taken: str
) -> None:
    hear(voice, named)

    assert service.wait_for(1).body["voice"] == taken


@pytest.mark.parametrize("size", [1, 2, 3, 7, 999, 4001])
def test_sound_in_pieces_of_any_size_is_heard_in_whole_samples(
    voice: SpeechServer, service: ScriptedUpstream, size: int
) -> None:
    said = PCM if size > 3 else PCM[:200]
    service.say([HEAD, *(framed(said[at : at + size]) for at in range(0, len(said), size)), END])

    sounds = [sound.pcm for sound in speak(voice)]

    assert b"".join(sounds) == said
    assert all(sounds) and all(len(pcm) % 2 == 0 for pcm in sounds)


def test_sound_is_heard_as_it_comes(voice: SpeechServer, service: ScriptedUpstream) -> None:
    service.say([HEAD + framed(PCM[:1000]), "hold"])
    spoken = speak(voice)

    first = next(spoken).pcm
    # as a turn does that is over
    del spoken

    assert first == PCM[:1000]
    service.wait_for_drop(service.wait_for(1))


SOUNDS: dict[str, tuple[list[Step], bytes]] = {
    "the end of the connection is the sound's": ([CLOSING_HEAD + PCM, "close"], PCM),
    "a body of known length": (reply(200, PCM, "application/octet-stream"), PCM),
    "no content type": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed(PCM) + END], PCM),
    "its own rate is named": (reply(200, PCM, "audio/pcm; rate=24000; channels=1"), PCM),
    "half a sample at the end": (reply(200, PCM + b"\x01", "audio/pcm"), PCM),
    "a single sample": (reply(200, b"\x01\x02", "audio/pcm"), b"\x01\x02"),
    "a sample and a half": (reply(200, b"\x01\x02\x03", "audio/pcm"), b"\x01\x02"),
    "samples that look like one frame of MP3": (reply(200, MP3_FRAME + PCM, "audio/pcm"), MP3_FRAME + PCM),
    "nothing but such samples": (reply(200, MP3_FRAME[:300], "audio/pcm"), MP3_FRAME[:300]),
    "silence of the kind that is -1": (reply(200, b"\xff" * 2000, "audio/pcm"), b"\xff" * 2000),
}


@pytest.mark.parametrize(("script", "said"), SOUNDS.values(), ids=SOUNDS.keys())
def test_sound_in_each_framing_is_heard(
    voice: SpeechServer, service: ScriptedUpstream, script: list[Step], said: bytes
) -> None:
    service.say(script)

    assert hear(voice) == said


FAILURES: dict[str, tuple[list[Step], bytes, int, str, str]] = {
    # the script, what is heard before, the status, the code, and what the log is told
    "500": (reply(500, b"Traceback", "text/plain"), b"", 502, "voice_failed", "status 500, text/plain: Traceback"),
    "401 with the key": (
        reply(401, {"error": {"message": f"Incorrect API key {KEY}"}}), b"", 502, "voice_failed", "status 401"
    ),  # fmt: skip
    "302": (reply(302, b"", "text/html", Location="http://other.test/"), b"", 502, "voice_failed", "status 302"),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], b"", 502, "voice_failed", "status 204"),
    "JSON": (reply(200, {"error": "no such voice"}), b"", 502, "voice_failed", "no such voice"),
    "JSON that is called sound": (reply(200, {"error": "x"}, "audio/pcm"), b"", 502, "voice_failed", "JSON"),
    "HTML": (reply(200, b"<html>", "text/html; charset=utf-8"), b"", 502, "voice_failed", "text/html: <html>"),
    "HTML that is called bytes": (reply(200, b"<!doctype html>", "application/octet-stream"), b"", 502,
                                  "voice_failed", "HTML"),
    "events": (reply(200, b"data: {}\n\n", "text/event-stream"), b"", 502, "voice_failed", "text/event-stream"),
    "WAV": (reply(200, b"RIFF\x24\x00\x00\x00WAVEfmt " + PCM, "audio/pcm"), b"", 502, "voice_failed", "WAV"),
    "WAV byte by byte": ([HEAD, *(framed(b"RIFF"[at : at + 1]) for at in range(4)), framed(PCM), END], b"", 502,
                         "voice_failed", "WAV"),
    "MP3 with a tag": (reply(200, b"ID3\x04" + PCM, "audio/mpeg"), b"", 502, "voice_failed", "MP3"),
    "MP3": (reply(200, MP3_FRAME * 3, "audio/mpeg"), b"", 502, "voice_failed", "MP3"),
    "MP3 in pieces": ([HEAD, framed(MP3_FRAME[:200]), framed(MP3_FRAME[200:] + MP3_FRAME), END], b"", 502,
                      "voice_failed", "MP3"),
    "MP3 of 44,100 Hz": (reply(200, (b"\xff\xfb\x90\x64" + bytes(413)) * 2, "audio/pcm"), b"", 502, "voice_failed",
                         "MP3"),
    "Ogg": (reply(200, b"OggS" + PCM, "audio/ogg"), b"", 502, "voice_failed", "Ogg"),
    "FLAC": (reply(200, b"fLaC" + PCM, "audio/flac"), b"", 502, "voice_failed", "FLAC"),
    "another rate": (reply(200, PCM, "audio/pcm;rate=16000"), b"", 502, "voice_failed", "16000 Hz, not 24000"),
    "an empty body": (reply(200, b"", "audio/pcm"), b"", 502, "voice_failed", "0 bytes"),
    "an empty chunked body": ([HEAD + END], b"", 502, "voice_failed", "0 bytes"),
    "half a sample": (reply(200, b"\x01", "audio/pcm"), b"", 502, "voice_failed", "1 bytes"),
    "cut in a chunk": ([HEAD + framed(PCM)[:-500], "close"], PCM[:-498], 502, "voice_failed", "closed in the middle"),
    "cut between chunks": ([HEAD + framed(PCM), "close"], PCM, 502, "voice_failed", "closed in the middle"),
    "reset": ([HEAD + framed(PCM), 0.05, "reset"], PCM, 502, "voice_failed", "reset"),
    "cut before a byte": (["close"], b"", 502, "voice_failed", "closed in the middle"),
    "no HTTP": ([b"SSH-2.0-OpenSSH\r\n\r\n", "close"], b"", 502, "voice_failed", "status line"),
    "no head": (["hold"], b"", 504, "voice_timeout", ""),
    "a head alone": ([HEAD, "hold"], b"", 504, "voice_timeout", ""),
    "one byte alone": ([HEAD + framed(b"\x01"), "hold"], b"", 504, "voice_timeout", ""),
    "a stall": ([HEAD + framed(PCM), "hold"], PCM, 504, "voice_timeout", ""),
    "an error that does not end": ([b"HTTP/1.1 503 Busy\r\n\r\nbusy", "hold"], b"", 502, "voice_failed", "busy"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "said", "status", "code", "detail"), FAILURES.values(), ids=FAILURES.keys())
def test_what_is_no_good_sound_is_a_failure_and_never_noise(
    build: Build,
    service: ScriptedUpstream,
    script: list[Step],
    said: bytes,
    status: int,
    code: str,
    detail: str,
) -> None:
    service.say(script)

    heard, failure = hear_failure(build(service.url, deadline_s=SOON_S if "hold" in script else 5.0))

    assert heard == said
    assert (failure.answered, failure.code) == (status, code)
    assert detail in failure.detail
    assert len(service.asked) == 1


def test_each_block_has_a_deadline_of_its_own(build: Build, service: ScriptedUpstream) -> None:
    samples: list[Step] = [step for at in range(0, 12, 2) for step in (framed(PCM[at : at + 2]), 0.2)]
    service.say([0.1, HEAD, *samples, END])

    heard = hear(build(service.url, deadline_s=1.0))

    assert heard == PCM[:12]


def test_a_listener_who_takes_his_time_does_not_make_the_voice_late(build: Build, service: ScriptedUpstream) -> None:
    service.say([HEAD + framed(PCM[:400]), 0.05, framed(PCM[400:]) + END])
    spoken = speak(build(service.url, deadline_s=SOON_S))

    first = next(spoken).pcm
    time.sleep(SOON_S + 0.1)

    assert first + b"".join(sound.pcm for sound in spoken) == PCM


def test_a_server_that_is_not_there_is_a_failure(build: Build) -> None:
    _, failure = hear_failure(build(f"http://127.0.0.1:{free_port()}/v1"))

    assert (failure.answered, failure.code) == (502, "voice_failed")
    assert "ConnectionRefusedError" in failure.detail


def test_the_connection_is_kept_from_sentence_to_sentence(voice: SpeechServer, service: ScriptedUpstream) -> None:
    service.say([HEAD + framed(PCM) + END])

    heard = [hear(voice) for _ in range(5)]

    assert heard == [PCM] * 5
    assert len({asked.connection for asked in service.asked}) == 1


def test_a_kept_connection_that_is_closed_as_it_is_used_is_tried_once_more(
    voice: SpeechServer, service: ScriptedUpstream
) -> None:
    whole: list[Step] = [HEAD + framed(PCM) + END]
    service.say(whole, ["close"], whole)
    hear(voice)

    heard = hear(voice)

    assert heard == PCM
    assert len(service.asked) == 3
    assert service.asked[1].connection == service.asked[0].connection != service.asked[2].connection


def test_a_second_try_is_the_last(voice: SpeechServer, service: ScriptedUpstream) -> None:
    service.say([HEAD + framed(PCM) + END], ["close"])
    hear(voice)

    _, failure = hear_failure(voice)

    assert failure.code == "voice_failed"
    assert len(service.asked) == 3


def test_a_kept_connection_that_is_cut_after_the_first_sound_is_not_tried_again(
    voice: SpeechServer, service: ScriptedUpstream
) -> None:
    service.say([HEAD + framed(PCM) + END], [HEAD + framed(PCM[:400]), "close"])
    hear(voice)

    heard, failure = hear_failure(voice)

    assert heard == PCM[:400]
    assert failure.code == "voice_failed"
    assert len(service.asked) == 2


@pytest.mark.parametrize("begun", [[], [HEAD], [HEAD + framed(PCM)]], ids=["no head", "a head", "some sound"])
def test_a_hang_up_closes_the_connection_at_once(
    voice: SpeechServer, service: ScriptedUpstream, begun: list[Step]
) -> None:
    service.say([*begun, "hold"])
    caller, ours = socket.socketpair()
    hung_up: list[float] = []

    def hang_up() -> None:
        service.wait_for(1)
        time.sleep(0.05)
        hung_up.append(time.monotonic())
        caller.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with ours, closing(ThreadCaller(ours, 1.0)) as waits, pytest.raises(CallerHungUp):
        list(speak(voice, waits=waits))
    dropped = service.wait_for_drop(service.wait_for(1))
    thread.join()

    assert dropped - hung_up[0] < DROP_S


def test_a_server_behind_tls_is_trusted_by_the_given_certificate(build: Build, authority: trustme.CA) -> None:
    with scripted_upstream(tls=tls_of(authority, "127.0.0.1")) as secure:
        secure.say(GOOD)

        heard = hear(build(secure.url))

    assert heard == PCM


def test_a_server_with_another_certificate_is_not_asked(build: Build) -> None:
    with scripted_upstream(tls=tls_of(trustme.CA(), "127.0.0.1")) as secure:
        _, failure = hear_failure(build(secure.url))

    assert "CERTIFICATE_VERIFY_FAILED" in failure.detail
    assert secure.asked == []
