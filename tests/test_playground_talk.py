"""A conversation in the playground, in a real browser."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import CHINESE, ENGLISH, NEEDS_CHROMIUM, Reader, chromium, reader, said
from playwright.sync_api import Browser, expect
from running_server import KEY, RunningServer, running_server
from scripted_page import TEXT, VOICE, Script, scripted_page, spoken, stream
from scripted_upstream import BEGUN, DONE, ROLE, ScriptedUpstream, answer, chunk, event

pytestmark = NEEDS_CHROMIUM

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{key}'


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


@pytest.fixture
def caller(browser: Browser, server: RunningServer, upstream: ScriptedUpstream) -> Iterator[Reader]:
    """Somebody who has the key of the real server, which has a scripted upstream."""
    with reader(browser, server.url) as someone:
        someone.expect_complaint("401")
        someone.set(key=KEY, model="m")
        expect(someone.page.locator("#banner")).to_be_hidden()
        yield someone


def text(content: str) -> bytes:
    return event(chunk({"content": content}))


def fails(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}


class TestConversation:
    def test_a_whole_conversation_in_english(self, browser: Browser, demo: RunningServer) -> None:
        with reader(browser, demo.url, ENGLISH) as person:
            expect(person.page.locator("html")).to_have_attribute("lang", "en")
            hello = person.say("Hello!")
            person.choose("/rag/chat/completions")
            port = person.say("Which port does the server listen on by default?")
            thanks = person.say("Thank you!")

            assert said(hello).startswith("Hello! I am the built-in demo model.")
            assert "8000" in said(port)
            assert "You're welcome" in said(thanks)
            assert "contract kept" in port.inner_text()
            assert person.page.locator(".turn .bubble.user p").all_inner_texts()[0] == "Hello!"
            expect(person.page.locator("#verdicts")).to_contain_text("Kept")

    def test_a_whole_conversation_in_chinese(self, browser: Browser, demo: RunningServer) -> None:
        with reader(browser, demo.url, CHINESE) as person:
            expect(person.page.locator("html")).to_have_attribute("lang", "zh-CN")
            hello = person.say("你好！")
            person.choose("/rag/chat/completions")
            port = person.say("默认端口是多少？")

            assert said(hello).startswith("你好！我是内置的演示模型。")
            assert "8000" in said(port)
            assert "符合约定" in port.inner_text()
            assert "first" not in person.page.locator("main").inner_text()
            expect(person.page.locator("#verdicts")).to_contain_text("符合")

    def test_the_first_thing_to_say_is_one_click_away(self, browser: Browser, demo: RunningServer) -> None:
        with reader(browser, demo.url) as person:
            person.page.click("#tries button >> nth=0")

            expect(person.page.locator(".turn[data-state=done] .said")).to_contain_text("Hello!")

    def test_the_language_can_be_switched_and_stays(self, person: Reader) -> None:
        turn = person.say("Hi")

        person.page.click("#language")

        expect(turn).to_contain_text("符合约定")
        expect(person.page.locator("#send")).to_have_text("发送")
        expect(person.page.locator("#steps")).to_contain_text("第一个字节")
        person.open()
        expect(person.page.locator("#send")).to_have_text("发送")
        expect(person.page.locator("#language")).to_have_text("English")

    def test_the_whole_conversation_is_sent_each_time(self, person: Reader, script: Script) -> None:
        person.say("One")
        person.say("Two")

        assert [(m["role"], m["content"]) for m in script.asked[1]["messages"]] == [
            ("user", "One"),
            ("assistant", "Hello."),
            ("user", "Two"),
        ]
        assert script.asked[0] == {"stream": True, "messages": [{"role": "user", "content": "One"}]}

    def test_a_new_conversation_forgets_the_old_one_and_its_session(self, person: Reader, script: Script) -> None:
        person.say("One")
        person.page.click("#new")
        expect(person.page.locator(".turn")).to_have_count(0)
        person.say("Two")

        assert len(script.asked[1]["messages"]) == 1
        sessions = [headers["X-Session-Id"] for headers in script.headers]
        assert all(sessions)
        assert sessions[0] != sessions[1]

    def test_tools_that_the_engine_would_run_are_named(self, person: Reader, script: Script) -> None:
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "open_door", "arguments": '{"no":'}}
        rest = {"index": 0, "function": {"arguments": "7}"}}
        calls = [event(chunk({"tool_calls": [piece]})) for piece in (call, rest)]
        script.say(*stream(*calls, finish=chunk({}, "tool_calls")))

        turn = person.say("Open")

        expect(turn).to_contain_text("asks the engine to run open_door")
        sources = person.tab("sources")
        expect(sources).to_contain_text('"no": 7')
        expect(sources).to_contain_text("for the engine to run")


class TestSettings:
    def test_they_are_sent(self, person: Reader, script: Script) -> None:
        person.set(model="m-1", temperature="0.4", system="Be kind.", session="s-1", usage=True)

        person.say("Hi")

        assert script.asked[0] == {
            "model": "m-1",
            "stream": True,
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
            "temperature": 0.4,
            "stream_options": {"include_usage": True},
        }
        assert script.headers[0]["X-Session-Id"] == "s-1"
        assert "Authorization" not in script.headers[0]

    def test_they_stay_when_the_page_is_loaded_again(self, person: Reader, script: Script) -> None:
        person.set(model="m-1")
        person.open()
        person.choose(TEXT)

        person.say("Hi")

        assert script.asked[0]["model"] == "m-1"

    def test_what_the_engine_adds_is_added_where_it_is_wanted(self, person: Reader, script: Script) -> None:
        person.set(extras=True)

        person.say("One")
        person.say("Two")

        body = script.asked[1]
        assert (body["turn_id"], body["interruptable"]) == (2, True)
        assert [message["turn_id"] for message in body["messages"]] == [1, 1, 2]
        assert [message["metadata"]["source"] for message in body["messages"]] == ["message", "llm", "message"]
        assert all(message["timestamp"] > 1_600_000_000_000 for message in body["messages"])
        assert "interrupted" not in body["messages"][1]


class TestStop:
    @pytest.mark.parametrize("way", ["the button", "Escape", "a new message"])
    def test_it_cancels_the_upstream_and_only_what_was_heard_is_remembered(
        self, caller: Reader, upstream: ScriptedUpstream, way: str
    ) -> None:
        upstream.say([BEGUN, "hold"], answer("Yes."))
        turn = caller.say("Tell me all", until="streaming")
        expect(turn.locator(".said")).to_have_text("Hello")

        if way == "the button":
            caller.page.click("#stop")
        elif way == "Escape":
            caller.page.press("#message", "Escape")
        if way != "a new message":
            expect(turn).to_have_attribute("data-state", "stopped")
        second = caller.say("And now?")

        upstream.wait_for_drop(upstream.wait_for(1))
        assert said(second) == "Yes."
        assert upstream.wait_for(2).body["messages"] == [
            {"role": "user", "content": "Tell me all"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "And now?"},
        ]
        expect(turn).to_have_attribute("data-state", "stopped")
        expect(caller.page.locator("#stop")).to_be_hidden()

    def test_it_cancels_an_upstream_that_has_said_nothing(self, caller: Reader, upstream: ScriptedUpstream) -> None:
        upstream.say(["hold"], answer("Yes."))
        turn = caller.say("Hello?", until="waiting")
        asked = upstream.wait_for(1)

        caller.page.click("#stop")

        upstream.wait_for_drop(asked)
        expect(turn).to_have_attribute("data-state", "stopped")
        caller.say("Still there?")
        assert [message["role"] for message in upstream.wait_for(2).body["messages"]] == ["user", "user"]


class TestKey:
    @pytest.mark.usefixtures("upstream")
    def test_without_one_it_says_so_and_how_to_mend_it(self, browser: Browser, server: RunningServer) -> None:
        with reader(browser, server.url) as person:
            banner = person.page.locator("#banner")
            expect(banner).to_contain_text("This server wants a key.")
            expect(banner).to_contain_text("SERVER_API_KEYS")
            person.page.click("#banner-do")
            expect(person.page.locator("#set-key")).to_be_focused()
            person.page.keyboard.type(KEY)
            person.page.keyboard.press("Enter")

            expect(banner).to_be_hidden()
            person.set(model="m")
            assert said(person.say("Hi")) == "Hello there."
            person.expect_complaint("401")

    def test_a_wrong_one_is_told_in_both_languages(self, browser: Browser, server: RunningServer) -> None:
        with reader(browser, server.url, CHINESE) as person:
            expect(person.page.locator("#banner")).to_contain_text("这个服务要密钥")
            person.set(key="wrong")
            expect(person.page.locator("#banner")).to_contain_text("密钥不对")
            person.page.click("#language")

            expect(person.page.locator("#banner")).to_contain_text("The key is wrong")
            person.expect_complaint("401")

    def test_one_that_the_server_passes_on_is_asked_for_too(self, browser: Browser, upstream: ScriptedUpstream) -> None:
        with running_server(LLM_BASE_URL=upstream.url) as server, reader(browser, server.url) as person:
            expect(person.page.locator("#banner")).to_contain_text("This server wants a key.")
            person.set(key="sk-own", model="m")
            turn = person.say("Hi")
            person.choose("/audio/chat/completions")
            refused = person.say("Say it", until="failed")

            assert said(turn) == "Hello there."
            assert upstream.wait_for(1).headers["authorization"] == "Bearer sk-own"
            expect(refused).to_contain_text("This endpoint needs SERVER_API_KEYS or LLM_API_KEY to be set.")
            expect(person.page.locator("#banner")).to_be_hidden()
            person.expect_complaint("401")

    def test_it_is_kept_in_this_tab_only(self, caller: Reader) -> None:
        caller.open()
        expect(caller.page.locator("#banner")).to_be_hidden()
        kept = caller.page.evaluate("() => [localStorage.length, document.cookie, location.href, history.length]")

        other = caller.context.new_page()
        other.goto(f"{caller.url}/playground")

        expect(other.locator("#banner")).to_contain_text("This server wants a key.")
        assert kept[:3] == [0, "", f"{caller.url}/playground"]
        assert KEY not in caller.page.content()


class TestFailure:
    def test_a_server_that_has_gone_is_told_and_can_be_tried_again(self, browser: Browser) -> None:
        with scripted_page(log_level="ERROR") as (url, script):
            script.say(*stream(text("Hello.")))
            someone = reader(browser, url)
            person = someone.__enter__()
            person.choose(TEXT)
            person.say("Hi")
        turn = person.say("Are you there?", until="failed")

        expect(turn).to_contain_text("The server can't be reached.")
        expect(turn).to_contain_text("script/server")
        expect(person.page.locator("#banner")).to_contain_text("can't be reached")
        person.page.click("#language")
        expect(turn).to_contain_text("连不上服务")
        expect(person.page.locator("#banner")).to_contain_text("script/server 启动")
        person.expect_complaint("ERR_CONNECTION_REFUSED")
        someone.__exit__(None, None, None)

    def test_a_server_that_has_come_back_is_talked_to_again(self, person: Reader) -> None:
        person.context.set_offline(True)
        person.say("Hi", until="failed")
        expect(person.page.locator("#banner")).to_be_visible()
        person.context.set_offline(False)

        turn = person.say("Hi again")

        assert said(turn) == "Hello."
        expect(person.page.locator("#banner")).to_be_hidden()
        person.expect_complaint("ERR_INTERNET_DISCONNECTED")

    def test_a_refusal_is_shown_with_how_to_mend_it_and_is_not_remembered(self, person: Reader, script: Script) -> None:
        script.say(event(fails(502, "The model is busy."))[6:], status=502, content_type="application/json")
        turn = person.say("Hi", until="failed")
        expect(turn).to_contain_text("The server answered 502.")
        expect(turn).to_contain_text("The model is busy.")
        expect(turn).to_contain_text("LLM_BASE_URL")
        person.expect_complaint("502")
        script.say(*stream(text("Hello.")))

        turn.locator(".retry").click()

        expect(person.page.locator(".turn")).to_have_count(1)
        expect(person.page.locator(".turn")).to_have_attribute("data-state", "done")
        assert script.asked[0]["messages"] == [{"role": "user", "content": "Hi"}]

    def test_an_error_in_a_stream_is_shown_after_what_was_said(self, person: Reader, script: Script) -> None:
        script.say(event(ROLE), text("So far "), event(fails(0, "It broke.", "upstream_error")) + DONE)

        turn = person.say("Hi", until="failed")

        assert said(turn) == "So far"
        expect(turn).to_contain_text("It broke.")
        expect(person.page.locator("#verdicts")).to_contain_text("said so properly")

    def test_a_connection_that_breaks_is_told_from_an_end(self, person: Reader, script: Script) -> None:
        script.say(event(ROLE), text("So far "), 0.05, "cut")

        turn = person.say("Hi", until="failed")

        expect(turn).to_contain_text("The connection broke before the answer ended.")
        expect(person.page.locator("#verdicts")).to_contain_text("There is no finish_reason")
        person.expect_complaint("ERR_INCOMPLETE_CHUNKED_ENCODING")

    def test_what_is_no_stream_is_told(self, person: Reader, script: Script) -> None:
        script.say(b"<h1>Hello</h1>", content_type="text/html")

        person.say("Hi", until="failed")

        expect(person.page.locator("#verdicts")).to_contain_text("It was not streamed: the content type is text/html.")


class TestSafety:
    def test_nothing_that_is_said_becomes_html(self, person: Reader, script: Script) -> None:
        trace = {
            "passages": [{"title": EVIL, "file": EVIL, "score": 1, "text": EVIL}],
            "tools": [{"name": EVIL, "arguments": EVIL, "result": EVIL, "ms": 1, "failed": False}],
        }
        script.say(*stream(text(EVIL), finish={**chunk({}, "stop"), "trace": trace, "model": EVIL}))
        turn = person.say(EVIL)
        shown = said(turn)
        for name in ("events", "sources", "copy", "turn"):
            person.tab(name)
        script.say(*stream(event(chunk({"content": EVIL, "id": EVIL})), *spoken(EVIL), finish=chunk({}, EVIL)))
        person.choose(VOICE)
        person.say("Say it")
        script.say(event(fails(0, EVIL, EVIL)) + DONE)
        failed = person.say("Fail", until="failed")

        assert shown == EVIL
        expect(failed.locator(".note")).to_contain_text(EVIL)
        assert person.page.evaluate("() => window.hacked") is None
        assert person.page.locator("img, iframe, body script").count() == 0

    def test_the_browser_itself_refuses_html_from_text(self, person: Reader) -> None:
        refused = person.page.evaluate(
            """() => {
                try { document.querySelector("#live").innerHTML = "<b>x</b>"; } catch (error) { return error.name; }
            }"""
        )

        assert refused == "TypeError"
        person.expect_complaint("TrustedHTML")
