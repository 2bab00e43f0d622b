"""How the playground sounds, in a real browser: what it plays, when, and which words it lights."""

import base64
import json
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from browser import CHINESE, ENGLISH, NEEDS_CHROMIUM, Reader, chromium, reader, said
from playwright.sync_api import Browser, expect
from running_server import RunningServer, running_server
from scripted_page import CHUNK_MS, HZ, VOICE, Script, Step, scripted_page, sound, spoken, stream, tone, word
from scripted_upstream import STOP, chunk, event

pytestmark = NEEDS_CHROMIUM

WORDS = ("The ", "line ", "is ", "closed ", "at ", "once.")
TEXT = "The line is closed at once."

# what the browser is told to play, as it is told; and each word when it is lit, with how far the sound is
LISTEN = """
window.played = []; window.lit = []; window.stops = 0; window.loudest = 0;
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
    window.context = this.context;
    const { length, sampleRate, numberOfChannels } = this.buffer;
    window.played.push({
        frame: when * this.context.sampleRate, length, hz: sampleRate, channels: numberOfChannels,
        context: this.context.sampleRate, now: this.context.currentTime * this.context.sampleRate,
        samples: Array.from(this.buffer.getChannelData(0), (sample) => Math.round(sample * 32768)),
    });
    return start.call(this, when);
};
const stop = AudioBufferSourceNode.prototype.stop;
AudioBufferSourceNode.prototype.stop = function () { window.stops++; return stop.call(this); };
const look = AnalyserNode.prototype.getFloatTimeDomainData;
AnalyserNode.prototype.getFloatTimeDomainData = function (frames) {
    look.call(this, frames);
    window.loudest = Math.max(window.loudest, ...frames);
};
new MutationObserver((changes) => {
    for (const { target } of changes)
        if (target.classList.contains("lit") && !window.lit.some(({ element }) => element === target))
            window.lit.push({ element: target, text: target.textContent, at: window.context.currentTime * 1000 });
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["class"] });
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def speaking() -> Iterator[RunningServer]:
    """The server as it starts, but for its sound: it comes as fast as it is made."""
    with running_server(AUDIO_LEAD_MS="0") as running:
        yield running


@pytest.fixture(scope="module")
def _scripted() -> Iterator[tuple[str, Script]]:
    with scripted_page(log_level="ERROR") as running:
        yield running


@pytest.fixture
def script(_scripted: tuple[str, Script]) -> Script:
    """What the endpoint says that `person` talks to."""
    return _scripted[1]


@pytest.fixture
def person(browser: Browser, _scripted: tuple[str, Script], script: Script) -> Iterator[Reader]:
    """Somebody who listens to a scripted endpoint."""
    with reader(browser, _scripted[0]) as someone:
        someone.page.add_init_script(LISTEN)
        someone.open()
        someone.choose(VOICE)
        yield someone


def played(person: Reader) -> list[dict[str, Any]]:
    buffers: list[dict[str, Any]] = person.page.evaluate("() => window.played")
    return buffers


def lit(person: Reader) -> list[tuple[str, float]]:
    """Return each word that was lit, with how many ms into the context's time."""
    said: list[list[Any]] = person.page.evaluate("() => window.lit.map(({ text, at }) => [text, at])")
    return [(text, at) for text, at in said]


def gaps(buffers: list[dict[str, Any]]) -> list[int]:
    """Return the frames of silence between each buffer and the next."""
    return [round(after["frame"] - before["frame"] - before["length"]) for before, after in pairwise(buffers)]


def paced(chunks: list[bytes], every_s: float) -> list[Step]:
    return [step for each in chunks for step in (each, every_s)]


