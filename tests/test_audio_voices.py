"""Answers spoken by a voice server, from the running server; and many calls at once."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy
import pytest
from heard import Heard, hear, letters, listen
from running_server import KEY, RunningServer, read_until, running_server, turn
from scripted_upstream import (
    COMPLETION,
    END,
    HEAD,
    ROLE,
    Asked,
    ScriptedUpstream,
    Step,
    answer,
    chunk,
    event,
    framed,
    reply,
    scripted_upstream,
)
from stream_rules import read_failed_stream, read_failure

AUDIO = "/audio/chat/completions"
SHORT: dict[str, Any] = {
    "VOICE_FIRST_S": "0.6",
    "VOICE_STALL_S": "0.6",
    "STALL_S": "2",
    "TOTAL_S": "8",
    "KEEPALIVE_S": 0,
}
RATE = 24_000
VOICE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nTransfer-Encoding: chunked\r\n\r\n"
TONE = numpy.rint(10_000 * numpy.sin(2 * numpy.pi * 440 * numpy.arange(RATE * 20) / RATE)).astype("<i2")
SAMPLES = 12_345
"""What the voice makes of a sentence; at 16,000 Hz that is no whole number of samples, let alone of chunks."""
TEXTS = ("Hello there. ", "It is 3.5 degrees, and sunny. ", "Goodbye!")


@pytest.fixture(scope="module")
def _voice() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as voice:
        yield voice


@pytest.fixture(scope="module")
def speaking(_upstream: ScriptedUpstream, _voice: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that speaks with the voice server, without pauses."""
    voice: dict[str, Any] = {
        "VOICE_URL": _voice.url,
        "VOICE_KEY": "vk",
        "VOICE_MODEL": "tts-7",
        "VOICE_NAME": "alto",
        "VOICE_HZ": RATE,
    }
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, AUDIO_LEAD_MS=0, **SHORT, **voice) as running:
        yield running


@pytest.fixture
def voice(_voice: ScriptedUpstream) -> ScriptedUpstream:
    """The voice server, which goes on with one tone from sentence to sentence until a test has it do otherwise."""
    _voice.say(*(tone(place) for place in range(40)))
    return _voice


def said(pcm: bytes) -> list[Step]:
    """Script the response that is this sound."""
    return [VOICE_HEAD + framed(pcm) + END]


def tone(place: int) -> list[Step]:
    """Script the response with a tone's next part."""
    return said(TONE[place * SAMPLES : (place + 1) * SAMPLES].tobytes())


def inputs(voice: ScriptedUpstream) -> list[str]:
    return [asked.body["input"] for asked in voice.asked]


def read(pcm: bytes) -> "numpy.typing.NDArray[numpy.float64]":
    return numpy.frombuffer(pcm, "<i2").astype(numpy.float64)


