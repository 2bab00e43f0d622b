import pytest

from knowledge.documents import Document
from knowledge.passages import Passage, shorten, split


def markdown(text: str, title: str = "guide") -> list[Document]:
    return [Document("guide.md", title, text, markdown=True)]


def titles(passages: list[Passage]) -> list[str]:
    return [passage.title for passage in passages]


def test_a_passage_keeps_the_path_of_its_headings() -> None:
    text = "# Guide\nIntro.\n## Installing\nRun it.\n### On Linux\nUse the shell.\n## Using\nAsk it."

    found = split(markdown(text))

    assert [(passage.title, passage.text) for passage in found] == [
        ("Guide", "Intro."),
        ("Guide › Installing", "Run it."),
        ("Guide › Installing › On Linux", "Use the shell."),
        ("Guide › Using", "Ask it."),
    ]


def test_underlined_headings_count_and_rules_and_tables_do_not() -> None:
    text = "Guide\n=====\nIntro.\n\nUsing\n---\nAsk.\n\n---\n\nMore.\n\n- item\n---\nEnd."

    assert titles(split(markdown(text))) == ["Guide", "Guide › Using"]


def test_a_comment_in_a_code_block_is_no_heading() -> None:
    text = "# Guide\n```sh\n# not a heading\n```\n~~~~\n~~~\n# nor this\n~~~~\n## Using\nAsk."

    assert titles(split(markdown(text))) == ["Guide", "Guide › Using"]


def test_a_document_without_a_first_heading_goes_by_its_title() -> None:
    assert titles(split(markdown("Intro.\n## Using\nAsk."))) == ["guide", "guide › Using"]


def test_front_matter_names_the_document_and_is_not_searched() -> None:
    found = split(markdown('---\ndate: 2020\ntitle: "The manual"\n---\nIntro.'))

    assert [(passage.title, passage.text) for passage in found] == [("The manual", "Intro.")]


def test_comments_and_embedded_pictures_are_left_out() -> None:
    found = split(markdown("Before <!-- hidden\n\n# no --> after ![x](data:image/png;base64,AAAA) end"))

    assert [passage.text for passage in found] == ["Before  after  end"]


def test_plain_text_has_no_headings() -> None:
    found = split([Document("a.txt", "a", "# 1 is a number\n\nText.")])

    assert [(passage.id, passage.title, passage.text) for passage in found] == [
        ("a.txt#1", "a", "# 1 is a number\n\nText.")
    ]


@pytest.mark.parametrize("sentence", ["The price is 3.5 euros, says Dr.No (v2.0). ", "价格是3.5欧元。“真的吗？”他问。"])
def test_long_text_is_cut_between_sentences_and_nothing_is_lost(sentence: str) -> None:
    text = sentence * 40

    found = split([Document("a.txt", "a", text)], target=200)

    assert "".join(passage.text for passage in found).replace(" ", "") == text.replace(" ", "")
    assert all(passage.text[-1] in ".。？" for passage in found)
    assert all(100 <= len(passage.text) <= 300 for passage in found)


def test_the_number_of_a_list_item_stays_with_it() -> None:
    text = "\n".join(f"{number}. Do this and that and then a little more of the same" for number in range(1, 30))

    found = split([Document("a.txt", "a", text)], target=200)

    assert len(found) > 4
    assert all(passage.text[0].isdigit() and passage.text.endswith("same") for passage in found)


def test_a_text_without_any_sentence_is_cut_all_the_same() -> None:
    found = split([Document("a.txt", "a", "word " * 1000), Document("a.txt", "a", "字" * 3000)], target=500)

    assert max(len(passage.text) for passage in found) <= 1000
    assert not any(passage.text.startswith("ord") for passage in found)


def test_the_same_documents_give_the_same_passages() -> None:
    documents = markdown("# A\n" + "One sentence. " * 100 + "\n# B\n" + "二。" * 900)

    assert split(documents) == split(documents)
    assert len({passage.id for passage in split(documents)}) == len(split(documents))


@pytest.mark.parametrize("text", ["", " \n\n ", "# Only\n## headings\n"])
def test_nothing_to_say_gives_no_passage(text: str) -> None:
    assert split(markdown(text)) == []


def test_a_shortened_text_ends_with_a_whole_sentence_if_one_fits() -> None:
    assert shorten("First one. Second one. Third.", 24) == "First one. Second one."
    assert shorten("第一句。第二句。", 5) == "第一句。"
    assert shorten("No sentence end in sight", 10) == "No senten…"
    assert shorten("Short.", 6) == "Short."