class TestPlaying:
    @pytest.mark.parametrize(
        "lead",
        ["all at once", "a chunk a write", "faster than real time", "in bursts", "pieces of odd lengths"],
    )
    def test_every_sample_is_played_once_and_without_a_gap(self, person: Reader, script: Script, lead: str) -> None:
        spoken_chunks = spoken(*WORDS)
        # what is in hand at first outlasts a machine that is busy
        chunks = [b"".join(spoken_chunks[:15]), *spoken_chunks[15:]]
        pcm = tone(len(WORDS) * 200)
        leads: dict[str, list[Step]] = {
            "all at once": [b"".join(chunks)],
            "a chunk a write": list(chunks),
            "faster than real time": paced(chunks, 0.005),
            "in bursts": [chunks[0], 0.1, b"".join(chunks[1:])],
            "pieces of odd lengths": [sound(pcm[a:b]) for a, b in pairwise([0, 2, 1002, 9000, len(pcm)])],
        }
        script.say(*stream(*leads[lead]))

        person.say("Go on")

        buffers = played(person)
        heard = [sample for buffer in buffers for sample in buffer["samples"]]
        assert heard == list(struct.unpack(f"<{len(pcm) // 2}h", pcm))
        assert set(gaps(buffers)) <= {0}
        assert {(buffer["hz"], buffer["context"], buffer["channels"]) for buffer in buffers} == {(HZ, HZ, 1)}
        assert all(buffer["frame"] >= buffer["now"] for buffer in buffers), "too late to be played whole"
        expect(person.page.locator("#player-said")).to_have_text("1.2 of 1.2 s heard, 0.0 s in hand")
        expect(person.page.locator("#underruns")).to_be_hidden()
        assert person.page.evaluate("() => window.loudest") > 0.2, "nothing has reached the meter"

    def test_it_begins_before_the_answer_has_ended(self, person: Reader, script: Script) -> None:
        script.say(*stream(*spoken(*WORDS), "hold"))

        turn = person.say("Go on", until="streaming")

        expect(turn.locator(".word").nth(2)).to_have_class(re.compile("lit"))
        assert "first audio" in turn.inner_text()
        person.page.click("#stop")

    def test_an_underrun_is_shown_and_the_rest_is_played(self, person: Reader, script: Script) -> None:
        chunks = spoken(*WORDS)
        script.say(*stream(b"".join(chunks[:10]), 1.5, b"".join(chunks[10:])))

        turn = person.say("Go on")

        buffers = played(person)
        (gap,) = [gap for gap in gaps(buffers) if gap]
        assert sum(buffer["length"] for buffer in buffers) == len(WORDS) * 200 * HZ // 1000
        assert gap > 0.1 * HZ
        expect(person.page.locator("#underruns")).to_have_text("underruns: 1")
        expect(person.page.locator("#verdicts")).to_contain_text("The sound ran out for")
        expect(person.page.locator("#chart .late").first).to_be_attached()
        assert [text for text, _ in lit(person)] == TEXT.split()
        assert "to look at" in turn.inner_text()

    def test_a_rate_that_the_server_tells_is_played_at_from_then_on(self, person: Reader, script: Script) -> None:
        script.say(*stream(sound(tone(80, 24000), "Hi."), finish={**STOP, "trace": {"audio_hz": 24000}}))
        person.say("One")

        person.say("Two")

        assert [(buffer["hz"], buffer["context"]) for buffer in played(person)] == [(16000, 16000), (24000, 24000)]


class TestWords:
    def test_they_light_up_in_order_and_in_time(self, person: Reader, script: Script) -> None:
        script.say(*stream(*spoken(*WORDS)))

        turn = person.say("Go on")

        begun = played(person)[0]["frame"] / HZ * 1000
        shown = lit(person)
        assert [text for text, _ in shown] == TEXT.split()
        late = [at - begun - place * 200 for place, (_, at) in enumerate(shown)]
        assert min(late) >= 0, "a word is lit before it is heard"
        assert min(late) < 150
        assert max(late) < 1000
        assert said(turn) == TEXT
        expect(turn.locator(".now")).to_have_count(0)

    def test_transcript_words_and_sound_may_come_apart(self, person: Reader, script: Script) -> None:
        words = [word("你好", 0, 200), word("，", 200, 220), word("世界", 220, 400), word("。", 400, 420)]
        pieces = [
            sound(b"", words=words[:3]),
            sound(b"", "你好，"),
            sound(tone(300)),
            sound(b"", "世界。"),
            sound(tone(140), words=words[3:]),
        ]
        script.say(*stream(*pieces))

        turn = person.say("你好")

        assert [text for text, _ in lit(person)] == ["你好", "，", "世界", "。"]
        assert said(turn) == "你好，世界。"
        expect(person.page.locator("#verdicts")).to_contain_text("Kept")

    def test_words_without_a_transcript_are_shown_and_it_is_told(self, person: Reader, script: Script) -> None:
        script.say(*stream(sound(tone(200), words=[word("Good", 0, 100), word("day", 100, 200)])))

        turn = person.say("Hi")

        assert said(turn) == "Good day"
        expect(person.page.locator("#verdicts")).to_contain_text("without a transcript")


