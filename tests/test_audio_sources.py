"""What /audio plays: recordings, simulated sound, the upstream's own sound; and in which form."""

import logging
import subprocess
import sys
import threading
import wave
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest
from heard import hear, letters, listen
from running_server import DEV, FLASK, KEY, ROOT, RunningServer, clean_environment, running_server, turn
from scripted_upstream import COMPLETION, ROLE, STOP, ScriptedUpstream, answer, chunk, reply, stream
from stream_rules import read_failed_stream, read_failure, read_good_stream
from test_start import complaint
from werkzeug.serving import make_server

from app import create_app
from audio.recording import BUNDLED_TEXT
from audio.sources import SIMULATED
from environment import BadSetting, load
from protocol.language import Language

AUDIO = "/audio/chat/completions"
TEXT = "Welcome to our shop. 欢迎光临。"
NOBODY = "http://127.0.0.1:9/v1"
"""Where no language model is: a recording asks none."""
CHINESE = [{"role": "user", "content": "你好！"}]
GREETING = [{"role": "assistant", "content": "**Hello** there!"}]


class Served(RunningServer):
    """The server in this process, with Flask's own server around it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


@contextmanager
def served(**settings: Any) -> Iterator[Served]:
    """Serve with these settings and no others."""
    found, _ = load(clean_environment(LLM_BASE_URL=NOBODY, LLM_API_KEY=KEY, **settings))
    ours = logging.getLogger("custom_llm")
    before = ours.handlers[:], ours.propagate, ours.level
    server = make_server("127.0.0.1", 0, create_app(found, indexes=False), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield Served(server.port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        ours.handlers[:], ours.propagate, ours.level = before


def samples(hz: float, rate: int, seconds: float = 1.0) -> "numpy.typing.NDArray[numpy.int16]":
    at = numpy.arange(round(rate * seconds)) / rate
    tone: numpy.typing.NDArray[numpy.int16] = numpy.rint(10_000 * numpy.sin(2 * numpy.pi * hz * at)).astype("<i2")
    return tone


def loudest_hz(pcm: bytes, rate: int) -> float:
    """The frequency of a tone."""
    spectrum = abs(numpy.fft.rfft(numpy.frombuffer(pcm, "<i2")))
    return float(spectrum.argmax() * rate / (len(pcm) / 2))


@pytest.fixture
def stereo(tmp_path: Path) -> dict[str, Any]:
    """The settings of a recording of 1.5 s in WAV, 44,100 Hz and two channels, and its text."""
    tone = samples(440, 44_100, 1.5)
    with wave.open(str(tmp_path / "welcome.wav"), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes(numpy.stack([tone, tone], axis=1).tobytes())
    (tmp_path / "welcome.txt").write_text(TEXT, "utf-8")
    return {"AUDIO_FILE": tmp_path / "welcome.wav", "AUDIO_TEXT_FILE": tmp_path / "welcome.txt", "AUDIO_LEAD_MS": 0}


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    """The settings of a recording of 1 s in raw PCM, 8,000 Hz."""
    (tmp_path / "welcome.pcm").write_bytes(samples(440, 8000).tobytes())
    (tmp_path / "welcome.txt").write_text(TEXT, "utf-8")
    files = {"AUDIO_FILE": tmp_path / "welcome.pcm", "AUDIO_TEXT_FILE": tmp_path / "welcome.txt"}
    return {**files, "AUDIO_FILE_HZ": 8000, "AUDIO_LEAD_MS": 0}


@pytest.fixture(scope="module")
def silent() -> Iterator[Served]:
    with served(VOICE="none", AUDIO_LEAD_MS=0) as server:
        yield server


@pytest.fixture(scope="module")
def small(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """The development server, with chunks of another form."""
    form: dict[str, Any] = {"AUDIO_HZ": 8000, "AUDIO_CHUNK_MS": 20, "AUDIO_LEAD_MS": 0, "AUDIO_ID": "every"}
    with running_server(*FLASK, LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **form) as running:
        yield running


@pytest.fixture(scope="module")
def passing(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that passes on the sound of its upstream."""
    settings: dict[str, Any] = {"AUDIO_SOURCE": "upstream", "AUDIO_LEAD_MS": 0}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **settings) as running:
        yield running