class TestAVoiceServer:
    def test_each_sentence_is_asked_for_once_and_in_order(
        self, speaking: RunningServer, upstream: ScriptedUpstream, voice: ScriptedUpstream
    ) -> None:
        upstream.say(answer(*TEXTS))

        heard = hear(speaking.ask(path=AUDIO))

        assert inputs(voice) == ["Hello there.", "It is 3.5 degrees, and sunny.", "Goodbye!"]
        assert {each.target for each in voice.asked} == {"/v1/audio/speech"}
        assert voice.asked[0].headers["authorization"] == "Bearer vk"
        assert voice.asked[0].body["model"] == "tts-7"
        assert heard.transcript == "".join(TEXTS)
        assert letters("".join(word["text"] for word in heard.words)) == letters(heard.transcript)

    @pytest.mark.parametrize(("audio", "name"), [(None, "alto"), ({"voice": "nova"}, "nova")])
    def test_the_requests_voice_is_passed_on(
        self,
        speaking: RunningServer,
        upstream: ScriptedUpstream,
        voice: ScriptedUpstream,
        audio: dict[str, str] | None,
        name: str,
    ) -> None:
        speaking.ask(turn(audio=audio), path=AUDIO)

        assert voice.asked[0].body["voice"] == name

    def test_a_sentences_words_come_behind_its_sound_and_before_the_next_ones(
        self, speaking: RunningServer, upstream: ScriptedUpstream, voice: ScriptedUpstream
    ) -> None:
        pcm = TONE[:SAMPLES].tobytes()
        voice.say([VOICE_HEAD + framed(pcm[:16_000]), 0.2, framed(pcm[16_000:]) + END], tone(1))
        upstream.say(answer("Hello there. Goodbye!"))

        heard = hear(speaking.ask(path=AUDIO))

        kinds = [set(delta["audio"]) - {"id"} for delta in heard.stream.deltas]
        first_words = next(place for place, kind in enumerate(kinds) if "words" in kind)
        assert sum("data" in kind for kind in kinds[:first_words]) >= 5
        assert sum("data" in kind for kind in kinds[first_words:]) >= 12
        assert heard.words[1]["end_ts"] <= SAMPLES / 24 <= heard.words[2]["start_ts"] + 1

    def test_a_slow_voice_is_heard_as_it_comes(
        self, speaking: RunningServer, upstream: ScriptedUpstream, voice: ScriptedUpstream
    ) -> None:
        voice.say([VOICE_HEAD + framed(TONE[:4000].tobytes()), "hold"])

        sock = speaking.open(path=AUDIO)

        read_until(sock, b'"data"')
        sock.close()

    @pytest.mark.parametrize("begun", [b"", VOICE_HEAD + framed(TONE[:4000].tobytes())])
    def test_a_hang_up_closes_the_silent_voices_connection_at_once(
        self, speaking: RunningServer, upstream: ScriptedUpstream, voice: ScriptedUpstream, begun: bytes
    ) -> None:
        upstream.say([HEAD + framed(event(ROLE) + event(chunk({"content": "Hello there. And"}))), "hold"])
        voice.say([begun, "hold"])
        sock = speaking.open(path=AUDIO)
        asked = voice.wait_for(1)
        voice_was_silent_at = time.monotonic()

        sock.close()

        assert voice.wait_for_drop(asked) - voice_was_silent_at < 0.4
        upstream.wait_for_drop(upstream.asked[-1])
        assert len(voice.asked) == 1


class TestFailures:
    @pytest.mark.parametrize(
        ("script", "status", "code"),
        [
            (reply(500, {"error": "no"}), 502, "voice_failed"),
            (reply(200, b"ID3" + bytes(500), "audio/mpeg"), 502, "voice_failed"),
            ([VOICE_HEAD, "close"], 502, "voice_failed"),
            (["hold"], 504, "voice_timeout"),
        ],
        ids=["an error", "another form", "a cut", "silence"],
    )
    @pytest.mark.parametrize("streams", [True, False])
    def test_before_the_first_sound_it_is_a_real_status(
        self,
        speaking: RunningServer,
        upstream: ScriptedUpstream,
        voice: ScriptedUpstream,
        script: list[Step],
        status: int,
        code: str,
        streams: bool,
    ) -> None:
        if not streams:
            upstream.say(reply(200, COMPLETION))
        voice.say(script)

        refused = speaking.ask(turn(stream=streams), path=AUDIO)

        assert refused.status == status
        assert read_failure(refused)["code"] == code

    @pytest.mark.parametrize(
        ("script", "code", "samples"),
        [
            ([VOICE_HEAD + framed(TONE[SAMPLES : 2 * SAMPLES].tobytes()), 0.1, "close"], "voice_failed", 2 * SAMPLES),
            ([VOICE_HEAD + framed(TONE[SAMPLES : 2 * SAMPLES].tobytes()), "hold"], "voice_timeout", 2 * SAMPLES),
            (reply(500, {}), "voice_failed", SAMPLES),
            (reply(200, b"RIFF" + bytes(5000), "audio/wav"), "voice_failed", SAMPLES),
        ],
        ids=["a cut", "silence", "an error", "another form"],
    )
    def test_in_the_second_sentence_the_first_is_heard_and_then_the_error(
        self,
        speaking: RunningServer,
        upstream: ScriptedUpstream,
        voice: ScriptedUpstream,
        script: list[Step],
        code: str,
        samples: int,
    ) -> None:
        upstream.say(answer(*TEXTS))
        voice.say(tone(0), script)

        got = read_failed_stream(speaking.ask(path=AUDIO))

        heard = listen(got)
        assert got.error and got.error["code"] == code
        assert heard.transcript.startswith("Hello there.") and "Goodbye" not in heard.transcript
        assert [word["text"] for word in heard.words] == ["Hello", "there."]
        assert samples * 2 // 3 - 2 <= len(heard.pcm.rstrip(b"\0")) // 2 <= samples * 2 // 3 + 2
        assert len(voice.asked) == 2

    def test_where_the_model_fails_what_the_voice_has_made_is_heard(
        self, speaking: RunningServer, upstream: ScriptedUpstream, voice: ScriptedUpstream
    ) -> None:
        begun = HEAD + framed(event(ROLE) + event(chunk({"content": "Hello there. And"})))
        upstream.say([begun, 0.3, "close"])
        voice.say([VOICE_HEAD + framed(TONE[:8000].tobytes()), "hold"])

        heard = listen(read_failed_stream(speaking.ask(path=AUDIO)))

        assert heard.transcript == "Hello there."
        assert 8000 / 24 <= heard.ms < 8000 / 24 + 40