class TestBargeIn:
    def test_the_sound_stops_and_only_the_words_that_were_heard_are_remembered(
        self, person: Reader, script: Script
    ) -> None:
        person.set(extras=True)
        script.say(*stream(*spoken(*WORDS, each_ms=600)))
        turn = person.say("Go on", until="speaking")
        expect(turn.locator(".word").nth(1)).to_have_class(re.compile("lit"))

        person.page.keyboard.press("Escape")

        expect(turn).to_have_attribute("data-state", "stopped")
        assert person.page.evaluate("() => window.stops") > 0
        heard = turn.locator(".word.lit").all_inner_texts()
        assert 2 <= len(heard) < len(WORDS)
        script.say(*stream(sound(tone(CHUNK_MS), "Yes.")))
        person.say("Wait")
        _, agent, _ = script.asked[0]["messages"]
        assert agent["content"] == " ".join(heard)
        assert agent["original"] == TEXT
        assert agent["interrupted"] is True
        assert agent["interrupt_timestamp"] > 1_600_000_000_000
        expect(turn.locator(".word:not(.lit)").first).to_have_css("text-decoration-line", "line-through")

    def test_without_times_of_words_it_is_told_from_how_much_was_heard(self, person: Reader, script: Script) -> None:
        script.say(*stream(sound(tone(4000), "One two three four five six seven eight nine ten.")))
        turn = person.say("Count", until="speaking")
        expect(person.page.locator("#player-said")).to_contain_text("1.")

        person.page.click("#stop")

        script.say(*stream(sound(tone(CHUNK_MS), "Yes.")))
        person.say("Wait")
        said_then = script.asked[0]["messages"][1]["content"]
        assert said_then.startswith("One two")
        assert "ten" not in said_then
        assert turn.locator(".unheard").inner_text().endswith("nine ten.")


class TestServer:
    @pytest.mark.parametrize(
        ("language", "question", "words"),
        [
            (ENGLISH, "Hello!", ["Hello!", "I", "am", "the"]),
            (CHINESE, "你好！", ["你", "好！", "我", "是", "内", "置"]),
        ],
    )
    def test_its_own_voice_is_heard_whole_and_its_words_light_up(
        self, browser: Browser, speaking: RunningServer, language: str, question: str, words: list[str]
    ) -> None:
        with reader(browser, speaking.url, language) as person:
            person.page.add_init_script(LISTEN)
            person.open()
            person.choose("/audio/chat/completions")

            with person.page.expect_response("**/audio/chat/completions") as answer:
                turn = person.say(question, until="speaking")

            pcm = pcm_of(answer.value.text())
            buffers = played(person)
            assert len(pcm) > HZ
            assert [sample for buffer in buffers for sample in buffer["samples"]] == pcm
            assert set(gaps(buffers)) <= {0}
            expect(turn.locator(".word").nth(len(words) - 1)).to_have_class(re.compile("lit"))
            assert [text for text, _ in lit(person)][: len(words)] == words
            expect(person.page.locator("#verdicts")).to_contain_text("符合" if language == CHINESE else "Kept")
            person.page.keyboard.press("Escape")
            # on a busy machine all of it has been played by now
            expect(turn).to_have_attribute("data-state", re.compile("stopped|done"))


def pcm_of(body: str) -> list[int]:
    """Return the samples of a streamed answer."""
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    audio = [choice["delta"].get("audio") or {} for chunk in chunks for choice in chunk["choices"]]
    data = b"".join(base64.b64decode(each.get("data", "")) for each in audio)
    return list(struct.unpack(f"<{len(data) // 2}h", data))


class TestVerdicts:
    def test_sound_and_words_that_are_wrong_are_told(self, person: Reader, script: Script) -> None:
        broken = event(chunk({"audio": {"id": "a1", "data": "???", "transcript": "Hello there. "}}))
        odd = event(chunk({"audio": {"id": "a2", "data": base64.b64encode(bytes(1281)).decode()}}))
        words = [word("Hello", 0, 100), word("there", 90, 5000), {"text": "no", "start_ts": 1}]
        words[1]["duration"] = 7
        script.say(*stream(broken, odd, sound(b"", words=[*words, word("late", 10, 20)])))

        person.say("Hi")

        for told in (
            "Audio data is no base64.",
            "The audio's id changed.",
            "1281 bytes of audio in a chunk: half a sample is left over.",
            "Words reach to 5000 ms, but there are only 40 ms of audio.",
            "The word there does not last what its times say.",
            "The word no lacks one of text, start_ts, end_ts, duration.",
            "The word late is out of order in time.",
        ):
            expect(person.page.locator("#verdicts")).to_contain_text(told)
