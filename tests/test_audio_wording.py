import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import cpu_limit

from audio.sentences import SentenceCutter
from audio.wording import Wording, wording

SPOKEN = [
    # emphasis, and what is none
    ("**Note:** this is *very* ***important***.", "Note: this is very important."),
    ("__Bold__ and _italic_ and ~~gone~~ text", "Bold and italic and gone text"),
    ("2 * 3 = 6, 2*3, 2**3 and 5 ** 2", "2 * 3 = 6, 2*3, 2**3 and 5 ** 2"),
    ("Set snake_case in my_file_name.py", "Set snake_case in my_file_name.py"),
    ("**注意**：这是*重点*内容。", "注意：这是重点内容。"),
    ("un**believ**able", "unbelievable"),
    ("\\*not bold\\* and 1\\. no item", "*not bold* and 1. no item"),
    # what the cutter has parted
    ("**Note!", "Note!"),
    ("** It is late.", "It is late."),
    ("* It is late.", "It is late."),
    ("see here](https://example.com/a) now", "see here now"),
    ("```", ""),
    # what was closed before
    ("! How are you?", "How are you?"),
    ('" he said.', "he said."),
    ("”然后走了。", "然后走了。"),
    (".. maybe", "maybe"),
    (" .5 is a half", ".5 is a half"),
    # lines
    ("## Opening hours ##", "Opening hours"),
    ("\n- [x] Buy **milk**", "Buy milk"),
    ("\n\n* one", "one"),
    ("\n+ two", "two"),
    ("• three", "three"),
    ("\n2. Open the app.", "2. Open the app."),
    ("> A quotation", "A quotation"),
    (">> - # Deep", "Deep"),
    ("-5 degrees", "-5 degrees"),
    ("#1 in C# and F#", "#1 in C# and F#"),
    ("---", ""),
    ("\n* * *\n", ""),
    ("===", ""),
    # tables
    ("| Plan | Price |", "Plan, Price"),
    ("\n|---|:---:|\n| Basic | $5 |", "Basic, $5"),
    ("| 套餐 | 价格 |", "套餐， 价格"),
    ("Name | Age", "Name, Age"),
    ("Settings → Wi-Fi → Off", "Settings, Wi-Fi, Off"),
    # links and addresses
    ("Open [the app](https://a.example/b_(c)?x=1 'Title') now.", "Open the app now."),
    ("![A cat](https://a.example/cat.png) is here", "A cat is here"),
    ("[![Build](https://a.example/b.svg)](https://a.example) passes", "Build passes"),
    ("A [reference][1] and a note[^2].", "A reference and a note."),
    ("[https://www.example.com/x](https://www.example.com/x)", "example.com"),
    ("See https://www.example.com/path/to?q=1&r=2#top.", "See example.com."),
    (
        "It runs on http://localhost:8000/v1, locally (https://example.com/a).",
        "It runs on localhost, locally (example.com).",
    ),
    ("访问https://example.com/a_b，谢谢。", "访问example.com，谢谢。"),
    ("访问https://example.com/路径。", "访问example.com路径。"),
    ("<https://example.com/a> or mailto:me@example.com", "example.com or me@example.com"),
    ("Sources say so【4†source】.", "Sources say so."),
    ("I said [sic] so (really)", "I said [sic] so (really)"),
    # code
    ("Run `pip install x` and `a * b * c`.", "Run pip install x and a * b * c."),
    ("Use ``a`b`` or ```npm i```.", "Use ab or npm i."),
    ("```python\nprint('Hello.')\n```", ""),
    ("Here:\n```\ncode\n```\nDone", "Here: Done"),
    ("\n~~~~\ncode ~~~\n~~~~", ""),
    ("Here:\n```js\nnever closed", "Here:"),
    # pictures of all kinds
    ("Great 👍🏽! Family 👨‍👩‍👧‍👦 of 🇨🇳🇺🇸 1️⃣ ok ❤️ ✅ ☀️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "Great! Family of ok"),
    ("好的😊！", "好的！"),
    ("🎉🎉", ""),
    ("Agora™ and ©️ 2026", "Agora™ and 2026"),
    # HTML
    ("<b>Hi</b><br/>there <span class='x'>you</span> <!-- no -->", "Hi there you"),
    ("a < b > c and x<5", "a < b > c and x<5"),
    ("List<String> and H<sub>2</sub>O", "List<String> and H2O"),
    ("Tom &amp; Jerry&nbsp;&lt;3", "Tom & Jerry <3"),
    # LaTeX
    ("It costs $5 and $10.", "It costs $5 and $10."),
    ("So $x + y$ is $$x^2$$ and \\(a_1\\).", "So x + y is x^2 and a_1."),
    ("Half is $\\frac{1}{2}$", "Half is frac 1 2"),
    # what cannot be seen
    ("ze\u200bro wi\u00addth \ufeffand\x00 \x1b[31mcontrol\x7f", "zero width and [31mcontrol"),
    ("a\ud800b \ue000c", "ab c"),
    ("**bo\u200bld*\u200b*", "bold"),
    ("Tab\tand \r\n lines\u3000here", "Tab and lines here"),
    # nothing
    ("", ""),
    (" \n ", ""),
    ("…”", ""),
    ("* _ ` ~ # > | $", ""),
]

ENGLISH = [
    "Your order #1024 ships on March 5th, and it should arrive within 3-5 business days.",
    "The meeting is at 9:30 a.m., isn't it?",
    "That's $1,299.99 (plus 8.25% tax), or about $108 a month.",
    "Dr. O'Neil can see you at 4 p.m.; please bring your ID.",
    "“Of course,” she said — and left.",
    "Turn left, go 200 m, then it's on your right: a red door.",
]
CHINESE = [
    "您的订单预计3月5日送达，共计299.9元。",
    "好的，我来帮您查一下“退款政策”（2026版）。",
    "今天北京多云，气温25℃，出门记得带伞！",
    "《红楼梦》是曹雪芹写的，您读过吗？",
    "我的iPhone 15很好用，Wi-Fi也快。",
    "史蒂夫·乔布斯创立了苹果公司……您知道吗？",
]


def texts(made: Wording) -> list[str]:
    return [word.text for word in made.words]


@pytest.mark.parametrize(("text", "spoken"), SPOKEN)
def test_only_what_can_be_said_is_spoken(text: str, spoken: str) -> None:
    assert wording(text).spoken == spoken
    assert wording(text, verbatim=True).spoken == spoken


@pytest.mark.parametrize("text", ENGLISH + CHINESE)
def test_a_plain_sentence_stays_as_it_is(text: str) -> None:
    made = wording(text)

    assert (made.spoken, made.shown) == (text, text)
    assert wording(text, verbatim=True) == made
    assert [text[start:end] for _, start, end in made.words] == texts(made)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", ["Hello,", "world!"]),
        ("It's — well — 5 + 3 = 8.", ["It's —", "well —", "5", "+", "3", "=", "8."]),
        ("他说：“你好，world！”iPhone很好。", ["他", "说：", "“你", "好，", "world！”", "iPhone", "很", "好。"]),
        ("（好）OK，yes", ["（好）", "OK，", "yes"]),
        ("- “Wait” (now)", ["“Wait”", "(now)"]),
        ("价格：$5（含税）", ["价", "格：", "$5", "（含", "税）"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
    ],
)
def test_words_are_runs_of_letters_and_single_chinese_characters(text: str, words: list[str]) -> None:
    assert texts(wording(text)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("👋 Hi 🎉 **you** --- 👍", [("👋 Hi 🎉", "Hi"), ("**you** --- 👍", "you ---")]),
        ("See https://example.com/a now", [("See", "See"), ("https://example.com/a", "example.com"), ("now", "now")]),
        ("[the app](https://a.example)!", [("[the", "the"), ("app](https://a.example)!", "app!")]),
        ("**注意**😊吗", [("**注", "注"), ("意**😊", "意"), ("吗", "吗")]),
        ("\n- item\n", [("- item", "item")]),
        ("| a | b |", [("| a |", "a,"), ("b |", "b")]),
    ],
)
def test_what_is_shown_verbatim_and_not_spoken_joins_the_word_beside_it(
    text: str, words: list[tuple[str, str]]
) -> None:
    made = wording(text, verbatim=True)

    assert made.shown == text
    assert [(word.text, made.spoken[word.start : word.end]) for word in made.words] == words


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("Hi!  How are\tyou? Fine.", "Hi! How are you? Fine."),
        ("Steps:\n\n1. **Open** it.\n2. Close it.\n\nDone 🎉!", "Steps:\n1. Open it.\n2. Close it.\nDone!"),
        ("好的！我来查。\n\n- 苹果\n- 香蕉", "好的！我来查。\n苹果\n香蕉"),
        ("Run:\n```sh\nls. pwd.\n```\nThen stop.", "Run:\nThen stop."),
        ("“Hi!” he said. 🎉 “Bye!” she said.", "“Hi!” he said. “Bye!” she said."),
        ("| A | B |\n|---|---|\n| 1 | 2 |\n\nSee [it](http://a.example).", "A, B\n1, 2\nSee it."),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_the_sentences_shown_make_a_readable_transcript(answer: str, shown: str, size: int) -> None:
    cutter = SentenceCutter()
    pieces = [piece for at in range(0, len(answer), size) for piece in cutter.feed(answer[at : at + size])]

    assert "".join(wording(piece).shown for piece in pieces + cutter.end()) == shown


