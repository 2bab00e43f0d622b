"""What docs/agents.md shows is run, and both languages show the same."""

import inspect
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from readme import Page, codes
from running_server import HELLO, ROOT, RunningServer, running_server, turn
from stream_rules import read_good_stream
from test_docs import wordless
from test_docs_commands import curl

from agents.loading import load_agents
from blueprints.agents import RESERVED
from protocol.request import ChatRequest, read_request
from settings import Settings
from turns.session_keys import ID_LIMIT, SessionKeys
from turns.sessions import standing
from turns.tools import ToolRules
from turns.turn import Turn

ENGLISH, CHINESE = Page(ROOT / "docs/agents.md"), Page(ROOT / "docs/agents.zh-CN.md")
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])
CURLS = [block for block in ENGLISH.blocks_in("sh") if block.text.startswith("curl")]
EXAMPLES = ROOT / "examples" / "agents"


@pytest.fixture(scope="module")
def agents_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the reader has saved each agent under the name that stands in its first line."""
    folder = tmp_path_factory.mktemp("reader") / "my-agents"
    folder.mkdir()
    for block in ENGLISH.blocks_in("python"):
        first = block.text.split("\n", 1)[0]
        (folder / first.removeprefix("# my-agents/")).write_text(block.text)
    return folder


@pytest.fixture(scope="module")
def demo(agents_dir: Path) -> Iterator[RunningServer]:
    with running_server(AGENTS_DIR=agents_dir, AUDIO_LEAD_MS=0) as running:
        yield running


@pytest.fixture(scope="module")
def shop(agents_dir: Path) -> Any:
    load_agents(agents_dir, RESERVED)
    return sys.modules["agents_of_user.shop"]


def test_the_pages_have_the_same_headings_tables_and_blocks() -> None:
    assert [level for level, _ in ENGLISH.headings] == [level for level, _ in CHINESE.headings]
    assert [wordless(block) for block in ENGLISH.blocks] == [wordless(block) for block in CHINESE.blocks]
    for english, chinese in zip(ENGLISH.tables, CHINESE.tables, strict=True):
        assert [[sorted(codes(cell)) for cell in row] for row in english] == [
            [sorted(codes(cell)) for cell in row] for row in chinese
        ]


@PAGES
def test_links_lead_somewhere(page: Page) -> None:
    paths = [link.partition("#")[0] for link in page.links if "://" not in link]
    local = [path for path in paths if path]

    assert local
    assert [link for link in local if not (page.path.parent / link).exists()] == []


@PAGES
def test_what_is_named_like_a_setting_is_one(page: Page) -> None:
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bTOOLS\b", page.prose))

    known = {name.upper() for name in Settings.__struct_fields__}
    assert named <= known
    assert named >= {name for name in known if re.match(r"AGENTS|TOOL|SESSION|REDIS", name)}


@PAGES
def test_what_a_turn_is_said_to_have_it_has(page: Page) -> None:
    has = {*vars(Turn), *Turn.__init__.__code__.co_names}
    request = {*vars(ChatRequest), *ChatRequest.__init__.__code__.co_names}

    assert set(re.findall(r"turn\.(\w+)", page.text)) <= has
    assert set(re.findall(r"turn\.request\.(\w+)", page.text)) <= request
    after_ms = inspect.signature(Turn.say_meanwhile).parameters["after_ms"].default
    assert f"after_ms={after_ms}" in page.text


@PAGES
def test_the_figures_in_the_text_are_the_codes(page: Page) -> None:
    rules, text = ToolRules(), " ".join(page.text.split())

    for figure in (f"{rules.result_limit:,} ", f" {rules.rounds} ", f" {ID_LIMIT} ", f"`{SessionKeys().header}`"):
        assert figure in text
    assert set(codes(page.prose)) & RESERVED == {"chat", "audio", "rag"}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
@pytest.mark.parametrize("block", CURLS, ids=lambda block: block.text.split("/")[3])
def test_each_curl_says_what_is_shown(block: Any, demo: RunningServer) -> None:
    assert curl(block, demo) == ENGLISH.after(block).text.strip()


@pytest.mark.parametrize("name", ["interpreter", "shop"])
def test_the_agents_that_ask_the_model_answer(name: str, demo: RunningServer) -> None:
    assert read_good_stream(demo.ask(turn(), f"/{name}/chat/completions")).text


def test_they_speak_too(demo: RunningServer) -> None:
    answer = demo.ask({"messages": HELLO}, "/echo/audio/chat/completions")

    assert answer.json["choices"][0]["message"]["audio"]["transcript"] == "You said: Hello!"


def test_the_model_is_told_of_a_tool_what_is_shown(shop: Any) -> None:
    (block,) = ENGLISH.blocks_in("json")

    assert shop.order.schema == json.loads(block.text)


@PAGES
@pytest.mark.parametrize(
    ("tool", "arguments"), [("price", '{"item": "sofa"}'), ("order", '{"item": "lamp", "count": 11}')]
)
def test_the_model_is_told_of_its_mistakes_what_is_shown(page: Page, shop: Any, tool: str, arguments: str) -> None:
    with pytest.raises(ValueError) as told:
        getattr(shop, tool).run(arguments)

    assert f"`Error: {told.value}`" in page.text


@PAGES
def test_the_table_says_which_turn_ends_which(page: Page) -> None:
    first, second, third = ([cell in ("yes", "会") for cell in row[1:]] for row in page.table("`user`"))

    assert first == list(standing_of({"role": "user", "content": "Hello!"}))
    assert second == list(standing_of({"role": "tool", "content": "1", "tool_call_id": "c"}))
    assert third == list(standing_of({"role": "assistant", "content": "Hello!"}))
    assert third == list(standing_of({"role": "user", "content": " "}))


def standing_of(last: dict[str, Any]) -> tuple[bool, bool]:
    return standing(read_request(json.dumps({"messages": [*HELLO, last]}).encode()))


@PAGES
def test_every_example_is_in_the_table(page: Page) -> None:
    named = [codes(row[0])[0] for row in page.table("`echo.py`")]

    assert sorted(named) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@PAGES
def test_a_file_that_cannot_be_served_is_named_as_is_shown(page: Page, tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text("def answer(turn:\n")

    with pytest.raises(ValueError) as bad:
        load_agents(tmp_path, RESERVED)

    assert str(bad.value).replace(str(tmp_path), "custom-llm-server: /srv/my-agents") in page.text