class TestRecordings:
    def test_a_wav_of_another_rate_and_two_channels_is_played_with_its_text(self, stereo: dict[str, Any]) -> None:
        with served(**stereo) as server:
            heard = hear(server.ask(path=AUDIO))

        assert heard.transcript == TEXT
        assert heard.stream.text == ""
        assert 1500 <= heard.ms < 1540
        assert loudest_hz(heard.pcm, 16_000) == pytest.approx(440, abs=1)
        assert 9500 < heard.loudest < 10_500

    def test_raw_pcm_has_the_rate_that_is_set(self, raw: dict[str, Any]) -> None:
        with served(**raw) as server:
            heard = hear(server.ask(path=AUDIO))

        assert heard.ms == 1000
        assert loudest_hz(heard.pcm, 16_000) == pytest.approx(440, abs=1)

    def test_its_text_is_sent_where_text_is_wanted(self, raw: dict[str, Any]) -> None:
        with served(**raw) as server:
            heard = hear(server.ask(turn(modalities=["text", "audio"]), path=AUDIO))

        assert heard.stream.text == heard.transcript == TEXT

    def test_it_comes_as_one_message_where_it_is_not_streamed(self, raw: dict[str, Any]) -> None:
        with served(**raw) as server:
            message = server.ask(turn(stream=False), path=AUDIO).json["choices"][0]["message"]

        assert message["content"] is None
        assert message["audio"]["transcript"] == TEXT
        assert len(b64decode(message["audio"]["data"])) == 32_000

    def test_a_greeting_is_spoken_all_the_same(self, raw: dict[str, Any]) -> None:
        with served(**raw) as server:
            heard = hear(server.ask(turn(messages=GREETING), path=AUDIO))

        assert heard.transcript == "**Hello** there!"
        assert heard.words and heard.pcm

    def test_files_that_are_missing_are_warned_of_and_simulated(self, raw: dict[str, Any]) -> None:
        raw["AUDIO_FILE"].unlink()

        _, warnings = load(clean_environment(**raw))
        with served(**raw) as server:
            heard = hear(server.ask(path=AUDIO))

        assert warnings == ["welcome.pcm can't be found: /audio plays simulated sound"]
        assert heard.transcript == SIMULATED["en"]

    def test_files_that_are_missing_stop_the_start_where_a_recording_is_asked_for(self, raw: dict[str, Any]) -> None:
        raw["AUDIO_TEXT_FILE"].unlink()

        with pytest.raises(BadSetting, match="welcome.txt does not exist"):
            load(clean_environment(AUDIO_SOURCE="recording", **raw))

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("welcome.pcm", b"\1\2\3", "odd number of bytes"),
            ("welcome.pcm", b"", "is empty"),
            ("welcome.wav", bytes(100), "has no WAV header"),
            ("welcome.mp3", b"\xff\xfb\x90\x00" * 9, "is not raw PCM"),
            ("welcome.pcm", b"RIFF" + bytes(40), "is not raw PCM"),
            ("welcome.txt", b"\xff\xfe\x00\x01", "is not UTF-8"),
        ],
    )
    @pytest.mark.parametrize("source", ["auto", "recording"])
    def test_a_wrong_format_stops_the_start(
        self, raw: dict[str, Any], name: str, content: bytes, says: str, source: str
    ) -> None:
        file = raw["AUDIO_FILE"].parent / name
        file.write_bytes(content)
        if name != "welcome.txt":
            raw["AUDIO_FILE"] = file

        with pytest.raises(BadSetting, match=says):
            load(clean_environment(AUDIO_SOURCE=source, **raw))

    def test_it_stops_with_one_line(self, raw: dict[str, Any]) -> None:
        raw["AUDIO_FILE"].write_bytes(b"\1\2\3")

        said = complaint(*DEV, LLM_BASE_URL=NOBODY, **raw)

        assert said.startswith("custom-llm-server: AUDIO_FILE and AUDIO_TEXT_FILE must be a recording: ")
        assert "welcome.pcm has an odd number of bytes (3)" in said


