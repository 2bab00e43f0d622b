"""What the documentation says is held to what it documents."""

import ast
import os
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from readme import CHINESE, ENGLISH, PAGES, Block, Page, codes
from running_server import ROOT

from app import create_app
from environment import PLACEHOLDER, load
from protocol.errors import Outcome
from protocol.request import MESSAGE_EXTRAS, ROOT_EXTRAS
from settings import Settings
from turns.record import Record
from turns.session_keys import SessionKeys

DESCRIPTIONS = {
    name.upper(): kind.__metadata__[0].description
    for name, kind in get_type_hints(Settings, include_extras=True).items()
}


def unquoted(cell: str) -> str:
    """Return a cell without its backticks."""
    return cell.strip("`")


class TestSettings:
    @PAGES
    def test_the_table_names_every_setting_in_its_order(self, page: Page) -> None:
        names = [unquoted(name) for name, *_ in page.settings]

        assert names == list(DESCRIPTIONS)

    @PAGES
    def test_the_table_has_the_defaults(self, page: Page) -> None:
        for name, default, _ in page.settings:
            check_default(unquoted(name), unquoted(default))

    def test_the_english_table_has_the_descriptions(self) -> None:
        said = {unquoted(name): meaning for name, _, meaning in ENGLISH.settings}

        assert said == DESCRIPTIONS

    def test_env_example_has_names_descriptions_and_defaults(self) -> None:
        text = (ROOT / ".env.example").read_text()

        said = re.findall(r"^# (.+)\n(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE)

        assert {name: description for description, name, _ in said} == DESCRIPTIONS
        assert [name for _, name, _ in said] == list(DESCRIPTIONS)
        for _, name, default in said:
            check_default(name, "" if default == PLACEHOLDER else default)

    def test_env_example_as_it_is_changes_nothing_but_for_a_warning(self) -> None:
        settings, warnings = load({"ENV_FILE": str(ROOT / ".env.example")})

        assert settings == Settings()
        assert [warning.split()[0] for warning in warnings] == ["LLM_API_KEY"]

    @PAGES
    def test_each_upstream_that_is_shown_can_be_started_with(self, page: Page, tmp_path: Path) -> None:
        for block in page.blocks_in("ini"):
            (tmp_path / ".env").write_text(block.text)

            settings, warnings = load({"ENV_FILE": str(tmp_path / ".env")})

            assert warnings == []
            assert settings.llm_model
            assert settings.server_api_keys


def check_default(name: str, said: str) -> None:
    """Assert that a default, as it is written in an environment, is a setting's own and is written in one form."""
    settings, warnings = load({"ENV_FILE": os.devnull, name: said})
    own = getattr(Settings(), name.lower())
    assert getattr(settings, name.lower()) == own
    assert warnings == []
    assert bool(said) == (own not in (None, (), frozenset())), name


class TestCode:
    @PAGES
    def test_the_outcomes_are_the_closed_list(self, page: Page) -> None:
        said = [unquoted(name) for name, _ in page.table("`ok`")]

        assert said == list(get_args(Outcome))

    @PAGES
    def test_the_log_fields_are_those_of_a_record(self, page: Page) -> None:
        record = Record("/", "req-1")
        record.status, record.model, record.first_byte, record.tokens = 200, "m", record.began, 1
        record.cause, record.detail = "upstream_timeout", "late"
        record.passages, record.knowledge_ms, record.knowledge = 4, 1.8, "failed: late"
        record.first_audio, record.late_chunks, record.tool_calls = record.began, 1, 1

        said = [unquoted(name) for name, _ in page.table("`id`")]

        assert said == list(record.fields())
        (example,) = (block for block in page.blocks_in("text") if "outcome=" in block.text)
        shown = re.findall(r" (\w+)=", example.text)
        assert shown == [name for name in said if name in shown]

    @PAGES
    def test_the_endpoints_are_those_that_are_served(self, page: Page, tmp_path: Path) -> None:
        rules = create_app(Settings(agents_dir=tmp_path)).url_map.iter_rules()
        served = {f"{method} {rule.rule}" for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}

        said = [unquoted(name) for name, _ in page.table("`POST /chat/completions`")]

        assert sorted(said) == sorted(served)

    @PAGES
    def test_the_error_codes_are_those_that_are_sent(self, page: Page) -> None:
        client = create_app(Settings(max_body_kb=1)).test_client()
        answers = [
            client.get("/nowhere"),
            client.get("/chat/completions"),
            client.post("/chat/completions", data=b" " * 2048, content_type="application/json"),
        ]
        flasks = {(str(answer.status_code), answer.json["error"]["code"]) for answer in answers if answer.json}

        rows = page.table("400")

        said = {(status, code) for statuses, cell, _ in rows for code in codes(cell) for status in statuses.split(", ")}
        assert {code for _, code in said} == codes_in_the_source() | {code for _, code in flasks}
        assert flasks <= said

    @PAGES
    def test_the_fields_that_are_taken_out_are_named(self, page: Page) -> None:
        rows = page.table("`interrupt_timestamp`")

        in_messages, at_the_root, params, _, dropped, session, *_ = (set(codes(row[0])) for row in rows)

        assert in_messages == MESSAGE_EXTRAS
        assert session == SessionKeys().fields
        assert at_the_root | params == ROOT_EXTRAS
        assert dropped == Settings().llm_drop_fields

    @PAGES
    @pytest.mark.parametrize(
        ("file", "first"),
        [
            ("requirements.txt", "`Flask`"),
            ("requirements-voice.txt", "`espeakng-loader`"),
            ("requirements-dev.txt", "`pytest`"),
        ],
    )
    def test_the_dependencies_are_those_that_are_installed(self, page: Page, file: str, first: str) -> None:
        lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith(("-r", "#"))]

        rows = page.table(first)

        assert [unquoted(name) + unquoted(versions) for name, versions, _ in rows] == lines
        assert all(why for *_, why in rows)


