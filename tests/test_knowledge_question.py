import time
from typing import Any

import pytest

from knowledge.question import question


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


ENGLISH = [
    {"role": "system", "content": "You sell lamps."},
    user("What does the XR-200 cost?"),
    assistant("The XR-200 costs 39 euros. Would you like to hear about its warranty?"),
]
CHINESE = [user("XR-200 多少钱？"), assistant("XR-200 售价 299 元。您想了解保修吗？")]


@pytest.mark.parametrize(
    ("history", "turn"),
    [
        (ENGLISH, "How do I return a broken lamp from abroad?"),
        (ENGLISH, "Is it possible to get a refund for a broken lamp?"),
        (ENGLISH, "opening hours of the shop in Berlin"),
        (CHINESE, "怎么退货"),
        (CHINESE, "周末客服上班吗"),
        (CHINESE, "这个商城的客服电话和工作时间是什么"),
    ],
)
def test_a_turn_that_stands_alone_is_asked_alone(history: list[dict[str, Any]], turn: str) -> None:
    assert question([*history, user(turn)]) == turn


@pytest.mark.parametrize(
    "turn",
    ["and how much is that one?", "what about the other one", "How long does it last?", "why?", "warranty?", "XR-300"],
)
def test_an_english_follow_up_takes_the_earlier_turn_along(turn: str) -> None:
    asked = question([*ENGLISH, user(turn)])

    assert asked.startswith("What does the XR-200 cost?\n")
    assert asked.endswith(f"\n{turn}\n{turn}")


@pytest.mark.parametrize(
    "turn", ["那它多少钱？", "保修呢", "价格", "为什么", "那个有什么颜色", "XR-300呢？", "还有别的吗"]
)
def test_a_chinese_follow_up_takes_the_earlier_turn_along(turn: str) -> None:
    asked = question([*CHINESE, user(turn)])

    assert asked.startswith("XR-200 多少钱？\n")
    assert asked.endswith(f"\n{turn}\n{turn}")


def test_what_a_turn_points_to_may_be_in_the_reply() -> None:
    messages = [user("Which lamp do you recommend for reading?"), assistant("The Lumen 5."), user("How much is it?")]

    assert "The Lumen 5." in question(messages)


def test_a_chain_of_follow_ups_goes_back_to_a_turn_that_stands_alone() -> None:
    messages = [
        user("Do you ship to Norway?"),
        assistant("Yes."),
        user("What does the XR-200 cost?"),
        assistant("39 euros."),
        user("and the XR-300?"),
        assistant("49 euros."),
        user("why?"),
    ]

    assert question(messages) == "What does the XR-200 cost?\nand the XR-300?\n49 euros.\nwhy?\nwhy?"


@pytest.mark.parametrize(
    ("history", "turn", "offer"),
    [
        (
            ENGLISH[:-1] + [assistant("39 euros. Shall I explain the warranty terms? 😊")],
            "Yes, please!",
            "warranty terms?",
        ),
        (ENGLISH[:-1] + [assistant("39 euros. Shall I explain the warranty terms?")], "ok", "warranty terms?"),
        (CHINESE, "好的", "您想了解保修吗？"),
    ],
)
def test_a_yes_asks_for_what_was_offered(history: list[dict[str, Any]], turn: str, offer: str) -> None:
    assert question([*history, user(turn)]).endswith(offer)


@pytest.mark.parametrize(
    "turn",
    [
        "Thank you very much, bye!",
        "hello",
        "Good morning.",
        "ok",
        "谢谢，再见",
        "你好！",
        "好的，谢谢您",
        "你好" * 30,
        "",
        " ",
        "?!",
    ],
)
def test_a_courtesy_asks_for_nothing(turn: str) -> None:
    assert question([user("How much?"), assistant("39 euros."), user(turn)]) == ""


def test_the_first_turn_is_asked_as_it_is_even_if_it_points_elsewhere() -> None:
    assert question([user("How much is it?")]) == "How much is it?"


def test_a_sentence_cut_in_two_by_a_pause_is_one_turn() -> None:
    messages = [*ENGLISH, user("How do I return"), user("a broken lamp")]

    assert question(messages) == "How do I return a broken lamp"


def test_what_comes_after_the_callers_last_turn_is_not_asked() -> None:
    messages = [user("opening hours in Berlin"), assistant("One moment."), {"role": "tool", "content": "x"}]

    assert question(messages) == "opening hours in Berlin"


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (
            [{"type": "image_url", "image_url": "x"}, {"type": "text", "text": "which lamp shade is red"}],
            "which lamp shade is red",
        ),
        ([{"type": "text", "text": "which lamp"}, {"type": "text", "text": "is red"}], "which lamp\nis red"),
        ([{"type": "text"}, {"type": "text", "text": None}, "text", None], ""),
        (None, ""),
        (7, ""),
    ],
)
def test_content_may_be_parts_or_nothing(content: object, asked: str) -> None:
    assert question([user(content)]) == asked


@pytest.mark.parametrize("messages", [[], [assistant("Hello.")], [{"role": "system", "content": "x"}], [{}]])
def test_without_a_turn_of_the_caller_nothing_is_asked(messages: list[dict[str, Any]]) -> None:
    assert question(messages) == ""


@pytest.mark.parametrize(
    "long", ["and that one? " * 20_000, "你好" * 100_000, "那它呢" * 100_000, "a" * 300_000, "? " * 200_000]
)
def test_long_histories_of_long_messages_are_bounded_and_fast(long: str) -> None:
    messages = [message for _ in range(300) for message in (user(long), assistant(long))]

    started = time.perf_counter()
    asked = [question([*messages, user(turn)]) for turn in ("and that one?", long)]
    seconds = time.perf_counter() - started

    assert max(map(len, asked)) < 5_000
    assert seconds < 0.5
