"""A person at the playground, in a real Chromium."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(
    not CHROMIUM, reason="Chromium is missing; on Debian and Ubuntu: apt-get install chromium"
)
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
ENGLISH, CHINESE = "en-US", "zh-CN"
_FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run"]
# of a machine that is busy; what is waited for comes much sooner
_TIMEOUT_MS = 15_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium of this machine with a profile of its own."""
    expect.set_options(timeout=_TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Reader:
    """One person with one tab open."""

    def __init__(self, browser: Browser, url: str, language: str = ENGLISH, **options: Any) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(**{"locale": language, "viewport": WIDE, **options})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(_TIMEOUT_MS)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def open(self) -> None:
        """Open the page, and wait until it can be used."""
        self.page.goto(f"{self.url}/playground")
        self.page.wait_for_selector("html[data-ready]")

    def choose(self, path: str) -> None:
        """Choose an endpoint."""
        self.page.wait_for_selector(f"#endpoint option[value='{path}']", state="attached")
        self.page.select_option("#endpoint", path)

    def say(self, text: str, until: str | None = "done") -> Locator:
        """Say something; return the turn, when it is in this state."""
        count = self.page.locator(".turn").count()
        self.page.fill("#message", text)
        self.page.press("#message", "Enter")
        turn = self.page.locator(".turn").nth(count)
        if until:
            expect(turn).to_have_attribute("data-state", until)
        return turn

    def set(self, **settings: str | bool) -> None:
        """Change settings in the dialog, and save them."""
        self.page.click("#open-settings")
        for name, value in settings.items():
            if isinstance(value, bool):
                self.page.set_checked(f"#set-{name}", value)
            else:
                self.page.fill(f"#set-{name}", value)
        self.page.click("#settings-save")
        expect(self.page.locator("#settings")).to_be_hidden()

    def tab(self, name: str) -> Locator:
        """Open one of the tabs `turn`, `events`, `sources`, `copy`; return its panel."""
        self.page.click(f"#tab-{name}")
        return self.page.locator(f"#panel-{name}")

    def expect_complaint(self, text: str) -> None:
        """Expect that the browser has written this to its console, and nothing else."""
        assert self.complaints
        assert all(re.search(text, said) for said in self.complaints), self.complaints
        self.complaints.clear()


@contextmanager
def reader(browser: Browser, url: str, language: str = ENGLISH, **options: Any) -> Iterator[Reader]:
    """Have somebody open the page; fail where the browser has anything to complain of at the end."""
    person = Reader(browser, url, language, **options)
    try:
        person.open()
        yield person
        assert person.complaints == []
    finally:
        person.context.close()


def said(turn: Locator) -> str:
    """Return what the agent has said in a turn, as it is shown."""
    return turn.locator(".said").inner_text().strip()
