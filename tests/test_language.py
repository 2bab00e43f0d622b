import pytest

from protocol.language import language


@pytest.mark.parametrize(
    "text",
    [
        "Where is my order?",
        "What does 你好吗 mean?",
        "How do you pronounce 中华人民共和国?",
        "Translate 中华人民共和国 into English",
        "My name is 王小明.",
        "Please call 李先生 back.",
        "“你是谁” means who are you",
        "Can I order two portions of 宫保鸡丁 please",
    ],
)
def test_an_english_sentence_stays_english_around_chinese_words(text: str) -> None:
    assert language(text) == "en"


@pytest.mark.parametrize(
    "text",
    [
        "我的订单在哪里？",
        "我的 iPhone 15 Pro Max",
        "LLM_API_KEY 是什么",
        "Agora Conversational AI Engine 怎么用",
        "我想把 LLM_BASE_URL 设置成 http://localhost:11434/v1",
        "帮我查一下 order status of my MacBook Pro",
        "how are you 是什么意思",
        "“How are you doing?” 用中文怎么讲？",
        "iPhone 的价格 in USD 是多少",
        "怎麼連接 OpenAI",
        "Wi-Fi 密码",
    ],
)
def test_a_chinese_sentence_stays_chinese_around_english_words(text: str) -> None:
    assert language(text) == "zh"


@pytest.mark.parametrize("text", ["", "  ", "42", "3:30?", "👍"])
def test_a_text_without_letters_is_in_the_default_language(text: str) -> None:
    assert language(text) == "en"
    assert language(text, default="zh") == "zh"


def test_a_letter_outweighs_the_default_language() -> None:
    assert language("OK", default="zh") == "en"
    assert language("好", default="en") == "zh"


def test_traditional_characters_and_rare_ones_are_chinese() -> None:
    assert language("請問營業時間？") == "zh"
    assert language("𠮷") == "zh"


def test_what_is_pasted_after_the_first_4000_characters_does_not_count() -> None:
    text = "Where is it? " * 400

    assert language(text + "在哪里？" * 4_000) == "en"
