import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.language import Language, language
from upstream.demo.extract import reply
from upstream.demo.sentences import sentences

FOLDER = Path(__file__).parent.parent / "knowledge" / "bundled"
PAIRS = [json.loads(line) for line in (FOLDER / "faq.jsonl").read_text(encoding="utf-8").splitlines()]


def sections(spoken: Language) -> Iterator[tuple[str, str]]:
    for file in sorted(FOLDER.glob(f"*.{spoken}.md")):
        title, *parts = file.read_text(encoding="utf-8").split("\n## ")
        for part in parts:
            heading, _, text = part.partition("\n")
            yield f"{title.strip('# ').strip()} › {heading}", text.strip()
    for pair in PAIRS:
        if language(pair["question"]) == spoken:
            yield pair["question"], pair["answer"]


ENGLISH, CHINESE = list(sections("en")), list(sections("zh"))


def test_every_section_is_there_in_both_languages() -> None:
    headings = [
        [f.read_text(encoding="utf-8").count("\n## ") for f in sorted(FOLDER.glob(f"*.{code}.md"))]
        for code in ("en", "zh")
    ]

    assert headings[0] == headings[1]
    assert len(ENGLISH) == len(CHINESE)


@pytest.mark.parametrize(("passages", "spoken"), [(ENGLISH, "en"), (CHINESE, "zh")], ids=["en", "zh"])
def test_a_section_is_one_to_three_sentences_that_can_be_spoken(
    passages: list[tuple[str, str]], spoken: Language
) -> None:
    for title, text in passages:
        assert 1 <= len(sentences(text, limit=300)) <= 3, title
        assert len(text) <= 300, title
        assert not set("*`#[]|\n") & set(text), title
        assert language(text) == spoken, title


@pytest.mark.parametrize("passages", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_a_question_that_is_a_sections_title_is_answered_from_that_section(passages: list[tuple[str, str]]) -> None:
    for at, (title, text) in enumerate(passages):
        question = title.rpartition(" › ")[2]
        found = [passages[at - 3], passages[at - 2], passages[at - 1], (title, text)]

        answer = reply([{"role": "user", "content": question}], found)

        assert answer[:20] in text, title
