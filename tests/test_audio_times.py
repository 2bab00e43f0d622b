from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.times import TimedWord, timed
from audio.voice import Mark
from audio.wording import Wording, wording


def assert_in_order(words: list[TimedWord], made: Wording, duration_ms: float) -> None:
    """Check what holds for the times of every sentence."""
    assert [word.text for word in words] == [word.text for word in made.words]
    edges = [edge for word in words for edge in (word.start_ms, word.end_ms)]
    assert edges == sorted(edges)
    assert not words or edges[0] >= 0
    assert not words or max(duration_ms - 300, 0) - 1e-6 <= edges[-1] <= duration_ms


def lengths(words: list[TimedWord]) -> dict[str, float]:
    return {word.text: word.end_ms - word.start_ms for word in words}


def test_words_last_as_long_as_they_are_without_marks() -> None:
    made = wording("I understand the USA in 1984.")

    words = timed(made, (), 3_000)

    assert_in_order(words, made, 3_000)
    long = lengths(words)
    assert long["understand"] > long["USA"] > long["the"] > long["I"]
    assert long["1984."] > long["understand"]
    assert (words[0].start_ms, words[-1].end_ms) == pytest.approx((0, 3_000))


def test_a_chinese_character_lasts_longer_than_a_letter_without_marks() -> None:
    made = wording("我用 a 和 iPhone。")

    long = lengths(timed(made, (), 2_000))

    assert long["我"] == pytest.approx(long["用"])
    assert long["a"] < long["我"] < long["iPhone。"] < 4 * long["我"]


def test_a_pause_is_no_words_time() -> None:
    words = timed(wording("Yes, it is. Fine"), (), 2_000)

    gaps = [after.start_ms - before.end_ms for before, after in pairwise(words)]

    assert gaps[1] == pytest.approx(0)
    assert 0 < gaps[0] < gaps[2]


def test_marks_give_the_times() -> None:
    made = wording("Hello **big** world.")

    words = timed(made, [Mark(0, 5, 50, 400), Mark(6, 9, 420, 700), Mark(10, 15, 700, 1_100)], 1_200)

    assert words == [("Hello", 50, 400), ("big", 420, 700), ("world.", 700, pytest.approx(1_100))]


def test_the_marks_within_one_word_are_one() -> None:
    made = wording("twenty-one 3.14 pies")

    marks = [Mark(0, 6, 0, 300), Mark(7, 10, 300, 500), Mark(11, 12, 500, 700), Mark(13, 15, 700, 1_000)]
    words = timed(made, [*marks, Mark(16, 20, 1_000, 1_400)], 1_500)

    assert [(start, end) for _, start, end in words] == [(0, 500), (500, 1_000), (1_000, 1_400)]


def test_a_word_lasts_until_the_next_one_begins_at_most() -> None:
    words = timed(wording("one two"), [Mark(0, 3, 0, 900), Mark(4, 7, 500, 1_000)], 1_000)

    assert words == [("one", 0, 500), ("two", 500, 1_000)]


@pytest.mark.parametrize("empty", [Mark(4, 7, 100, 100), Mark(4, 4, 0, 900), Mark(40, 50, 0, 900), Mark(0, 3, 900, 10)])
def test_marks_of_no_length_are_ignored(empty: Mark) -> None:
    marks = [Mark(0, 3, 0, 500), Mark(4, 7, 500, 1_000)]

    assert timed(wording("one two"), [*marks, empty], 1_000) == timed(wording("one two"), marks, 1_000)


def test_a_mark_of_many_words_is_shared_among_them() -> None:
    words = timed(wording("你好吗？"), [Mark(0, 4, 100, 700)], 900)

    assert words[0].start_ms == 100
    assert [word.end_ms - word.start_ms for word in words[:2]] == [pytest.approx(200, abs=10)] * 2
    assert words[2].end_ms == pytest.approx(700)


def test_words_without_a_mark_are_estimated_between_those_that_have_one() -> None:
    words = timed(wording("one two three four"), [Mark(0, 3, 100, 300), Mark(14, 18, 900, 1_200)], 1_300)

    assert (words[1].start_ms, words[2].end_ms) == pytest.approx((300, 900))
    assert 500 < words[1].end_ms < 600


@pytest.mark.parametrize(
    "marks", [[Mark(0, 3, 0, 600), Mark(8, 13, 600, 900)], [Mark(4, 7, 0, 600), Mark(8, 13, 600, 900)]]
)
def test_a_word_without_room_shares_the_time_of_its_neighbour(marks: list[Mark]) -> None:
    words = timed(wording("New Old three"), marks, 900)

    assert [word.end_ms - word.start_ms for word in words[:2]] == [pytest.approx(300, abs=20)] * 2
    assert words[2] == ("three", 600, 900)


def test_the_last_word_is_extended_to_300_ms_before_the_end() -> None:
    marks = [Mark(0, 3, 0, 200), Mark(4, 7, 200, 400)]

    assert timed(wording("one two"), marks, 1_000)[-1] == ("two", 200, 700)
    assert timed(wording("one two"), marks, 600)[-1] == ("two", 200, 400)


def test_nothing_to_say_has_no_times() -> None:
    assert timed(wording("🎉"), [], 100) == []


def test_no_sound_has_words_of_no_length() -> None:
    assert timed(wording("Hi you"), [Mark(0, 2, 0, 10)], 0) == [("Hi", 0, 0), ("you", 0, 0)]


sentences = st.lists(
    st.sampled_from(
        ["Hello, ", "a ", "**b** ", "你", "好，", "3.14 ", "🎉 ", "— ", "https://a.example/b ", "USA. ", "\n"]
    ),
    max_size=12,
).map("".join)
some_ms = st.floats(-50, 5_000, allow_nan=False)
some_marks = st.lists(st.builds(Mark, st.integers(-2, 60), st.integers(-2, 60), some_ms, some_ms), max_size=12)


@given(text=sentences, verbatim=st.booleans(), marks=some_marks, duration_ms=st.floats(0, 4_000))
def test_times_are_in_order_whatever_the_marks_are(
    text: str, verbatim: bool, marks: list[Mark], duration_ms: float
) -> None:
    made = wording(text, verbatim=verbatim)

    assert_in_order(timed(made, marks, duration_ms), made, duration_ms)
    assert_in_order(timed(made, (), duration_ms), made, duration_ms)
