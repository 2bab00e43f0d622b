import re

import pytest
from cutting import cut, cut_everywhere
from hypothesis import given
from hypothesis import strategies as st
from limits import cpu_limit

from audio.sentences import SentenceCutter

# answers as an LLM writes them; "|" is where a sentence ends
ENGLISH = [
    "Sure!| I can help you with that.| What is your order number?",
    "Dr. Smith is available on Tuesday at 3 p.m.| Would that work for you?",
    "The total comes to $1,000.50, plus 8.25% tax.| Shall I go ahead?",
    "Pi is about 3.14.| It never ends.",
    "You can use fruit, e.g. apples or pears, i.e. whatever is in season.| Enjoy!",
    "He moved to the U.S. in 1998.| She followed two years later.",
    "He moved to the U.S.| She stayed in Canada.",
    "The U.S. Government issued a statement at 10 a.m. Eastern time.| Nobody commented.",
    "Apple Inc. was founded in 1976 by Steve Jobs, et al. in a garage.| It makes phones.",
    "Your room is No. 5 on the second floor.| No.| There is no lift.",
    "Our office is at 123 Main St. near Fifth Ave. and it opens at 9 a.m.| Please ring the bell.",
    "Node.js runs on the server.| Visit example.com or write to help@example.com.| The file is config.yaml.",
    "Open https://example.com/search?q=1!a for details.| It is free.",
    'She said, "I am ready."| Then she left.',
    "“Are you sure?”| Yes (really!).| Fine.",
    "Well... it depends.| Hmm...| Let me think about that.",
    "Wait, what?!| That is amazing!!!| Tell me more.",
    "Here are the steps:|\n\n1. Open the app.|\n2. Tap **Settings**|\n3. Turn it off|\n\nThat should fix it.",
    "There are two: 1. Restart the phone.| 2. Call us.",
    "## Opening hours|\n\n- Monday to Friday: 9:00 to 18:00|\n- Saturday: closed|\n\nAnything else?",
    "This line was\nonly wrapped.| The next one\nas well.",
    "Great choice!| 🎉 Your table for two is booked for Oct. 5 at 7:30 p.m.| See you then!| 👋",
    "**Important:** back up first.| *Really.*| Then run `npm i`.",
    "J. R. R. Tolkien wrote it.| So did I.| The book has 1,178 pages.",
    "The flight takes approx. 5 hrs. from London.| Bring water, snacks, etc.| You will land at noon.",
    "Is a != b in Python?| Yes, and a == a.",
    "Add 3 tsp. baking powder and 1 tbsp. sugar.| Cook for 2 min. on each side (exp. Dec. 31).| Done!",
    "Version 2.0.1 fixes it.| Update to v2.| Then restart.",
    "Run this:|\n\n```python\nprint('Hi. Ho!')\n\nx = 1. if y else 2\n```|\n\nThen look at the output.",
]
# a weight of a few words
EARLY = 12
CHINESE = [
    "您好！|请问有什么可以帮您？",
    "好的，我来帮您查一下。|请稍等。",
    "他说：“好。”|然后就走了。",
    "“你去哪儿？”|她问，“我也去！”|大家都笑了。",
    "真的吗？！|太好了！！！|我们明天见。",
    "嗯……|让我想一想。|其实……|也可以。",
    "我们有三种套餐：|\n1. 基础版，每月 9.9 元|\n2. 专业版，每月 29.9 元|\n3. 企业版|\n\n您想选哪一种？",
    "圆周率约为3.14。|它是无理数。",
    "一共是 1,000.50 元；|含税。",
    "请访问 example.com 或发邮件到 help@example.com。|谢谢！",
    "Node.js 是一个运行时。|它用的是 V8 引擎。",
    "今天北京多云，气温 25℃（体感 27℃）。|出门记得带伞！",
    "《红楼梦》是曹雪芹写的。|您读过吗？",
    "“不行！”|他说，“绝对不行。”|事情就这样定了。",
    "## 营业时间|\n\n- 周一至周五：9:00–18:00|\n- 周六：休息|\n\n还有其他问题吗？",
    "您的订单号是 A-1024。|预计 3 月 5 日送达。|祝您生活愉快！|😊",
    "**注意：**请先备份。|**然后**重启设备。",
    "「你好。」|他笑了笑。",
    "OK!|那我们开始吧。|Let's go!|第一步是什么？",
    "苹果公司 (Apple Inc.) 成立于 1976 年。|总部在加州。",
    "方法如下：|\n\n```bash\npip install x。y！\n```|\n\n然后重启服务。",
    "A 方案便宜；|B 方案快。|您选哪个？",
    "（以上仅供参考。）|如有疑问，请联系客服。",
    "请说 “Hello.”| 这个词。|很好。",
    "第1名：小明！|第2名：小红！",
]