def test_a_sentence_with_nothing_to_say_has_no_words() -> None:
    assert wording("🎉") == ("", "", ())
    assert wording("🎉", verbatim=True) == ("", "🎉", ())
    assert wording(" ”") == ("", "”", ())


nasty = st.lists(
    st.sampled_from(
        [
            *"aZ1 \n\t好的，。“”（)(][*_`~#>|-+=<&;$\\{}!?.:/'\"",
            *["**", "```", "https://", "www.a.example", "](", "![", "<b>", "</b>", "&amp;", "$$", "\\(", "<!--", "-->"],
            *[
                "👍🏽",
                "👨‍👩‍👧",
                "🇨🇳",
                "1️⃣",
                "\u200b",
                "\ud800",
                "\x00",
                "\x1f",
                "\u3000",
                "\u0301",
                "𠮷",
                "한",
                "→",
                "…",
                "- ",
                "\n|",
            ],
        ]
    ),
    max_size=25,
).map("".join)


@given(text=nasty | st.text(max_size=30), verbatim=st.booleans())
def test_the_words_joined_are_what_is_shown(text: str, verbatim: bool) -> None:
    made = wording(text, verbatim=verbatim)

    assert not verbatim or made.shown == text
    if made.spoken:
        assert "".join("".join(texts(made)).split()) == "".join(made.shown.split())
    else:
        assert made.words == ()


