"""What the playground shows of a turn, in a real browser: the timeline, the events, the verdicts, the sources."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from browser import CHINESE, NEEDS_CHROMIUM, Reader, chromium, reader, said
from playwright.sync_api import Browser, expect
from readme import ENGLISH as README
from running_server import KEY, RunningServer, clean_environment, running_server
from scripted_page import TEXT, VOICE, Script, Step, scripted_page, sound, stream, tone
from scripted_upstream import DONE, ROLE, STOP, ScriptedUpstream, chunk, event

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    """The server as it starts with no settings at all."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def _scripted() -> Iterator[tuple[str, Script]]:
    with scripted_page(log_level="ERROR") as running:
        yield running


@pytest.fixture
def script(_scripted: tuple[str, Script]) -> Script:
    """What the endpoint says that `person` talks to."""
    _scripted[1].say(*stream(text("Hello.")))
    return _scripted[1]


@pytest.fixture
def person(browser: Browser, _scripted: tuple[str, Script], script: Script) -> Iterator[Reader]:
    """Somebody who talks to a scripted endpoint."""
    with reader(browser, _scripted[0]) as someone:
        someone.choose(TEXT)
        yield someone


@pytest.fixture(scope="module")
def judge(browser: Browser, _scripted: tuple[str, Script]) -> Iterator[Reader]:
    """Somebody who looks at many answers."""
    with reader(browser, _scripted[0]) as someone:
        someone.choose(TEXT)
        yield someone


def text(content: str, **more: Any) -> bytes:
    return event(chunk({"content": content}, **more))


def steps(person: Reader) -> dict[str, float]:
    """Return the timeline's table: ms by step."""
    rows = [row.inner_text().split("\t") for row in person.page.locator("#steps tr").all()]
    return {row[0].strip(): float(row[1].split()[0]) for row in rows if not row[1].startswith("–")}


class TestTimeline:
    def test_it_has_each_step_when_it_was(self, person: Reader, script: Script) -> None:
        audio = [sound(tone(40), each) for each in ("One, ", "two", ". Three.")]
        script.say(event(ROLE), 0.15, audio[0], 0.15, audio[1], 0.15, audio[2], 0.15, event(STOP) + DONE)
        person.choose(VOICE)

        person.say("Count")

        shown = steps(person)
        assert list(shown) == ["request", "headers", "first byte", "first sentence", "first audio", "end"]
        assert shown["request"] == 0
        assert (
            shown["headers"] <= shown["first byte"] <= shown["first audio"] <= shown["first sentence"] <= shown["end"]
        )
        assert shown["first audio"] >= 140
        assert shown["first sentence"] >= 440
        assert shown["end"] >= 590
        names = person.page.locator("#chart .name").all_text_contents()
        assert [re.sub(r" \d+$", "", name) for name in names] == list(shown)[1:]

    def test_each_chunk_is_a_tick_and_its_gap_can_be_read_with_the_keyboard(
        self, person: Reader, script: Script
    ) -> None:
        script.say(*stream(text("One "), 0.5, text("two "), text("three.")))
        person.say("Count")
        slider = person.page.locator("#scrub")
        ticks = person.page.locator("#chart path.chunk").get_attribute("d") or ""

        first = person.page.locator("#scrub-said").inner_text()
        slider.focus()
        slider.press("ArrowRight")

        began = re.fullmatch(r"1 of 3: text, at (\d+) ms, \d+ bytes", first)
        assert began, first
        reading = person.page.locator("#scrub-said").inner_text()
        found = re.fullmatch(r"2 of 3: text, at (\d+) ms, ([\d.]+) ms after the one before, \d+ bytes", reading)
        assert found, reading
        assert int(found[1]) >= 490
        assert abs(int(found[1]) - int(began[1]) - float(found[2])) <= 1.1
        assert ticks.count("M") == 3
        expect(slider).to_have_attribute("aria-valuetext", reading)

    def test_the_last_turns_are_beside_it_and_can_be_looked_at(self, person: Reader, script: Script) -> None:
        for number in range(10):
            script.say(*stream(text(f"Answer {number}.")))
            person.say(f"Question {number}")
        last = person.page.locator("#last-turns button")

        expect(last).to_have_count(8)
        last.first.press("Enter")

        expect(last.first).to_be_focused()
        expect(person.page.locator("#turn-title")).to_contain_text("Turn 3")
        expect(last.first).to_have_attribute("aria-pressed", "true")
        expect(person.page.locator(".turn.selected .said")).to_have_text("Answer 2.")
        person.page.locator(".turn").nth(8).locator(".facts").click()
        expect(person.page.locator("#turn-title")).to_contain_text("Turn 9")

    def test_what_the_server_tells_of_its_own_times_is_beside_ours(self, person: Reader, script: Script) -> None:
        timings = {"knowledge_ms": 1.4, "upstream_first_byte_ms": 210, "first_byte_ms": 215.2, "total_ms": 900}
        script.say(*stream(text("Hi."), finish={**STOP, "trace": {"timings": timings}}))

        person.say("Hi")

        rows = [row.inner_text().split("\t") for row in person.page.locator("#steps tr").all()]
        server = {row[0].strip(): row[2] for row in rows}
        assert server["looking up"] == "1.4 ms"
        assert server["first byte from the LLM"] == "210 ms"
        assert server["first byte"] == "215 ms"
        assert server["end"] == "900 ms"
        assert server["headers"] == "–"