def cut_up(pieces: list[str], early_after: int = 0) -> list[str]:
    """Return the sentences of an answer that comes in these pieces."""
    cutter = SentenceCutter(early_after)
    sentences = [sentence for piece in pieces for sentence in cutter.feed(piece)]
    return sentences + cutter.end()


def first_after(text: str, early_after: int = 0) -> str:
    """Return what has come of an answer when its first sentence goes, without its end."""
    cutter = SentenceCutter(early_after)
    return next((text[: at + 1] for at in range(len(text)) if cutter.feed(text[at])), "")


@pytest.mark.parametrize("answer", ENGLISH + CHINESE)
def test_an_answer_is_cut_where_its_sentences_end(answer: str) -> None:
    assert cut_up([answer.replace("|", "")]) == answer.split("|")


@pytest.mark.parametrize("answer", ENGLISH + CHINESE)
def test_an_answer_is_cut_the_same_as_tokens(answer: str) -> None:
    # as tokenizers part a text: a space goes with the word behind it, a suffix with its dot, marks stay together
    tokens = re.findall(r"\.\w+|[ ]?[A-Za-z]+|[0-9]+|[!?.…。！？”’」）)\"*]+|\n+|.", answer.replace("|", ""))

    assert cut_up(tokens) == answer.split("|")


@pytest.mark.parametrize("answer", ENGLISH + CHINESE)
def test_nothing_is_lost_or_doubled_wherever_an_answer_is_cut(answer: str) -> None:
    text = answer.replace("|", "")

    for place in range(1, len(text)):
        assert "".join(cut_up(cut(text, place), EARLY)) == text
    assert "".join(cut_up(cut_everywhere(text), EARLY)) == text


nasty = st.lists(
    st.sampled_from(
        [
            *"ab AZ19.,!?;:…。！？；，：、“”‘’\"'()（）*_`~#|-—–\n\t好的",
            *["```", "~~~", "\n```py\n", "\n```\n", "...", "……", "Dr.", "U.S. ", "No. ", "e.g. ", "p.m. "],
            *["https://a.b/?c=", "![", "1. ", "- ", "👍🏽", "\r\n", "word ", "\ud800"],
        ]
    ),
    max_size=30,
).map("".join)


@given(text=nasty | st.text(max_size=40), places=st.lists(st.integers(1, 200), max_size=8), early=st.integers(0, 30))
def test_the_pieces_joined_are_the_text(text: str, places: list[int], early: int) -> None:
    sentences = cut_up(cut(text, *places), early)

    assert "".join(sentences) == text
    assert all(sentences)


def test_a_cutter_whose_answer_has_ended_is_empty() -> None:
    cutter = SentenceCutter()
    cutter.feed("```\nHello")

    assert cutter.end() == ["```\nHello"]
    assert cutter.end() == []


@pytest.mark.parametrize(
    "text",
    [
        "I can help you.",
        "Sure.",
        "That is all!",
        "Ready?",
        "It is well-known.",
        "They're **closed**.",
        "好的。",
        "你好！",
        "是吗？",
    ],
)
def test_a_sentence_goes_with_the_mark_that_ends_it(text: str) -> None:
    assert first_after(text + " And so on. ") == text


