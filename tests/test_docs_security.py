"""What docs/security.md says is what the tests send and the code writes, in both languages."""

import re

import pytest
from hostile import CLASSES, CLOSED
from readme import CHINESE as README_CHINESE
from readme import ENGLISH as README
from readme import Page, codes
from running_server import ROOT
from test_hostile_injection import PLACES, WORDS
from test_hostile_peers import DRIPS, IDLE, TROUBLE

from turns.record import Record

ENGLISH, CHINESE = Page(ROOT / "docs/security.md"), Page(ROOT / "docs/security.zh-CN.md")
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])
_STATUS = re.compile(r"`([1-5]\d\d)`")


def test_the_pages_have_the_same_headings_tables_and_blocks() -> None:
    assert [level for level, _ in ENGLISH.headings] == [level for level, _ in CHINESE.headings]
    assert ENGLISH.blocks == CHINESE.blocks
    for english, chinese in zip(ENGLISH.tables, CHINESE.tables, strict=True):
        assert [[sorted(codes(cell)) for cell in row] for row in english] == [
            [sorted(codes(cell)) for cell in row] for row in chinese
        ]
        assert [row[1] for row in english[1:] if row[1].isdigit()] == [
            row[1] for row in chinese[1:] if row[1].isdigit()
        ]


@PAGES
def test_links_lead_somewhere(page: Page) -> None:
    local = [link.partition("#")[0] for link in page.links if "://" not in link]

    assert local
    assert [link for link in local if not (page.path.parent / link).exists()] == []


def test_each_class_of_hostile_requests_has_its_number_and_its_statuses() -> None:
    rows = ENGLISH.table("request lines")

    assert [row[0].partition(":")[0] for row in rows] == list(CLASSES)
    for (_, number, does), cases in zip(rows, CLASSES.values(), strict=True):
        assert int(number) == len(cases)
        statuses = {case.status for case in cases.values()}
        assert {int(status) for status in _STATUS.findall(does)} == statuses - {CLOSED}
        assert ("closed" in does) == (CLOSED in statuses)


@pytest.mark.parametrize("readme", [README, README_CHINESE], ids=["english", "chinese"])
def test_readme_has_the_sums(readme: Page) -> None:
    (rows,) = (table[1:] for table in readme.tables if "501" in table[min(2, len(table) - 1)][-1])
    numbers = {name: len(cases) for name, cases in CLASSES.items()}

    malformed = numbers["request lines"] + numbers["targets"] + numbers["headers"]
    smuggled = numbers["framings"] + numbers["chunks"]
    too_much = numbers["too much"] + numbers["JSON"] + numbers["unfinished"]
    said = [int(number) for _, number, _ in rows]
    assert said == [malformed, smuggled, too_much, numbers["mended"], len(PLACES) * len(WORDS)]


def test_the_numbers_of_what_peers_do_are_those_of_the_tests() -> None:
    rows = ENGLISH.table("drip a head")

    numbers = [int(number) for _, number, _ in rows]

    assert (numbers[0], numbers[1], numbers[-1]) == (len(DRIPS), len(PLACES) * len(WORDS), len(TROUBLE))
    assert f"{IDLE:,}" in rows[2][0]


@PAGES
def test_each_field_of_the_log_is_named(page: Page) -> None:
    named = {name for row in page.table("`id`") for name in codes(row[0])}

    record = Record("/", "req-1")
    for name, value in vars(record).items():
        if value is None or value == "":
            setattr(record, name, "a" if value == "" else record.began if name.startswith("first") else 1)
    assert set(record.fields()) <= named
