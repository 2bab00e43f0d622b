import time
from typing import Any

import pytest

from upstream.demo.extract import reply, words
from upstream.demo.phrases import NOTICE

HOTEL = [
    (
        "Grand Hotel › Breakfast",
        "Breakfast is served in the garden room. It starts at 7 and ends at half past 10. Children eat free.",
    ),
    ("Grand Hotel › Parking", "The garage is below the house. A night costs 18 euros, and charging a car is included."),
    ("Grand Hotel › Pets", "Dogs are welcome. Cats are not, because the owner is allergic to them."),
]
HOTEL_ZH = [
    ("大酒店 › 早餐", "早餐在花园厅供应。时间是早上七点到十点半。儿童免费。"),
    ("大酒店 › 停车", "车库在楼下。每晚 18 欧元，包括充电。"),
    ("大酒店 › 宠物", "欢迎带狗入住。不能带猫，因为老板对猫过敏。"),
]


def talk(*turns: str) -> list[dict[str, Any]]:
    """Write a conversation as "user: hello", "assistant: hi", ..."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


def user(content: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


class TestWithDocuments:
    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("When does breakfast start?", "starts at 7"),
            ("how much is parking", "18 euros"),
            ("Why can't I bring my cat?", "allergic"),
            ("Where is breakfast served?", "garden room"),
        ],
    )
    def test_the_answer_is_a_sentence_of_the_right_passage(self, question: str, answer: str) -> None:
        assert answer in reply(user(question), HOTEL)

    @pytest.mark.parametrize(
        ("question", "answer"),
        [("早餐几点开始？", "七点"), ("停车多少钱", "18 欧元"), ("为什么不能带猫？", "过敏"), ("车库在哪里", "楼下")],
    )
    def test_the_answer_to_a_chinese_question_is_a_sentence_of_the_right_passage(
        self, question: str, answer: str
    ) -> None:
        assert answer in reply(user(question), HOTEL_ZH)

    def test_every_sentence_of_the_answer_stands_in_one_passage_and_in_its_order(self) -> None:
        answer = reply(user("Tell me about dogs and cats"), HOTEL)

        assert answer == HOTEL[2][1]

    def test_a_sentence_that_starts_with_it_brings_the_one_before_along(self) -> None:
        answer = reply(user("When does it end in the morning? Half past?"), HOTEL)

        assert answer.startswith("Breakfast is served in the garden room. It starts")

    def test_yes_alone_is_no_answer(self) -> None:
        reference = [("Can I pay by card?", "Yes. Visa and Mastercard are taken at the desk.")]

        assert "Visa" in reply(user("can I pay by card"), reference)

    @pytest.mark.parametrize(
        "reference", [[], HOTEL, [("Grand Hotel › Empty", "")]], ids=["nothing", "other", "no text"]
    )
    def test_what_the_documents_do_not_say_is_not_made_up(self, reference: list[tuple[str, str]]) -> None:
        answer = reply(user("Who won the world cup in 1990?"), reference)

        assert answer == f"The documents don't say that. {NOTICE['en']}"

    def test_what_the_documents_do_not_say_is_told_in_chinese_to_a_chinese_caller(self) -> None:
        answer = reply(user("明天天气怎么样？"), HOTEL_ZH)

        assert answer == f"文档里没有提到这一点。{NOTICE['zh']}"

    def test_a_passage_in_the_callers_language_is_preferred(self) -> None:
        wifi = [("Wi-Fi", "The Wi-Fi password is sunflower."), ("Wi-Fi", "Wi-Fi 密码是 sunflower，全楼可用。")]

        assert reply(user("Wi-Fi 密码是什么？"), wifi) == "Wi-Fi 密码是 sunflower，全楼可用。"
        assert reply(user("What is the Wi-Fi password?"), wifi[::-1]) == "The Wi-Fi password is sunflower."

    def test_a_passage_in_the_other_language_is_announced(self) -> None:
        answer = reply(user("SERVER_API_KEYS 是什么？"), [("Keys", "SERVER_API_KEYS lists the callers' keys.")])

        assert answer == "文档里只有英文：SERVER_API_KEYS lists the callers' keys."

    def test_a_question_that_cannot_stand_alone_is_helped_by_the_one_before(self) -> None:
        turns = talk("user: Is there parking at the hotel?", "assistant: Yes.", "user: And how much is it?")

        assert "18 euros" in reply(turns, HOTEL)

    def test_an_answer_is_at_most_300_characters_long(self) -> None:
        long = "The tariff, " + ", ".join(f"zone {zone} costs {zone} euros" for zone in range(100)) + "."

        answer = reply(user("What does the tariff cost in zone 3?"), [("Tariff", long)])

        assert "zone 3 costs 3 euros" in answer
        assert len(answer) <= 300

    def test_marks_of_markdown_are_not_spoken(self) -> None:
        text = "# Prices\n\n- **Coffee**: `2` euros\n- Tea: 3 euros, see [the menu](http://localhost/menu)\n"

        assert reply(user("How much is a coffee?"), [("Prices", text)]).startswith("Coffee: 2 euros.")
        assert "Tea: 3 euros, see the menu." in reply(user("How much is tea?"), [("Prices", text)])

    def test_wrapped_lines_are_one_sentence(self) -> None:
        reference = [("", "The desk is open\nday and night.\n\nThe bar closes\nat two.")]

        assert reply(user("When does the bar close?"), reference) == "The bar closes at two."

    def test_a_decimal_point_or_an_abbreviation_does_not_end_a_sentence(self) -> None:
        reference = [("", "Dr. Smith charges 3.50 euros, e.g. for a letter. The office is closed on Sundays.")]

        assert (
            reply(user("What does Dr. Smith charge?"), reference) == "Dr. Smith charges 3.50 euros, e.g. for a letter."
        )


class TestWithoutDocuments:
    @pytest.mark.parametrize("text", ["hello", "Hi there!", "Good morning.", "Hi, I'm Ann.", "how are you"])
    def test_a_greeting_is_returned_shortly(self, text: str) -> None:
        assert reply(user(text)) == f"Hello! {NOTICE['en']}"

    @pytest.mark.parametrize("text", ["你好", "您好！", "喂", "早上好"])
    def test_a_chinese_greeting_is_returned_in_chinese(self, text: str) -> None:
        assert reply(user(text)) == f"你好！{NOTICE['zh']}"

    def test_a_greeting_with_a_question_is_taken_for_the_question(self) -> None:
        assert "18 euros" in reply(user("Hello, how much is parking?"), HOTEL)

    def test_an_unknown_question_is_echoed_and_not_answered(self) -> None:
        expected = f"I heard: “How do I bake bread?” I can't answer that myself. {NOTICE['en']}"

        assert reply(user("How do I bake bread?")) == expected
        assert reply(user("怎么烤面包？")) == f"我听到的是：“怎么烤面包？”这个我自己答不上来。{NOTICE['zh']}"

    def test_a_long_question_is_echoed_in_part(self) -> None:
        answer = reply(user("Tell me " + "very " * 1_000 + "much"))

        assert "very…”" in answer
        assert len(answer) < 250

    def test_who_it_is_it_says_in_the_callers_language(self) -> None:
        assert reply(user("Who are you?")).startswith("I am the built-in demo model.")
        assert reply(user("你是谁？")).startswith("我是内置的演示模型。")

    @pytest.mark.parametrize("text", ["hello", "What is two and two?", "I like tea.", "thanks", "谢谢", "我喜欢茶", ""])
    def test_every_answer_says_how_to_get_a_real_llm(self, text: str) -> None:
        answer = reply(user(text))

        assert "LLM_API_KEY" in answer
        assert "LLM_BASE_URL" in answer

    @pytest.mark.parametrize(
        ("said", "asked", "quoted"),
        [
            ("My name is Ann.", "What is my name?", "You said: “My name is Ann.”"),
            ("Hi, I'm Ann.", "what's my name", "You said: “Hi, I'm Ann.”"),
            ("My order number is A1234. Thanks!", "remind me of my order number", "“My order number is A1234.”"),
            ("我叫小明。", "我叫什么名字？", "你说过：“我叫小明。”"),
            ("我住在上海", "你还记得我住在哪里吗", "你说过：“我住在上海。”"),
        ],
    )
    def test_what_the_caller_said_before_is_quoted(self, said: str, asked: str, quoted: str) -> None:
        turns = talk(f"user: {said}", "assistant: All right.", f"user: {asked}")

        assert quoted in reply(turns)

    def test_what_the_caller_said_last_counts(self) -> None:
        turns = talk("user: My name is Ann.", "user: No, my name is Anna.", "user: What is my name?")

        assert "my name is Anna" in reply(turns)

    def test_what_the_caller_said_is_found_where_the_documents_are_silent(self) -> None:
        assert "Ann" in reply(talk("user: My name is Ann.", "user: What is my name?"), HOTEL)

    def test_the_callers_name_is_not_the_agents(self) -> None:
        assert "Ann" not in reply(talk("user: My name is Ann.", "user: What is your name?"))

    def test_an_earlier_question_is_no_answer_to_itself(self) -> None:
        turns = talk("user: What is my name?", "assistant: I don't know.", "user: What is my name?")

        assert "can't answer" in reply(turns)

    def test_what_the_demo_said_of_itself_is_never_quoted(self) -> None:
        first = user("Is the demo model a real LLM?")
        second = [*first, {"role": "assistant", "content": reply(first)}, *user("What is a real LLM?")]

        assert "I said" not in reply(second)

    def test_a_word_in_common_does_not_make_an_answer(self) -> None:
        assert "can't answer" in reply(talk("user: I live in Berlin.", "user: What is the weather in Berlin?"))

    @pytest.mark.parametrize("role", ["system", "developer"])
    def test_the_system_message_is_quoted_where_it_answers(self, role: str) -> None:
        turns = talk(f"{role}: You are a receptionist. Breakfast is served from 7 to 10.", "user: When is breakfast?")

        assert reply(turns).startswith("I was told: “Breakfast is served from 7 to 10.”")


class TestMessages:
    def test_a_picture_is_acknowledged(self) -> None:
        text, picture = {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x"}}

        assert reply(user([text, picture])) == f"I got your picture, but I can't look at it. {NOTICE['en']}"

    def test_a_bare_picture_beside_chinese_text_is_acknowledged_in_chinese(self) -> None:
        text, picture = {"type": "text", "text": "这是什么？"}, {"type": "image", "image_url": "x"}

        assert reply(user([text, picture])).startswith("图片收到了")

    def test_a_recording_is_acknowledged(self) -> None:
        assert reply(user([{"type": "input_audio", "input_audio": {}}])).startswith("I got your recording")

    def test_parts_of_text_are_read_together(self) -> None:
        parts = [{"type": "text", "text": "How much"}, {"type": "text", "text": "is parking?"}]

        assert "18 euros" in reply(user(parts), HOTEL)

    @pytest.mark.parametrize("content", [None, [], [None, 3, {"type": "text", "text": None}], 7, {}])
    def test_a_turn_without_text_gets_the_notice_alone(self, content: object) -> None:
        assert reply(user(content)) == NOTICE["en"]

    def test_no_messages_get_the_notice_alone(self) -> None:
        assert reply([]) == NOTICE["en"]

    def test_tool_messages_and_null_content_are_no_obstacle(self) -> None:
        turns = [*user("How much is parking?"), {"role": "assistant", "content": None, "tool_calls": []}]
        turns.append({"role": "tool", "content": "{}", "tool_call_id": "c"})

        assert "18 euros" in reply(turns, HOTEL)

    def test_a_number_is_answered_in_the_language_of_the_turns_before(self) -> None:
        assert NOTICE["zh"] in reply(talk("user: 我想订房间", "assistant: 几位？", "user: 2"))

    def test_the_same_question_has_the_same_answer(self) -> None:
        turns = talk("user: I like tea.", "user: What about dogs?")

        assert len({reply(turns, HOTEL) for _ in range(5)}) == 1

    @pytest.mark.parametrize("unit", [".", "。", "[", "[](", "“", "- ", "-|", "A. ", "a, ", "我", "Why? ", "\n", "**"])
    def test_hostile_text_costs_no_more_than_plain_text(self, unit: str) -> None:
        text = unit * (4_000 // len(unit)) + "x?"
        turns = [*user(text), *user(text)]

        start = time.process_time()
        reply(turns, [("x", text)])

        assert time.process_time() - start < 0.5

    def test_a_long_history_is_read_only_so_far(self) -> None:
        turns = [*user("My name is Ann. " + "Tea. " * 1_000) * 1_000, *user("What is my favourite colour?")]

        start = time.process_time()
        reply(turns)

        assert time.process_time() - start < 0.5


class TestWords:
    def test_english_is_cut_into_words_with_the_space_behind_them(self) -> None:
        assert words("Hello, I am here.") == ["Hello, ", "I ", "am ", "here."]

    def test_chinese_is_cut_into_one_or_two_characters(self) -> None:
        assert words("你好！我是演示模型。") == ["你好", "！", "我是", "演示", "模型", "。"]

    def test_mixed_text_keeps_its_names_whole(self) -> None:
        assert words("请设置 LLM_API_KEY 或别的") == ["请设", "置 ", "LLM_API_KEY ", "或别", "的"]

    @pytest.mark.parametrize(
        "text", ["", " ", "\n a  b\t\n", "你 好 \n", "“Hi” 他说，“好”。", "👍🏽 ok", "a\u2028b", *NOTICE.values()]
    )
    def test_joined_they_are_the_text(self, text: str) -> None:
        assert "".join(words(text)) == text