class TestEvents:
    def test_they_are_shown_word_for_word(self, person: Reader, script: Script) -> None:
        script.say(b": keepalive\n\n", *stream(text("Hello")))
        person.say("Hi")
        panel = person.tab("events")

        kinds = panel.locator(".event .kind").all_inner_texts()
        panel.locator(".event").nth(2).click()

        assert kinds == ["comment", "role", "text", "finish", "[DONE]"]
        full = json.loads(panel.locator("#event-full").inner_text())
        assert full == chunk({"content": "Hello"})

    def test_they_can_be_filtered_and_opened_with_the_keyboard(self, person: Reader, script: Script) -> None:
        script.say(*stream(text("apple"), text("pear"), text("pineapple")))
        person.say("Fruit")
        panel = person.tab("events")
        panel.locator("#filter-text").fill("APPLE")
        expect(panel.locator(".event")).to_have_count(2)
        expect(panel.locator("#event-count")).to_have_text("2 of 6 events")

        box = panel.locator("#event-list")
        box.focus()
        box.press("ArrowDown")
        box.press("ArrowDown")

        expect(panel.locator("#event-full")).to_contain_text("pineapple")
        chosen = box.get_attribute("aria-activedescendant")
        expect(panel.locator(f"#{chosen}")).to_have_attribute("aria-selected", "true")
        panel.locator("#filter-text").fill("")
        panel.locator("#filter-kind").select_option("finish")
        expect(panel.locator(".event")).to_have_count(1)

    def test_of_thousands_only_those_in_sight_are_in_the_page(self, person: Reader, script: Script) -> None:
        script.say(
            *stream(
                *[b"".join(text(f"w{place} ") for place in range(start, start + 500)) for start in range(0, 6000, 500)]
            )
        )
        person.say("Count")
        panel = person.tab("events")
        box = panel.locator("#event-list")

        expect(panel.locator("#event-count")).to_have_text("5000 of 6003 events; 1003 more were not kept")
        assert panel.locator(".event").count() < 80
        box.focus()
        box.press("End")

        expect(panel.locator("#event-title")).to_contain_text("Event 5000")
        expect(panel.locator(".event[aria-selected=true]")).to_be_in_viewport()
        assert panel.locator(".event").count() < 80


USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
WAITING = text("One moment. ", id="waiting_msg")
WAITING_FIRST = event(chunk({"role": "assistant", "content": "One moment. "}, id="waiting_msg"))
HAN = text("你好。")
CONTROL = event({"object": "chat.completion.custom_metadata", "choices": [], "metadata": {"interruptable": False}})
ERROR = event({"error": {"message": "Broken.", "type": "server_error", "param": None, "code": None}})
CUT = (HAN[: HAN.index("好".encode()) + 1], HAN[HAN.index("好".encode()) + 1 :])
GOOD: dict[str, list[Step]] = {
    "a plain answer": stream(text("Hello.")),
    "a control chunk and a waiting message": [CONTROL, WAITING_FIRST, *stream(text("Hello."))[1:]],
    "keepalives": [b": keepalive\n\n", *stream(text("Hello."), b": keepalive\n\n")],
    "other line ends": [(event(ROLE) + text("Hello.") + event(STOP) + DONE).replace(b"\n", b"\r\n")],
    "characters cut in two": [event(ROLE) + CUT[0], 0.1, CUT[1] + event(STOP) + DONE],
}
BAD: dict[str, tuple[list[Step], str]] = {
    "no finish": ([event(ROLE), text("Hi."), DONE], "There is no finish_reason"),
    "no [DONE]": ([event(ROLE), text("Hi."), event(STOP)], "There is no [DONE]"),
    "another id": (stream(text("Hi"), text(".", id="other")), "The id changed from chatcmpl-up to other."),
    "another time": (stream(text("Hi", created=9)), "`created` changed"),
    "no id": (stream(text("Hi", id="")), "A chunk has no `id`."),
    "another object": (stream(text("Hi", object="text")), "`object` is text instead"),
    "usage unasked": (
        [event(ROLE), text("Hi."), event(STOP), event(chunk(choices=[], usage=USAGE)), DONE],
        "nobody asked",
    ),
    "usage in a chunk": (stream(text("Hi.", usage=USAGE)), "Usage shares a chunk"),
    "something after usage": (stream(event(chunk(choices=[], usage=USAGE))), "Something came after the usage."),
    "no role": ([text("Hi."), event(STOP), DONE], "does not say `role: assistant`"),
    "the role again": (stream(event(chunk({"role": "assistant", "content": "Hi."}))), "The role was sent again"),
    "text after the finish": ([event(ROLE), event(STOP), text("Hi."), DONE], "Something was said after the finish."),
    "text with the finish": (
        [event(ROLE), event(chunk({"content": "Hi."}, "stop")), DONE],
        "The finish shares a chunk",
    ),
    "a late waiting message": (stream(text("Hi."), WAITING), "A waiting message came after"),
    "a late control chunk": (stream(text("Hi."), CONTROL), "The control chunk is not the first."),
    "an event's name": (stream(b"event: ping\n" + text("Hi.")), "A line `event:` was sent"),
    "broken JSON": (stream(b"data: {no\n\n", text("Hi.")), "Event 2 is not JSON."),
    "something after [DONE]": ([*stream(text("Hi.")), text("More.")], "Something came after [DONE]."),
    "an unfinished event": ([*stream(text("Hi."))[:-1], event(STOP), DONE.strip()], "no empty line after it"),
    "an error after the finish": ([event(ROLE), event(STOP), ERROR, DONE], "An error came after the finish."),
    "a late chunk": (stream(text("Hi"), 1.8, text(".")), "ms of silence before chunk 3."),
    "no choices": (stream(event(chunk(choices=[])), text("Hi.")), "neither choices nor usage"),
}


class TestVerdicts:
    @pytest.mark.parametrize("name", GOOD)
    def test_an_answer_that_keeps_the_contract_is_told_so(self, judge: Reader, script: Script, name: str) -> None:
        script.say(*GOOD[name])

        turn = judge.say(name)

        expect(judge.page.locator("#verdicts")).to_contain_text("Kept")
        expect(judge.page.locator("#verdicts li")).to_have_count(1)
        assert said(turn).endswith(("Hello.", "你好。"))
        assert "contract kept" in turn.inner_text()

    @pytest.mark.parametrize("name", BAD)
    def test_an_answer_that_breaks_it_is_told_how(self, judge: Reader, script: Script, name: str) -> None:
        script.say(*BAD[name][0])

        turn = judge.say(name, until=None)

        expect(turn).to_have_attribute("data-state", re.compile("done|failed"))
        expect(judge.page.locator("#verdicts")).to_contain_text(BAD[name][1])
        expect(judge.page.locator("#verdicts")).not_to_contain_text("Kept")

    def test_it_is_told_in_chinese_too(self, browser: Browser, _scripted: tuple[str, Script], script: Script) -> None:
        script.say(*BAD["no finish"][0])
        with reader(browser, _scripted[0], CHINESE) as person:
            person.choose(TEXT)

            person.say("嗨")

            expect(person.page.locator("#verdicts")).to_contain_text("没有 finish_reason")


