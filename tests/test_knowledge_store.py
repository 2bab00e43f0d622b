import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge.passages import Passage
from knowledge.store import Store, StoreError, write

PASSAGES = [
    Passage("faq#1", "What does the XR-200 cost?", "faq", "The XR-200 smart speaker costs 39 euros."),
    Passage("faq#2", "How long is the warranty?", "faq", "Two years from the day of purchase, batteries excluded."),
    Passage("faq#3", "Charging", "faq", "Connect the cable; two hours fill the battery of the XR-300."),
    Passage("faq#4", "退货政策是什么？", "faq", "商品签收后七天内可以无理由退货，运费由买家承担。"),
    Passage("faq#5", "客服工作时间", "faq", "周一至周五早上九点到晚上六点，节假日休息。"),
    Passage("guide#1", "Guide › Returning", "guide", "A speaker can be returned within seven days."),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    write(tmp_path / "index", PASSAGES)
    store = Store(tmp_path / "index")
    yield store
    store.close()


def write_and_search(path: Path, texts: list[str], question: str, limit: int = 10) -> list[str]:
    write(path, [Passage(text, "", "file", text) for text in texts])
    store = Store(path)
    found = [passage.id for passage in store.search(question, limit)]
    store.close()
    return found


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("how much does the xr 200 cost", "faq#1"),
        ("XR200 price", "faq#1"),
        ("Is there a warranty on it?", "faq#2"),
        ("怎么退货", "faq#4"),
        ("运费谁承担", "faq#4"),
        ("客服几点上班", "faq#5"),
    ],
)
def test_a_question_finds_its_passage(store: Store, question: str, first: str) -> None:
    assert store.search(question, 3)[0].id == first


@pytest.mark.parametrize(
    "question",
    [
        "what's the weather in tokyo tomorrow",
        "tell me a joke",
        "今天天气怎么样",
        "给我讲个笑话",
        "how are you?",
        "",
        "?!",
        '" OR NEAR( * - ^ title:',
    ],
)
def test_a_question_about_something_else_finds_nothing(store: Store, question: str) -> None:
    assert store.search(question, 3) == []


def test_a_passage_comes_back_whole_and_with_its_score(store: Store) -> None:
    found = store.search("how long is the warranty of the XR-200?", 5)

    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)
    assert all(passage.score > 0 for passage in found)
    original = {passage.id: passage for passage in PASSAGES}
    assert [(p.id, p.title, p.file, p.text) for p in found] == [
        (p.id, p.title, p.file, p.text) for p in (original[passage.id] for passage in found)
    ]


def test_no_more_passages_come_back_than_asked_for(tmp_path: Path) -> None:
    texts = [f"warranty number {number}" for number in range(50)]

    assert len(write_and_search(tmp_path / "index", texts, "warranty", 3)) == 3


def test_a_word_in_the_title_weighs_more_than_one_in_the_text(tmp_path: Path) -> None:
    write(
        tmp_path / "index", [Passage("a", "Shipping", "f", "the warranty"), Passage("b", "Warranty", "f", "shipping")]
    )
    store = Store(tmp_path / "index")

    found = store.search("warranty", 2)
    store.close()

    assert [passage.id for passage in found] == ["b", "a"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_collection_of_a_few_passages_is_searched_as_well(tmp_path: Path, count: int) -> None:
    texts = ["The XR-200 costs 39 euros", "The XR-200 weighs 300 grams", "The XR-200 has a red button"][:count]

    found = write_and_search(tmp_path / "index", texts, "What does the XR-200 cost?")

    assert found[0] == texts[0]
    assert len(found) == count


def test_only_the_common_words_of_a_question_are_not_enough(tmp_path: Path) -> None:
    texts = [f"our shop sells item {number}" for number in range(40)]

    assert write_and_search(tmp_path / "index", texts, "is there a dentist near the shop") == []


def test_a_long_question_is_answered(tmp_path: Path) -> None:
    texts = ["the warranty lasts two years", *(f"other text number {number}" for number in range(30))]
    rambling = " ".join(f"{one}{other}zoo" for one in "abcdefghijklmnopqrst" for other in "abcdefghijklmnopqrst")

    assert write_and_search(tmp_path / "index", texts, f"{rambling}, well, the warranty, years") == texts[:1]


def test_common_words_are_not_sought_but_still_rank(tmp_path: Path) -> None:
    common = ("alpha", "beta")
    texts = [f"{common[number % 2]} gamma {'rare' if number % 100 == 0 else ''} {number}" for number in range(3000)]
    texts[500] = "alpha beta rare"

    found = write_and_search(tmp_path / "index", texts, "alpha beta rare", 3)

    assert found[0] == "alpha beta rare"
    assert len(found) == 3


def test_why_tells_the_tokens_that_matched_and_the_share_they_cover(store: Store) -> None:
    matches = store.why("How long is the speaker's warranty?", 3)

    best = matches[0]
    assert best.passage.id == "faq#2"
    assert best.tokens.keys() == {"long", "warranti"}
    assert sum(best.tokens.values()) == pytest.approx(best.passage.score)
    assert 0.5 < best.share < 1


def test_why_shows_what_was_too_little(store: Store) -> None:
    question = "two penguins walked into a crowded restaurant"

    assert [set(match.tokens) for match in store.why(question, 3)] == [{"two"}, {"two"}]
    assert store.search(question, 3) == []


def test_the_files_are_listed_with_their_passages(store: Store) -> None:
    assert store.files() == [("faq", 5), ("guide", 1)]
    assert store.passages == 6


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    assert write_and_search(tmp_path / "index", [], "warranty") == []


def test_the_same_passages_give_the_same_answers(tmp_path: Path) -> None:
    texts = [f"text of equal weight {number}" for number in range(100)]

    first = write_and_search(tmp_path / "one", texts, "equal weight", 10)
    second = write_and_search(tmp_path / "two", texts, "equal weight", 10)

    assert first == second


def test_a_failed_write_leaves_the_index_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "index"
    write(path, PASSAGES)
    before = path.read_bytes()

    def broken() -> Iterator[Passage]:
        yield PASSAGES[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(path, broken())

    assert [name.name for name in tmp_path.iterdir()] == ["index"]
    assert path.read_bytes() == before


def test_an_index_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no/index: No such file"):
        write(tmp_path / "no" / "index", PASSAGES)


@pytest.mark.parametrize("content", [None, b"", b"no database", b"SQLite format 3\0" + bytes(2000)])
def test_a_file_that_is_no_index_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "index").write_bytes(content)

    with pytest.raises(StoreError, match="index: "):
        Store(tmp_path / "index")


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "index", PASSAGES)
    connection = sqlite3.connect(tmp_path / "index")
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(StoreError, match="build it again"):
        Store(tmp_path / "index")


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "wie? so#100% 知识"

    assert write_and_search(path, ["the warranty"], "warranty") == ["the warranty"]


def test_an_index_is_read_where_nothing_may_be_written(tmp_path: Path) -> None:
    write(tmp_path / "index", PASSAGES)
    (tmp_path / "index").chmod(0o400)
    tmp_path.chmod(0o500)

    store = Store(tmp_path / "index")
    found = store.search("warranty", 1)
    store.close()
    tmp_path.chmod(0o700)

    assert [passage.id for passage in found] == ["faq#2"]
    assert [name.name for name in tmp_path.iterdir()] == ["index"]