LONG = 30


@pytest.fixture(scope="module")
def long(speaking: RunningServer, _upstream: ScriptedUpstream, _voice: ScriptedUpstream) -> Heard:
    """A reply of many sentences."""
    _voice.say(*(tone(place) for place in range(LONG)))
    _upstream.say(answer(*(f"This is number {place}. " for place in range(LONG))))
    return hear(speaking.ask(path=AUDIO))


class TestOneReply:
    def test_there_is_no_click_where_one_sentence_ends_and_the_next_begins(self, long: Heard) -> None:
        samples = read(long.pcm)[: int(LONG * SAMPLES / 1.5) - 100]

        pure = numpy.sin(2 * numpy.pi * 440 * numpy.arange(len(samples)) / 16_000)
        level = 2 * (samples * pure).mean()
        assert 9900 < level < 10_100
        assert abs(samples - level * pure)[100:].max() < 20  # a tone does not begin out of nothing

    def test_it_is_as_long_as_its_sentences(self, long: Heard) -> None:
        sound_ms = LONG * SAMPLES / 24

        assert sound_ms <= long.ms < sound_ms + 40

    def test_the_words_of_the_last_sentence_are_where_it_is_spoken(self, long: Heard) -> None:
        begins = [word["start_ts"] for word in long.words if word["text"] == "This"]

        assert len(begins) == LONG
        for place, begin in enumerate(begins):
            assert begin == pytest.approx(place * SAMPLES / 24, abs=1)

    def test_words_are_in_order_across_sentences(self, long: Heard) -> None:
        assert all(a["end_ts"] <= b["start_ts"] for a, b in pairwise(long.words))


def test_an_answer_is_spoken_the_same_wherever_it_is_cut(
    speaking: RunningServer, upstream: ScriptedUpstream, voice: ScriptedUpstream
) -> None:
    text = 'Dr. Li\'s **3.5** cats: "Hm?" 你好！ See [us](http://a.b/c.d). Yes'
    sounds: set[tuple[str, int, str]] = set()
    for cut in range(len(text) + 1):
        voice.say(tone(0))
        upstream.say(answer(text[:cut], text[cut:]))

        heard = hear(speaking.ask(path=AUDIO))

        # a closing quotation mark that comes late is not given to the voice, which would not speak it
        sounds.add((heard.transcript, len(heard.pcm), "|".join(map(letters, inputs(voice)))))

    ((transcript, _, spoken),) = sounds
    assert transcript == 'Dr. Li\'s 3.5 cats: "Hm?" 你好！ See us. Yes'
    assert letters(spoken) == letters(transcript)
    assert spoken.count("|") == 3


def test_fifty_calls_at_once_hear_only_their_own(
    speaking: RunningServer, upstream: ScriptedUpstream, voice: ScriptedUpstream
) -> None:
    def level(text: str) -> int:
        return 100 * int(re.findall(r"\d+", text)[0])

    def speak(asked: Asked) -> list[Step]:
        return said(numpy.full(SAMPLES, level(asked.body["input"]), "<i2").tobytes())

    def answer_of(asked: Asked) -> list[Step]:
        number = asked.body["messages"][0]["content"]
        return answer(f"I am number {number}. ", f"We are {number} here.")

    voice.judge, upstream.judge = speak, answer_of

    def call(number: int) -> Heard:
        return hear(speaking.ask(turn(messages=[{"role": "user", "content": str(number)}]), path=AUDIO))

    with ThreadPoolExecutor(50) as callers:
        calls = list(callers.map(call, range(1, 51)))

    for number, heard in enumerate(calls, 1):
        assert heard.transcript == f"I am number {number}. We are {number} here."
        sound = read(heard.pcm)[200 : 2 * SAMPLES * 2 // 3 - 200]
        assert abs(sound - 100 * number).max() <= 2
    assert len({heard.ids[0] for heard in calls}) == 50