class TestSources:
    def test_passages_have_their_scores_and_calls_their_results(self, person: Reader, script: Script) -> None:
        trace = {
            "passages": [
                {"title": "Ports", "file": "server.en.md", "score": 7.123, "text": "The default port is 8000."},
                {"file": "faq.jsonl", "text": "Nobody knows."},
            ],
            "tools": [
                {"name": "sum", "arguments": '{"a":1}', "result": {"is": 2}, "ms": 3.6, "failed": False},
                {"name": "weather", "arguments": {"city": "Ulm"}, "result": "timed out", "ms": 900, "failed": True},
            ],
        }
        script.say(*stream(text("8000."), finish={**STOP, "trace": trace}))
        person.say("Which port?")

        panel = person.tab("sources")

        passages = panel.locator("#passages li")
        expect(passages.first).to_contain_text("Ports · server.en.md")
        expect(passages.first).to_contain_text("score 7.12")
        expect(passages.first.locator(".quote")).to_be_hidden()
        passages.first.locator("summary").press("Enter")
        expect(passages.first.locator(".quote")).to_have_text("The default port is 8000.")
        expect(passages.nth(1)).not_to_contain_text("score")
        calls = panel.locator("#calls li")
        expect(calls.first).to_contain_text("sum 4 ms")
        expect(calls.first).to_contain_text('"is": 2')
        expect(calls.nth(1)).to_contain_text("weather 900 ms · failed")
        expect(calls.nth(1)).to_contain_text('"city": "Ulm"')

    def test_what_was_opened_stays_open_while_another_answer_comes(self, person: Reader, script: Script) -> None:
        passages = [{"title": "Ports", "text": "The default port is 8000."}]
        script.say(*stream(text("8000."), finish={**STOP, "trace": {"passages": passages}}))
        person.say("Which port?")
        script.say(*stream(*[step for place in range(8) for step in (text(f"{place} "), 0.1)]))
        person.say("Count", until="streaming")
        person.page.locator(".turn .facts").first.click()
        panel = person.tab("sources")

        panel.locator("summary").click()

        expect(person.page.locator(".turn").nth(1)).to_have_attribute("data-state", "done")
        expect(panel.locator(".quote")).to_be_visible()

    def test_the_server_tells_what_it_has_found_in_its_documents(self, browser: Browser, demo: RunningServer) -> None:
        with reader(browser, demo.url) as person:
            person.choose("/rag/chat/completions")
            person.say("How do I connect a real LLM?")
            timed = person.page.locator("#steps").inner_text()
            passage = person.tab("sources").locator("#passages li").first

            expect(passage).to_contain_text("Connecting a real LLM · server.en.md")
            expect(passage).to_contain_text(re.compile(r"score \d+\.\d\d"))
            assert re.search(r"looking up\t–\t[\d.]+ ms", timed), timed

    def test_the_server_is_asked_for_them_where_it_offers_them(self, person: Reader, script: Script) -> None:
        offered = person.page.evaluate("async () => (await (await fetch('/playground/endpoints')).json()).trace")

        person.say("Hi")

        assert script.headers[0].get("X-Trace") == ("1" if offered else None)
        expect(person.tab("sources")).to_contain_text("told nothing about its sources")