class TestWithoutAVoice:
    def test_the_bundled_recording_is_played(self, silent: Served) -> None:
        heard = hear(silent.ask(path=AUDIO))

        assert heard.transcript == BUNDLED_TEXT.read_text("utf-8").strip()
        assert heard.ms > 2000 and heard.loudest > 3000

    @pytest.mark.parametrize("streams", [True, False])
    def test_what_would_have_to_be_spoken_is_refused(self, silent: Served, streams: bool) -> None:
        refused = silent.ask(turn(stream=streams), path="/rag/audio/chat/completions")

        assert refused.status == 503
        assert read_failure(refused)["code"] == "no_voice"

    @pytest.mark.parametrize("path", [AUDIO, "/rag/audio/chat/completions"])
    def test_what_is_to_be_said_is_shown_and_not_spoken(self, silent: Served, path: str) -> None:
        heard = hear(silent.ask(turn(messages=GREETING), path=path))

        assert [delta["audio"].keys() for delta in heard.stream.deltas] == [{"id", "transcript"}]
        assert heard.transcript == "**Hello** there!"


class TestSimulated:
    @pytest.mark.parametrize(("messages", "language"), [(None, "en"), (CHINESE, "zh")])
    def test_a_low_tone_says_what_it_is(self, messages: Any, language: Language) -> None:
        asked = turn(messages=messages) if messages else turn()
        with served(AUDIO_SOURCE="simulated", AUDIO_LEAD_MS=0) as server:
            heard = hear(server.ask(asked, path=AUDIO))

        assert heard.transcript == SIMULATED[language]
        assert heard.ms == 3000
        assert loudest_hz(heard.pcm, 16_000) == pytest.approx(440, abs=1)
        assert heard.loudest < 2000


@pytest.mark.parametrize(
    ("settings", "is_loaded"),
    [
        ({"VOICE": "espeak"}, True),
        ({"AUDIO_SOURCE": "upstream", "VOICE": "none"}, True),
        ({"AUDIO_SOURCE": "simulated", "VOICE": "none"}, False),
    ],
)
def test_what_speech_needs_is_loaded_at_the_start(settings: dict[str, str], is_loaded: bool) -> None:
    code = "import sys, app; app.create_app(); print('soxr' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean_environment(**settings), capture_output=True, text=True
    )

    assert done.stdout == f"{is_loaded}\n", done.stderr


