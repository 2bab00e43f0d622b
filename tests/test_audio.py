"""Spoken answers, from the running server."""

import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from heard import hear, letters, listen
from running_server import KEY, RunningServer, running_server, turn
from scripted_upstream import (
    COMPLETION,
    HEAD,
    ROLE,
    STOP,
    ScriptedUpstream,
    Step,
    answer,
    chunk,
    event,
    framed,
    reply,
    stream,
)
from stream_rules import read_failed_stream, read_failure, read_good_stream

SHORT: dict[str, Any] = {"FIRST_TOKEN_S": "0.8", "STALL_S": "0.8", "TOTAL_S": "4", "KEEPALIVE_S": "0.3", "WRITE_S": "1"}
AUDIO = "/audio/chat/completions"
TEXTS = ("Hello there. ", "It is 3.5 degrees, ", "and **sunny** in [Paris](https://example.com).")
SPOKEN = "Hello there. It is 3.5 degrees, and sunny in Paris."


@pytest.fixture(scope="module")
def speaking(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that speaks, without pauses."""
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, AUDIO_LEAD_MS=0, **SHORT) as running:
        yield running


@pytest.fixture(scope="module")
def paced(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that speaks 200 ms ahead of the listener, and says a phrase where the model is slow."""
    settings = {**SHORT, "AUDIO_LEAD_MS": 200, "AUDIO_WAITING_AFTER_MS": 150, "FALLBACK": "Please say that again."}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **settings) as running:
        yield running