class TestCopy:
    @pytest.fixture
    def caller(self, browser: Browser, server: RunningServer, upstream: ScriptedUpstream) -> Iterator[Reader]:
        """Somebody who has set all there is, and said something with an apostrophe."""
        with reader(browser, server.url) as someone:
            someone.expect_complaint("401")
            someone.set(
                key=KEY, model="m'1", temperature="0.5", session="s'1", system='Don\'t "shout".\n\\', extras=True
            )
            someone.say("It's me")
            yield someone

    def copied(self, person: Reader, form: str) -> str:
        panel = person.tab("copy")
        panel.locator("#form").select_option(form)
        said = panel.locator("#snippet").inner_text()
        assert KEY not in said
        assert "KEY" in said
        assert person.url in said
        return said

    def run(self, command: list[str], upstream: ScriptedUpstream) -> tuple[str, dict[str, Any]]:
        """Run it as a reader would; return its output and what the upstream was asked."""
        count = len(upstream.asked)
        done = subprocess.run(
            command, env=clean_environment(KEY=KEY), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, dict(upstream.wait_for(count + 1).body)

    def test_curl_asks_the_same_again(self, caller: Reader, upstream: ScriptedUpstream) -> None:
        out, body = self.run(["sh", "-c", self.copied(caller, "curl")], upstream)

        assert out.count("Hello") == 1
        assert body == upstream.wait_for(1).body

    def test_python_asks_the_same_again(self, caller: Reader, upstream: ScriptedUpstream) -> None:
        out, body = self.run([sys.executable, "-c", self.copied(caller, "python")], upstream)

        assert out == "Hello there.\n"
        assert body == upstream.wait_for(1).body

    def test_node_names_the_server_and_the_request(self, caller: Reader) -> None:
        snippet = self.copied(caller, "node")

        assert f'baseURL: "{caller.url}"' in snippet
        assert "process.env.KEY" in snippet
        params = json.loads(snippet.split("create(")[1].split(");\nfor await")[0])
        assert params["messages"][1]["content"] == "It's me"
        assert params["stream"] is True

    @pytest.mark.parametrize("path", ["/chat/completions", "/rag/chat/completions"])
    def test_the_agents_request_has_the_form_that_the_readme_shows(self, caller: Reader, path: str) -> None:
        (shown,) = [json.loads(block.text) for block in README.blocks_in("json") if '"tts"' in block.text]
        caller.choose(path)

        started = json.loads(self.copied(caller, "agora"))

        llm = started["properties"]["llm"]
        assert started.keys() == shown.keys()
        assert started["properties"].keys() == shown["properties"].keys()
        assert llm.keys() == shown["properties"]["llm"].keys()
        assert (llm["url"], llm["api_key"]) == (f"{caller.url}{path}", "$KEY")
        assert llm["params"] == {"model": "m'1", "temperature": 0.5}
        assert llm["system_messages"][0]["content"] == 'Don\'t "shout".\n\\'
        expect(caller.page.locator("#snippet-notes")).to_contain_text("public one")

    def test_a_voice_needs_no_tts(self, person: Reader) -> None:
        person.choose(VOICE)
        panel = person.tab("copy")
        panel.locator("#form").select_option("agora")

        properties = json.loads(panel.locator("#snippet").inner_text())["properties"]

        assert properties["llm"]["output_modalities"] == ["audio"]
        assert "tts" not in properties

    def test_python_of_a_voice_writes_what_it_heard(self, person: Reader, script: Script, tmp_path: Any) -> None:
        person.choose(VOICE)
        script.say(*stream(sound(tone(40), "Good "), sound(tone(40), "day.")))
        panel = person.tab("copy")
        panel.locator("#form").select_option("python")
        snippet = panel.locator("#snippet").inner_text()

        done = subprocess.run(
            [sys.executable, "-c", snippet],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

        assert (done.stdout, done.stderr) == ("Good day.\n", "")
        assert (tmp_path / "reply.wav").read_bytes().endswith(tone(40))
        assert os.path.getsize(tmp_path / "reply.wav") == 44 + 2 * 1280

    def test_it_can_be_copied_without_a_secure_context_too(self, browser: Browser, person: Reader) -> None:
        person.page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        panel = person.tab("copy")

        panel.locator("#copy").click()

        expect(panel.locator("#copied")).to_have_text("Copied.")
        assert (
            person.page.evaluate("() => getSelection().toString()").strip()
            == panel.locator("#snippet").inner_text().strip()
        )