class TestForm:
    def test_rate_and_length_of_chunks_are_settings(self, small: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(answer("Hello there. ", "It is sunny."))

        heard = hear(small.ask(path=AUDIO), chunk_bytes=320, hz=8000)

        assert heard.transcript == "Hello there. It is sunny."
        assert letters("".join(word["text"] for word in heard.words)) == letters(heard.transcript)
        assert 1000 < heard.ms < 4000
        assert 0 <= heard.ms - heard.words[-1]["end_ts"] <= 300 + 20

    def test_every_chunk_bears_the_id_where_that_is_set(self, small: RunningServer, upstream: ScriptedUpstream) -> None:
        heard = hear(small.ask(path=AUDIO), chunk_bytes=320, hz=8000)

        assert len(heard.ids) == len(heard.stream.deltas) > 20

    def test_the_development_server_sees_a_hang_up(self, small: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say([*answer("Hello there. And")[:-2], "hold"])
        sock = small.open(path=AUDIO)
        got = b""
        while b'"data"' not in got:
            got += sock.recv(65536)

        sock.close()

        upstream.wait_for_drop(upstream.asked[-1])


def sound(pcm: Any = b"", **more: Any) -> dict[str, Any]:
    """Return a chunk with an upstream's own sound."""
    data = {"data": pcm if isinstance(pcm, str) else b64encode(pcm).decode()} if pcm else {}
    return chunk({"audio": {"id": "a1", **data, **more}})


class TestUpstreamsOwn:
    TONE = samples(440, 24_000, 1.2).tobytes()

    def test_its_sound_comes_in_our_form(self, passing: RunningServer, upstream: ScriptedUpstream) -> None:
        # 1,001 bytes: base64 of half a sample, whose other half comes next
        parts = [self.TONE[at : at + 1001] for at in range(0, len(self.TONE), 1001)]
        said = [sound(transcript=text) for text in ("Hello ", "there.")]
        upstream.say(stream(ROLE, said[0], *map(sound, parts), said[1], STOP))

        heard = hear(passing.ask(path=AUDIO))

        assert heard.transcript == "Hello there."
        assert 1200 <= heard.ms < 1240
        assert loudest_hz(heard.pcm, 16_000) == pytest.approx(440, abs=1)
        assert 9500 < heard.loudest < 10_500

    @pytest.mark.parametrize("modalities", [["audio"], ["text", "audio"]])
    def test_it_is_sent_once_whatever_else_comes_with_it(
        self, passing: RunningServer, upstream: ScriptedUpstream, modalities: list[str]
    ) -> None:
        usage = {"total_tokens": 7}
        with_text = chunk({"content": "Hi.", "audio": {"data": b64encode(self.TONE).decode()}}, usage=usage)
        finish = chunk({"audio": {"transcript": "Hi."}}, "stop", usage=usage)
        upstream.say(stream(ROLE, with_text, finish))
        body = turn(modalities=modalities, stream_options={"include_usage": True})

        got = read_good_stream(passing.ask(body, path=AUDIO), usage_asked=True)

        heard = listen(got)
        assert 1200 <= heard.ms < 1240
        assert heard.transcript == "Hi."
        assert got.text == ("Hi." if "text" in modalities else "")
        assert got.usage == usage

    def test_it_is_asked_for_sound_in_the_voice_of_the_request(
        self, passing: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(stream(ROLE, sound(self.TONE), STOP))

        passing.ask(turn(audio={"voice": "nova", "format": "mp3"}), path=AUDIO)

        asked = upstream.asked[-1].body
        assert asked["modalities"] == ["text", "audio"]
        assert asked["audio"] == {"voice": "nova", "format": "pcm16"}

    def test_a_whole_message_is_brought_to_our_rate(self, passing: RunningServer, upstream: ScriptedUpstream) -> None:
        audio = {"id": "a1", "data": b64encode(self.TONE).decode(), "transcript": "Hello.", "expires_at": 1}
        message = {"role": "assistant", "content": None, "audio": audio}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        upstream.say(reply(200, {**COMPLETION, "choices": choices}))

        got = passing.ask(turn(stream=False), path=AUDIO).json["choices"][0]["message"]["audio"]

        pcm = b64decode(got["data"])
        assert len(pcm) == 1200 * 32
        assert loudest_hz(pcm, 16_000) == pytest.approx(440, abs=1)
        assert (got["transcript"], got["id"]) == ("Hello.", "a1")

    def test_what_is_no_base64_ends_the_answer_with_an_error(
        self, passing: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(stream(ROLE, sound(self.TONE, transcript="Hello."), sound("&?"), STOP))

        got = read_failed_stream(passing.ask(path=AUDIO))

        heard = listen(got)
        assert got.error and got.error["code"] == "upstream_broken"
        assert heard.transcript == "Hello."
        assert heard.ms > 1100

    def test_before_the_first_sound_it_has_a_real_status(
        self, passing: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(stream(ROLE, sound("A"), STOP))

        refused = passing.ask(path=AUDIO)

        assert refused.status == 502
        assert read_failure(refused)["code"] == "upstream_broken"

    def test_a_greeting_is_spoken_by_our_voice(self, passing: RunningServer, upstream: ScriptedUpstream) -> None:
        heard = hear(passing.ask(turn(messages=GREETING), path=AUDIO))

        assert heard.transcript == "**Hello** there!"
        assert max(array("h", heard.pcm)) > 3000
        assert upstream.asked == []