@pytest.mark.parametrize(
    "text", ["Hi, Dr.", "It is 3.", "Plan B.", "About e.g.", "At 5 p.m.", "In the U.S.", "See No.", "1."]
)
def test_a_full_stop_that_may_go_on_waits(text: str) -> None:
    cutter = SentenceCutter()

    assert cutter.feed(text) == []
    assert cutter.end() == [text]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Certainly, I can do that.", "Certainly, I can do that."),
        ("Thanks for asking about this, let me look.", "Thanks for asking about this,"),
        ("There are three of them: one, two.", "There are three of them: "),
        ("That is a good question — let me see.", "That is a good question — "),
        ("I have 1,000,000 of these here, and more.", "I have 1,000,000 of these here,"),
        ("好的，我来帮您查一下，请稍等。", "好的，我来帮您查一下，"),
        ("没问题，好。", "没问题，好。"),
    ],
)
def test_the_first_clause_goes_early_once_it_is_long_enough(text: str, first: str) -> None:
    assert first_after(text, early_after=16) == first


def test_only_the_first_piece_goes_early() -> None:
    text = "Thanks for asking about this, I will look. This is the second, and it is whole."

    assert cut_up(cut_everywhere(text), 12) == [
        "Thanks for asking about this,",
        " I will look.",
        " This is the second, and it is whole.",
    ]


def test_nothing_goes_early_where_that_is_off() -> None:
    assert cut_up(["Thanks for asking about this, let me look."], 0) == ["Thanks for asking about this, let me look."]


def test_a_sentence_that_does_not_end_is_cut_between_its_words() -> None:
    words = "and so it goes on " * 100

    pieces = cut_up(cut_everywhere(words))

    assert all(len(piece) <= 240 for piece in pieces)
    assert [word for piece in pieces for word in piece.split()] == words.split()


@pytest.mark.parametrize("clause", ["and then there was one more, ", "然后又有一个人走了进来，"])
def test_a_sentence_that_does_not_end_is_cut_where_a_clause_does(clause: str) -> None:
    pieces = cut_up(cut_everywhere(clause * 40))

    assert 4 < len(pieces) < 20
    assert all(piece.rstrip()[-1] in ",，" for piece in pieces if piece.strip())


def test_the_inside_of_a_block_of_code_is_not_sentences() -> None:
    code = "```js\n" + "// One. Two! 三。\n" * 50 + "~~~\n```"

    assert cut_up(cut_everywhere(f"Run it:\n{code}\nDone.")) == ["Run it:", f"\n{code}", "\nDone."]


def test_code_within_a_line_is_no_block() -> None:
    assert cut_up(["```npm i``` installs it. Then go on."]) == ["```npm i``` installs it.", " Then go on."]


def test_a_table_is_cut_into_its_rows() -> None:
    table = "| Plan | Price |\n|---|---|\n| Basic | $5 |\n| Pro | $10 |\n\nWhich one?"

    assert cut_up(cut_everywhere(table)) == [
        "| Plan | Price |",
        "\n|---|---|\n| Basic | $5 |",
        "\n| Pro | $10 |",
        "\n\nWhich one?",
    ]


@pytest.mark.parametrize(
    "unit",
    ["Hi there. ", "a", "\n", "。", ", ", "U.S. ", "`", "...", "a.b?c!", '"', "好", ": 1.", "\n```x", "```\nx\n"],
)
def test_a_long_answer_takes_time_in_proportion_to_its_length(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    start = text[:5_000]

    # were it quadratic, it would take hours and minutes
    with cpu_limit(10):
        whole = cut_up([text])
    with cpu_limit(3):
        apart = cut_up(cut_everywhere(start))

    assert "".join(whole) == text
    assert "".join(apart) == start


@pytest.mark.once
def test_a_megabyte_a_character_at_a_time_takes_time_in_proportion_to_its_length() -> None:
    code = "\n```\n" + "x = 1\n" * 100_000 + "```\n"
    text = "It is 3.14, said Dr. Smith. 好的，没问题。" * 2_500 + code + "好" * 50_000 + "a" * 300_000

    with cpu_limit(60):
        pieces = cut_up(cut_everywhere(text))

    assert "".join(pieces) == text
