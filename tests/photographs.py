"""Take the README's pictures of the playground anew: python tests/photographs.py (needs a Chinese font)."""

from pathlib import Path
from typing import Any

from browser import CHINESE, ENGLISH, Reader, chromium, reader
from running_server import ROOT, running_server

PICTURES: dict[str, dict[str, Any]] = {
    "en": {"language": ENGLISH, "color_scheme": "light"},
    "zh": {"language": CHINESE, "color_scheme": "dark"},
}
LIMIT = 150_000  # bytes a picture

_WRITTEN, _SPOKEN = "/rag/chat/completions", "/rag/audio/chat/completions"
_QUESTIONS = {
    "en": ("How do I connect a real LLM?", "What happens when I interrupt?"),
    "zh": ("怎么接入真正的大模型？", "打断智能体会怎么样？"),
}


def photograph(person: Reader, name: str, path: Path) -> None:
    """Have a conversation about the bundled documents, the second answer spoken or looked into; take a picture."""
    person.choose(_SPOKEN)
    person.say("Hello!", until="streaming")  # the first words of a process take longer
    person.open()
    first, second = _QUESTIONS[name]
    person.choose(_WRITTEN)
    person.say(first)
    if name == "en":
        person.choose(_SPOKEN)
        turn = person.say(second, until="streaming")
        turn.locator(".word.lit").nth(12).wait_for()
        person.page.locator("#level:not([style*='(0)']):not([style*='(0.0'])").wait_for()
    else:
        person.say(second)
        passages = person.tab("sources").locator("summary")
        passages.nth(0).click()
        passages.nth(1).click()
    person.page.locator("#message").focus()
    person.page.mouse.move(0, 0)
    person.page.screenshot(path=path, animations="disabled")


def main() -> None:
    """Write the pictures into docs/."""
    with running_server() as server, chromium() as browser:
        for name, options in PICTURES.items():
            path = ROOT / "docs" / f"playground-{name}.png"
            with reader(browser, server.url, **options) as person:
                photograph(person, name, path)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