@given(text=nasty | st.text(max_size=30), verbatim=st.booleans())
def test_the_words_ranges_are_in_order_within_what_is_spoken(text: str, verbatim: bool) -> None:
    made = wording(text, verbatim=verbatim)

    edges = [edge for word in made.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(0 <= word.start < word.end <= len(made.spoken) for word in made.words)
    said = "".join(made.spoken[word.start : word.end] for word in made.words)
    assert [char for char in said if char.isalnum()] == [char for char in made.spoken if char.isalnum()]


@given(text=nasty | st.text(max_size=30))
def test_what_is_spoken_is_tidy_and_can_be_sent(text: str) -> None:
    made = wording(text)

    assert " ".join(made.spoken.split()) == made.spoken
    assert not any(mark in made.spoken for mark in ("`", "\u200b", "👍", "🇨", "\x00"))
    made.spoken.encode()
    made.shown.encode()


@given(text=nasty)
def test_no_letter_is_lost_but_in_what_is_not_spoken(text: str) -> None:
    plain = "".join(char for char in text if char.isalnum() or char in " *#|~_" and char.isascii())

    made = wording(plain)

    assert [char for char in made.spoken if char.isalnum()] == [char for char in plain if char.isalnum()]


@pytest.mark.parametrize(
    "unit",
    ["[a", "*a", "<a ", "](/", "$a", "\\(", "`a", "| ", "# ", "http://", "<!--", "\n", "((", "~", "[a](((", "!["],
)
def test_a_sentence_of_marks_is_cleaned_in_time(unit: str) -> None:
    text = unit * (2_000 // len(unit))

    with cpu_limit(3):
        wording(text)
        wording(text, verbatim=True)


def test_a_megabyte_of_code_is_passed_over_in_time() -> None:
    with cpu_limit(10):
        made = wording("```\n" + "x = 1\n" * 160_000 + "```")

    assert made == ("", "", ())
