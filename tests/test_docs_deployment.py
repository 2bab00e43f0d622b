"""What docs/deployment.md says is what deploy/ has and what its own arithmetic gives, in both languages."""

from math import ceil

import pytest
from readme import Page, codes
from running_server import ROOT

ENGLISH, CHINESE = Page(ROOT / "docs/deployment.md"), Page(ROOT / "docs/deployment.zh-CN.md")
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])


def test_the_pages_have_the_same_headings_tables_and_blocks() -> None:
    assert [level for level, _ in ENGLISH.headings] == [level for level, _ in CHINESE.headings]
    assert ENGLISH.blocks == CHINESE.blocks
    for english, chinese in zip(ENGLISH.tables, CHINESE.tables, strict=True):
        assert [[codes(cell) for cell in row] for row in english] == [[codes(cell) for cell in row] for row in chinese]


@PAGES
def test_links_lead_somewhere(page: Page) -> None:
    local = [link.partition("#")[0] for link in page.links if "://" not in link]

    assert local
    assert [link for link in local if not (page.path.parent / link).exists()] == []


@PAGES
def test_every_file_of_deploy_is_named(page: Page) -> None:
    named = {code for row in page.tables[0] for code in codes(row[0])}

    assert named == {f"deploy/{path.name}" for path in (ROOT / "deploy").iterdir() if path.is_file()}


@PAGES
def test_the_lines_that_are_explained_are_in_the_files(page: Page) -> None:
    nginx = (ROOT / "deploy/nginx.conf").read_text()
    kubernetes = (ROOT / "deploy/kubernetes.yaml").read_text()

    for line in (code for row in page.tables[1][1:] for code in codes(row[0])):
        assert f"{line};" in nginx
    for line in (code for row in page.tables[2][1:] for code in codes(row[0])):
        assert line in kubernetes


@PAGES
def test_the_table_of_sizes_is_what_the_arithmetic_gives(page: Page) -> None:
    rows = next(table[1:] for table in page.tables if len(table[0]) == 7)

    assert [row[0] for row in rows] == ["10", "100", "500", "1,000"]
    for calls, *said in ([cell.replace(",", "") for cell in row] for row in rows):
        n = int(calls)
        sizes = []
        for ms, mib in ((2, 36 / 1024), (6, 0.5)):
            cores = n * ms / 1000
            workers = ceil(round(cores / 0.6, 6))
            sizes += [f"{cores:.2f}", str(workers), f"{workers * 85 + n * mib:.0f} MiB"]
        assert said == sizes