def codes_in_the_source() -> set[str]:
    """Return each error's `code` that the source names, but that of a base class, which nobody is sent."""
    rooms = ("agents", "audio", "blueprints", "knowledge", "protocol", "turns", "upstream", "server")
    sources = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    calls = (node for path in sources for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    keywords = (keyword for call in calls for keyword in call.keywords if keyword.arg == "code")
    return {str(keyword.value.value) for keyword in keywords if isinstance(keyword.value, ast.Constant)} - {"turn_over"}


class TestLanguages:
    def test_the_headings_have_the_same_levels(self) -> None:
        assert [level for level, _ in ENGLISH.headings] == [level for level, _ in CHINESE.headings]

    def test_the_tables_have_the_same_rows(self) -> None:
        for english, chinese in zip(ENGLISH.tables, CHINESE.tables, strict=True):
            assert [[sorted(codes(cell)) for cell in row] for row in english] == [
                [sorted(codes(cell)) for cell in row] for row in chinese
            ]
            assert [[bool(cell) for cell in row] for row in english] == [
                [bool(cell) for cell in row] for row in chinese
            ]

    def test_the_blocks_are_the_same_but_for_comments_and_labels(self) -> None:
        for english, chinese in zip(ENGLISH.blocks, CHINESE.blocks, strict=True):
            assert english.language == chinese.language
            assert wordless(english) == wordless(chinese)

    @pytest.mark.parametrize(("page", "other"), [(ENGLISH, CHINESE), (CHINESE, ENGLISH)], ids=["english", "chinese"])
    def test_each_page_links_to_the_other_at_its_top(self, page: Page, other: Page) -> None:
        assert f"]({other.path.name})" in page.text.split("\n\n")[1]

    @PAGES
    def test_links_into_the_repository_lead_somewhere(self, page: Page) -> None:
        paths = [link for link in page.links if "://" not in link and not link.startswith(("../../", "#"))]
        local = [path.partition("#")[0] for path in paths]

        assert local
        assert [link for link in local if not (ROOT / link).exists()] == []


def wordless(block: Block) -> str:
    """Return a block without what is translated: comments, and the labels of a diagram."""
    if block.language != "mermaid":
        return re.sub(r"^\s*#.*\n", "", block.text, flags=re.MULTILINE)
    labels = r"\"[^\"]*\"|(?<=>>)(\w+):.*|(?<=-x)(\w+):.*|(?<= as ).*|(?<=alt ).*|(?<=else ).*|(?<=loop ).*"
    return re.sub(labels, r"\1\2", block.text)


class TestDiagrams:
    @PAGES
    def test_sequences_are_balanced_and_have_known_lines(self, page: Page) -> None:
        diagrams = [block.text for block in page.blocks_in("mermaid") if block.text.startswith("sequenceDiagram\n")]

        assert len(diagrams) == 2
        for diagram in diagrams:
            check_sequence(diagram)

    @PAGES
    def test_flowcharts_are_balanced_and_have_known_lines(self, page: Page) -> None:
        (diagram,) = (block.text for block in page.blocks_in("mermaid") if block.text.startswith("flowchart LR\n"))
        node = r'\w+(?:\["[^"]+"\])?'

        for line in diagram.splitlines()[1:]:
            assert re.fullmatch(rf'\s*(?:subgraph {node}|end|{node} -->(?:\|"[^"]+"\|)? {node})', line), line
        assert diagram.count("subgraph") == len(re.findall(r"^\s*end$", diagram, re.MULTILINE)) == 1


def check_sequence(diagram: str) -> None:
    """Assert that what is opened in a sequence diagram is closed, and that its messages have known participants."""
    participants = set(re.findall(r"participant (\w+) as ", diagram))
    depth = 0
    for line in diagram.splitlines()[1:]:
        word = line.split()[0]
        depth += {"alt": 1, "loop": 1, "end": -1}.get(word, 0)
        message = re.fullmatch(r"\s*(\w+)(?:->>|-->>|-x)(\w+): [^;#]+", line)
        assert word in ("participant", "alt", "else", "loop", "end") or message, line
        assert not message or set(message.groups()) <= participants
        assert depth > 0 or word != "else"
    assert depth == 0
