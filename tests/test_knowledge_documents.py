import os
from pathlib import Path

import pytest

from knowledge.documents import Document, FolderError, Reading, list_sources, read


def read_all(folder: Path, max_bytes: int = 1_000_000) -> Reading:
    listing = list_sources(folder)
    readings = [read(source, max_bytes) for source in listing.sources]
    documents = [document for reading in readings for document in reading.documents]
    return Reading(documents, [*listing.problems, *(problem for reading in readings for problem in reading.problems)])


def names(folder: Path) -> list[str]:
    return [source.name for source in list_sources(folder).sources]


def pdf(*lines: str) -> bytes:
    """Return a PDF of one page with these lines."""
    shown = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
    stream = f"BT /F1 12 Tf 72 720 Td {shown}ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(data)
    return data + b"xref\n0 6\n0000000000 65535 f \n" + table + end


@pytest.mark.parametrize(
    "data",
    [
        "退货政策\n七天".encode(),
        "退货政策\r\n七天".encode("utf-8-sig"),
        "退货政策\r七天".encode("gb18030"),
        "退货政策\r\n七天".encode("utf-16"),
    ],
)
def test_a_text_is_read_in_the_usual_encodings_and_line_ends(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "refund-policy.txt").write_bytes(data)

    reading = read_all(tmp_path)

    assert reading == Reading([Document("refund-policy.txt", "refund policy", "退货政策\n七天")], [])


def test_markdown_is_told_from_plain_text(tmp_path: Path) -> None:
    for name in ("a.md", "b.MARKDOWN", "c.txt"):
        (tmp_path / name).write_text("text")

    assert [document.markdown for document in read_all(tmp_path).documents] == [True, True, False]


def test_json_lines_give_a_document_each(tmp_path: Path) -> None:
    lines = [
        '{"question": "How long?", "answer": "Two years.", "id": 7}',
        "",
        '{"title": "Shipping", "text": "Free."}',
        '{"content": "Only text."}',
    ]
    (tmp_path / "faq.jsonl").write_text("\ufeff" + "\r\n".join(lines), "utf-8")

    reading = read_all(tmp_path)

    assert [(document.title, document.text) for document in reading.documents] == [
        ("How long?", "Two years."),
        ("Shipping", "Free."),
        ("faq", "Only text."),
    ]
    assert reading.problems == []


def test_a_broken_line_is_named_and_loses_no_other(tmp_path: Path) -> None:
    lines = ['{"text": "one"}', '{"text": "two', '{"question": "?"}', '{"text": 4}', "[" * 9999, '{"text": "six"}']
    (tmp_path / "faq.jsonl").write_text("\n".join(lines))

    reading = read_all(tmp_path)

    assert [document.text for document in reading.documents] == ["one", "six"]
    assert [problem.split(":")[0] for problem in reading.problems] == [f"faq.jsonl line {n}" for n in (2, 3, 4, 5)]
    assert "needs `question` and `answer`" in reading.problems[1]
    assert "$.text" in reading.problems[2]


def test_a_pdf_gives_its_text_with_its_lines_joined(tmp_path: Path) -> None:
    (tmp_path / "user-manual.pdf").write_bytes(pdf("Press the but-", "ton to start", "the machine.", "Then wait."))

    reading = read_all(tmp_path)

    assert reading.problems == []
    assert [(document.title, document.text) for document in reading.documents] == [
        ("user manual", "Press the button to start the machine.\nThen wait.")
    ]


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.txt", b"\x00\x01\x02binary", "not a text"),
        ("a.md", b"caf\xe9 \xff\xff", "not a text"),
        ("a.txt", b"x" * 2_000_000, "2.0 MB, over the 1 MB limit"),
        ("a.pdf", b"%PDF-1.4 and then nothing", "a.pdf: "),
        ("a.pdf", b"", "a.pdf: "),
        ("a.pdf", pdf(), "no text in it"),
        ("a.docx", b"", "only .md, .txt, .jsonl and .pdf are read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, name: str, data: bytes, what: str
) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.txt").write_text("good")

    reading = read_all(tmp_path)

    assert [document.text for document in reading.documents] == ["good"]
    assert len(reading.problems) == 1
    assert reading.problems[0].startswith(f"{name}: ") and what in reading.problems[0]
    assert str(tmp_path) not in reading.problems[0]


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (source,) = list_sources(tmp_path).sources
    (tmp_path / "a.txt").unlink()

    assert read(source) == Reading([], ["a.txt: no such file or directory; skipped"])


def test_files_are_found_in_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/b/c.jsonl", "0.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert names(tmp_path) == ["0.txt", "a/b/c.jsonl", "a/z.md", "b.txt"]


def test_hidden_files_and_folders_are_left_out_without_a_word(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in (".git/a.md", ".draft.md", "a.md"):
        (tmp_path / name).touch()

    listing = list_sources(tmp_path)

    assert [source.name for source in listing.sources] == ["a.md"]
    assert listing.problems == []


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("key")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file.txt").symlink_to(tmp_path / "secret" / "key.txt")
    (folder / "place").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to("..")

    listing = list_sources(folder)

    assert listing.sources == []
    assert listing.problems == [
        f"{name}: a link that leads out of the folder; skipped" for name in ("file.txt", "place", "up")
    ]


def test_links_inside_the_folder_are_followed_once(tmp_path: Path) -> None:
    # a Kubernetes ConfigMap: every file is a link through a hidden one
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.md").write_text("text")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.md").symlink_to("..data/a.md")
    (tmp_path / "again.md").symlink_to("a.md")
    (tmp_path / "loop").symlink_to(".")

    assert names(tmp_path) == ["a.md"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.md").touch()
    (tmp_path / "folder").symlink_to("real")

    assert names(tmp_path / "folder") == ["a.md"]


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "gone.txt").symlink_to("nowhere")

    listing = list_sources(tmp_path)

    assert listing.sources == []
    assert [problem.split(":")[0] for problem in listing.problems] == ["gone.txt", "pipe.txt"]


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_a_folder_that_cannot_be_listed_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").touch()

    with pytest.raises(FolderError, match=f"{name}: no"):
        list_sources(tmp_path / name)


def test_a_change_of_a_file_changes_the_listing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    before = list_sources(tmp_path)

    (tmp_path / "new").write_text("two")
    os.replace(tmp_path / "new", tmp_path / "a.txt")

    assert list_sources(tmp_path) != before
    assert list_sources(tmp_path) == list_sources(tmp_path)