def whole(text: str) -> list[Step]:
    """Script an answer that is not streamed."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    return reply(200, {**COMPLETION, "choices": choices})


class TestSpeech:
    def test_an_answer_is_spoken_with_its_words_and_transcript(
        self, speaking: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(answer(*TEXTS))

        heard = hear(speaking.ask(path=AUDIO))

        assert heard.transcript == SPOKEN
        assert letters("".join(word["text"] for word in heard.words)) == letters(SPOKEN)
        assert 0 <= heard.ms - heard.words[-1]["end_ts"] <= 300 + 40
        assert heard.loudest > 3000
        assert heard.stream.text == ""

    def test_a_chinese_answer_too(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(answer("你好！", "今天气温3.5度，", "**天气**很好。"))

        heard = hear(speaking.ask(path=AUDIO))

        assert heard.transcript == "你好！今天气温3.5度，天气很好。"
        assert len(heard.words) > 8
        assert 2000 < heard.ms < 9000

    def test_the_model_is_not_asked_for_sound(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        speaking.ask(turn(modalities=["audio"], audio={"voice": "f3", "format": "pcm16"}), path=AUDIO)

        assert upstream.asked[-1].body.keys() == {"model", "stream", "messages"}

    @pytest.mark.parametrize("modalities", [["text", "audio"], ["audio", "text"]])
    def test_text_and_sound_are_sent_where_both_are_wanted(
        self, speaking: RunningServer, upstream: ScriptedUpstream, modalities: list[str]
    ) -> None:
        upstream.say(answer(*TEXTS))

        heard = hear(speaking.ask(turn(modalities=modalities), path=AUDIO))

        assert heard.stream.text == "".join(TEXTS)
        assert heard.transcript == SPOKEN

    def test_text_alone_is_sent_where_it_is_wanted(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(answer(*TEXTS))

        heard = hear(speaking.ask(turn(modalities=["text"]), path=AUDIO))

        assert (heard.stream.text, heard.pcm) == ("".join(TEXTS), b"")

    @pytest.mark.parametrize("modalities", ["audio", [1], ["video"], {}])
    def test_modalities_that_are_none_are_refused(self, speaking: RunningServer, modalities: Any) -> None:
        error = read_failure(speaking.ask(turn(modalities=modalities), path=AUDIO))

        assert error["param"] == "modalities"

    def test_reasoning_is_never_spoken(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(
            stream(ROLE, chunk({"reasoning_content": "Hm."}), chunk({"content": "<think>Hm.</think>Hi."}), STOP)
        )

        assert hear(speaking.ask(path=AUDIO)).transcript == "Hi."

    def test_usage_and_calls_of_tools_go_with_it(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        usage = chunk(choices=[], usage={"total_tokens": 7})
        upstream.say(
            stream(ROLE, chunk({"content": "Hi."}), chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), usage)
        )

        got = read_good_stream(speaking.ask(turn(stream_options={"include_usage": True}), path=AUDIO), usage_asked=True)

        assert listen(got).transcript == "Hi."
        assert got.tool_calls == [{"id": "c1", "name": "f", "arguments": "{}"}]
        assert got.finish_reasons == {0: "tool_calls"}
        assert got.usage == {"total_tokens": 7}

    def test_an_answer_that_says_nothing_is_silent(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(answer("```\ncode\n```"))

        heard = hear(speaking.ask(path=AUDIO))

        assert (heard.pcm, heard.transcript) == (b"", "")

    def test_a_silent_turn_is_answered_with_silence(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        heard = hear(speaking.ask(turn(messages=[{"role": "user", "content": " "}]), path=AUDIO))

        assert heard.pcm == b""
        assert upstream.asked == []

    def test_what_the_documents_say_is_spoken(self, speaking: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(answer("As it says there."))

        heard = hear(speaking.ask(path="/rag/audio/chat/completions"))

        assert heard.transcript.endswith(". As it says there.")
        assert letters(heard.transcript) == letters("".join(word["text"] for word in heard.words))
        assert len({each["created"] for each in heard.stream.chunks}) == 1

    def test_an_answer_that_is_not_streamed_is_one_message(
        self, speaking: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(whole("".join(TEXTS)))

        got = speaking.ask(turn(stream=False, modalities=["text", "audio"]), path=AUDIO)

        message = got.json["choices"][0]["message"]
        assert got.json["object"] == "chat.completion"
        assert message["content"] == "".join(TEXTS)
        assert message["audio"]["transcript"] == SPOKEN
        assert len(b64decode(message["audio"]["data"])) > 32000
        assert message["audio"]["id"] and message["audio"]["expires_at"] > time.time()
        assert message["audio"]["words"][-1]["text"] == "Paris."

    def test_without_text_the_content_of_a_whole_message_is_null(
        self, speaking: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(whole("Hello."))

        message = speaking.ask(turn(stream=False), path=AUDIO).json["choices"][0]["message"]

        assert message["content"] is None
        assert message["audio"]["transcript"] == "Hello."

    def test_a_whole_answer_without_a_message_is_silent(
        self, speaking: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        choices = [{"index": 0, "message": None, "finish_reason": "stop"}]
        upstream.say(reply(200, {**COMPLETION, "choices": choices}))

        got = speaking.ask(turn(stream=False), path=AUDIO)

        assert got.json["choices"][0]["message"] == {"role": "assistant", "content": None}


class TestSaying:
    SAID = "**Welcome** to [us](https://example.com)! 😀 What can I do?"

    def test_a_last_message_of_the_assistant_is_spoken_as_it_stands(
        self, speaking: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        messages = [{"role": "assistant", "content": self.SAID}]

        heard = hear(speaking.ask(turn(messages=messages), path=AUDIO))

        assert heard.transcript == self.SAID
        assert letters("".join(word["text"] for word in heard.words)) == letters(self.SAID)
        assert heard.ms < 6000
        assert upstream.asked == []

    def test_on_every_endpoint_that_speaks(self, speaking: RunningServer) -> None:
        messages = [{"role": "assistant", "content": self.SAID}]

        heard = hear(speaking.ask(turn(messages=messages), path="/rag/audio/chat/completions"))

        assert heard.transcript == self.SAID


class TestPace:
    def test_chunks_run_ahead_of_the_listener_by_the_lead(
        self, paced: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(answer("One, two, three, four, five, six, seven."))
        began = time.monotonic()

        heard = hear(paced.ask(path=AUDIO))

        took_ms = (time.monotonic() - began) * 1000
        assert heard.ms > 1500
        assert heard.ms - 200 - 40 <= took_ms

    def test_an_answer_that_is_not_streamed_is_not_paced(
        self, paced: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        # longer than all that is spoken ahead of a listener
        upstream.say(whole("One, two, three, four, five, six, seven. " * 4))

        got = paced.ask(turn(stream=False), path=AUDIO)

        audio = got.json["choices"][0]["message"]["audio"]
        assert len(b64decode(audio["data"])) > 32 * 8000
        assert letters(audio["transcript"]) == "Onetwothreefourfivesixseven" * 4

    def test_a_phrase_is_spoken_where_nothing_has_come(self, paced: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say([0.5, *answer("Here I am.")])

        heard = hear(paced.ask(path=AUDIO))

        assert heard.transcript == "One moment, please. Here I am."

    def test_one_phrase_is_enough(self, paced: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say([0.5, *answer("Here I am.")])

        heard = hear(paced.ask(path="/rag/audio/chat/completions"))

        assert len(heard.transcript.split(".")) == 3
        assert heard.transcript.endswith(". Here I am.")

    def test_a_phrase_is_not_spoken_where_something_has(self, paced: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(answer("Here I am."))

        assert hear(paced.ask(path=AUDIO)).transcript == "Here I am."

    @pytest.mark.parametrize("heard", [b'"transcript"', b'"data"'])
    def test_a_hang_up_stops_the_model_and_the_voice(
        self, paced: RunningServer, upstream: ScriptedUpstream, heard: bytes
    ) -> None:
        upstream.say([HEAD + framed(event(ROLE) + event(chunk({"content": "One, two, three. Four"}))), "hold"])
        sock = paced.open(path=AUDIO)
        got = b""
        while heard not in got:
            got += sock.recv(65536)

        hung_up = time.monotonic()
        sock.close()

        assert upstream.wait_for_drop(upstream.asked[-1]) - hung_up < 0.5
        paced.wait_for_log("outcome=caller_hangup")


class TestFailures:
    BEGUN: list[Step] = [HEAD + framed(event(ROLE) + event(chunk({"content": "Hello there. And"})))]

    def test_what_was_spoken_by_then_is_heard_before_the_error(
        self, speaking: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say([*self.BEGUN, 0.3, "close"])

        got = read_failed_stream(speaking.ask(path=AUDIO))

        heard = listen(got)
        assert heard.transcript.strip() == "Hello there."
        assert heard.ms > 300

    def test_a_failure_before_the_first_sound_has_a_real_status(
        self, speaking: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(reply(500, {}))

        assert read_failure(speaking.ask(path=AUDIO))["code"] == "upstream_error"

    def test_a_fallback_is_spoken(self, paced: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(500, {}), reply(500, {}))

        heard = hear(paced.ask(path=AUDIO))

        assert heard.transcript.endswith("Please say that again.")
        paced.wait_for_log("outcome=fallback")
