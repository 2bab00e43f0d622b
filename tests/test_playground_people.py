"""The playground for people as they are: with a keyboard alone, a screen reader, a phone, a slow machine."""

import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browser import CHINESE, ENGLISH, NEEDS_CHROMIUM, PHONE, WIDE, Reader, chromium, reader, said
from photographs import LIMIT, PICTURES, photograph
from playwright.sync_api import Browser, expect
from running_server import ROOT, RunningServer, running_server
from scripted_page import TEXT, VOICE, Script, scripted_page, spoken, stream
from scripted_upstream import STOP, chunk, event

pytestmark = NEEDS_CHROMIUM

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
TRACE = {
    "passages": [{"title": "Ports", "file": "server.en.md", "score": 7.123, "text": "The default port is 8000."}],
    "tools": [{"name": "sum", "arguments": "{}", "result": "no", "ms": 3, "failed": True}],
    "timings": {"knowledge_ms": 1.4, "first_byte_ms": 9, "total_ms": 80},
}


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
    """What the endpoints of the scripted page say."""
    _scripted[1].say(*stream(text("Hello.")))
    return _scripted[1]


def text(content: str) -> bytes:
    return event(chunk({"content": content}))


def serious(person: Reader) -> list[str]:
    """Return what axe finds that keeps people from using the page, each with its place."""
    person.page.evaluate(AXE)
    found: dict[str, Any] = person.page.evaluate("() => axe.run({ resultTypes: ['violations'] })")
    assert len(found["passes"]) > 10
    return [
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


class TestAccessibility:
    @pytest.mark.parametrize(
        ("scheme", "language", "size"),
        [("light", ENGLISH, WIDE), ("dark", CHINESE, PHONE)],
    )
    def test_axe_finds_nothing_serious(
        self, browser: Browser, _scripted: tuple[str, Script], script: Script, scheme: Any, language: str, size: Any
    ) -> None:
        with reader(
            browser, _scripted[0], language, color_scheme=scheme, viewport=size, reduced_motion="reduce"
        ) as person:
            found = serious(person)
            person.choose(VOICE)
            script.say(*stream(*spoken("Hello ", "there."), text("…"), finish={**STOP, "trace": TRACE}))
            person.say("Hi")
            found += serious(person)
            script.say(event(chunk({"content": "So far"})))
            person.say("And?")
            script.say(b"{}", status=502, content_type="application/json")
            person.say("Again", until="failed")
            found += serious(person)
            person.page.locator("#last-turns button").first.click()
            person.tab("events").locator(".event").nth(1).click()
            found += serious(person)
            person.tab("sources").locator("summary").click()
            found += serious(person)
            person.tab("copy")
            found += serious(person)
            person.page.click("#open-settings")
            found += serious(person)
            person.expect_complaint("502")

        assert found == []

    def test_the_banner_of_a_missing_key_is_read_and_can_be_seen(self, browser: Browser, server: RunningServer) -> None:
        for scheme in ("light", "dark"):
            with reader(browser, server.url, color_scheme=scheme) as person:
                expect(person.page.get_by_role("alert")).to_contain_text("This server wants a key.")
                assert serious(person) == []
                person.expect_complaint("401")

    def test_an_answer_is_read_out_once(self, browser: Browser, _scripted: tuple[str, Script], script: Script) -> None:
        script.say(*stream(*[step for word in ("One ", "two ", "three.") for step in (text(word), 0.1)]))
        with reader(browser, _scripted[0]) as person:
            person.choose(TEXT)
            person.page.evaluate(
                """() => {
                    window.read = [];
                    const live = '[aria-live]:not([aria-live=off]), [role=alert], [role=status], [role=log]';
                    new MutationObserver((changes) => {
                        for (const { target } of changes) {
                            const region = (target.closest ? target : target.parentElement).closest(live);
                            if (region) window.read.push(region.textContent.trim());
                        }
                    }).observe(document, { subtree: true, childList: true, characterData: true });
                }"""
            )

            person.say("Count")

            read = [said for said in person.page.evaluate("() => window.read") if said]
            assert read == ["Agent: One two three."]

    def test_everything_can_be_done_with_the_keyboard(
        self, browser: Browser, _scripted: tuple[str, Script], script: Script
    ) -> None:
        with reader(browser, _scripted[0]) as person:
            keys = person.page.keyboard
            expect(person.page.locator("#message")).to_be_focused()
            walk = []
            for _ in range(12):
                keys.press("Shift+Tab")
                walk.append(
                    person.page.evaluate("() => document.activeElement.id || document.activeElement.textContent")
                )
                seen = person.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                assert seen == "solid" or walk[-1] == "", walk
                if walk[-1] == "endpoint":
                    break
            assert walk[-4:] == ["language", "open-settings", "new", "endpoint"]
            keys.type(TEXT.split("/")[1])  # picks the option by its name
            expect(person.page.locator("#endpoint")).to_have_value(TEXT)
            person.page.locator("#open-settings").focus()
            keys.press("Enter")
            expect(person.page.locator("#settings")).to_be_visible()
            keys.type("m-1")
            keys.press("Enter")
            expect(person.page.locator("#settings")).to_be_hidden()
            expect(person.page.locator("#open-settings")).to_be_focused()
            person.page.locator("#message").focus()
            keys.type("Line one")
            keys.press("Shift+Enter")
            keys.type("line two")
            keys.press("Enter")

            expect(person.page.locator(".turn")).to_have_attribute("data-state", "done")
            assert script.asked[0]["messages"][0]["content"] == "Line one\nline two"
            assert script.asked[0]["model"] == "m-1"
            person.page.locator("#tab-turn").focus()
            for name in ("events", "sources", "copy", "turn"):
                keys.press("ArrowRight")
                expect(person.page.locator(f"#tab-{name}")).to_be_focused()
                expect(person.page.locator(f"#panel-{name}")).to_be_visible()
            assert person.page.locator("[role=tabpanel]:visible").count() == 1

    def test_stopping_does_not_lose_the_focus(
        self, browser: Browser, _scripted: tuple[str, Script], script: Script
    ) -> None:
        script.say(*stream(text("Hello"))[:2], "hold")
        with reader(browser, _scripted[0]) as person:
            person.choose(TEXT)
            person.say("Hi", until="streaming")
            person.page.locator("#stop").focus()

            person.page.keyboard.press("Enter")

            expect(person.page.locator("#message")).to_be_focused()

    def test_nothing_moves_for_who_wants_it_so(self, browser: Browser, _scripted: tuple[str, Script]) -> None:
        moving = """() => [...document.querySelectorAll("*")].filter((element) => {
            const style = getComputedStyle(element);
            return style.transitionDuration !== "0s" || style.animationName !== "none";
        }).length"""
        counts = []
        for wish in ("reduce", "no-preference"):
            with reader(browser, _scripted[0], reduced_motion=wish) as person:
                counts.append(person.page.evaluate(moving))

        assert counts[0] == 0
        assert counts[1] > 0


class TestPhone:
    @pytest.mark.parametrize("language", [ENGLISH, CHINESE])
    def test_everything_fits_the_width(
        self, browser: Browser, _scripted: tuple[str, Script], script: Script, language: str
    ) -> None:
        endless = "https://example.com/" + "a" * 300
        script.say(*stream(*spoken("Hello ", endless), finish={**STOP, "trace": TRACE}))
        with reader(browser, _scripted[0], language, viewport=PHONE, is_mobile=True, has_touch=True) as person:
            expect(person.page.locator("h1")).to_be_in_viewport(ratio=1)
            expect(person.page.locator("#tries button").first).to_be_in_viewport(ratio=1)
            expect(person.page.locator("#composer")).to_be_in_viewport(ratio=1)
            person.choose(VOICE)
            person.say(endless)
            for name in ("events", "sources", "copy", "turn"):
                person.tab(name)
                assert person.page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"], name
            small = person.page.evaluate(
                """() => [...document.querySelectorAll("button, select, input:not([type=range])")]
                    .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 24)
                    .map((each) => each.outerHTML)"""
            )

        assert small == []


class TestSpeed:
    def test_a_warm_load_is_usable_at_once(self, browser: Browser, demo: RunningServer) -> None:
        with reader(browser, demo.url) as person:
            took = []
            for _ in range(3):
                person.open()
                person.page.wait_for_selector("#endpoint option", state="attached")
                took.append(person.page.evaluate("() => performance.getEntriesByName('usable')[0]?.startTime"))
            weight = person.page.evaluate(
                """() => performance.getEntriesByType("resource").map(({ encodedBodySize }) => encodedBodySize)
                    .reduce((sum, size) => sum + size, performance.getEntriesByType("navigation")[0].encodedBodySize)"""
            )

        assert min(took) < 2000  # 200 where the machine has nothing else to do
        assert weight <= 60_000

    def test_a_hundred_chunks_a_second_leave_it_smooth(
        self, browser: Browser, _scripted: tuple[str, Script], script: Script
    ) -> None:
        script.say(*stream(*[step for place in range(200) for step in (text(f"word{place} "), 0.009)]))
        with reader(browser, _scripted[0]) as person:
            person.choose(TEXT)
            person.tab("events")
            devtools = person.context.new_cdp_session(person.page)
            devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

            def busy_s() -> float:
                metrics = devtools.send("Performance.getMetrics")["metrics"]
                return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

            before, began = busy_s(), time.monotonic()
            turn = person.say("Go on")
            busy, took = busy_s() - before, time.monotonic() - began

            assert said(turn).endswith("word199")
            assert took > 1.8
            assert busy < took / 2, f"{busy:.2f} s of work in {took:.2f} s"
            assert person.page.locator("*").count() < 700


class TestScreenshots:
    @pytest.mark.parametrize("name", PICTURES)
    def test_the_pictures_of_the_readme_can_be_taken(
        self, browser: Browser, demo: RunningServer, tmp_path: Path, name: str
    ) -> None:
        path = tmp_path / f"playground-{name}.png"

        with reader(browser, demo.url, **PICTURES[name]) as person:
            photograph(person, name, path)

        assert 10_000 < path.stat().st_size <= LIMIT
        assert (ROOT / "docs" / path.name).stat().st_size <= LIMIT
