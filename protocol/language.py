"""Tells which of the two languages of the product a text is written in."""

import re
from typing import Literal

Language = Literal["en", "zh"]

# the body of a regular expression's character class: the CJK ideographs of Unicode, without punctuation and kana
HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"

# enough to recognise a language; what a caller pastes after that costs nothing
_LOOKED_AT = 4_000
_RUN = re.compile(f"[{HAN}]+|[a-zà-öø-ÿ]+")
_QUOTATION = re.compile(r"“[^”]{0,200}”|\"[^\"]{0,200}\"|「[^」]{0,200}」|《[^》]{0,200}》")
# the words that hold a sentence together; names, products and quotations may come from the other language
_FRAME_WORDS = """
    a about am an and are be by call can could did do does explain for from had has have how i in into is it me mean
    means my of on or please pronounce say should spell tell that the then there this to translate was we were what
    when where which who whose why will with would you your
"""
_ENGLISH_FRAME = frozenset(_FRAME_WORDS.split())
_CHINESE_FRAME = re.compile(
    "什么|什麼|怎么|怎麼|多少|为何|為何|告诉|告訴|意思|中文|翻译|翻譯"
    "|[我你您他她们們谁誰哪这這那的了是在不没沒有用到会會能要想吗嗎呢吧把给給和跟与與帮幫请請说說讲講叫]"
)


def language(text: str, default: Language = "en") -> Language:
    """Tell whether a text is English or Chinese.

    Mixed text is judged by the words that make its frame, so that "我的 iPhone 15 Pro Max" is Chinese and
    "How do you say 谢谢?" is English. Only the first 4,000 characters count. A text without a letter of either
    (empty, digits, emoji) gives `default`; every other text without a Chinese character is "en".
    """
    text = text[:_LOOKED_AT].lower()
    runs = _RUN.findall(_QUOTATION.sub(" ", text)) or _RUN.findall(text)
    latin = [run for run in runs if run < "\u3000"]
    han = "".join(run for run in runs if run > "\u3000")
    if not han:
        return "en" if latin else default
    if not latin:
        return "zh"
    # a sentence opens and closes in its own language more often than a name or an example does
    ends = (runs[0], runs[-1])
    english = sum(word in _ENGLISH_FRAME for word in latin) + 2 * sum(run in _ENGLISH_FRAME for run in ends)
    chinese = len(_CHINESE_FRAME.findall(han)) + 2 * sum(bool(_CHINESE_FRAME.search(run)) for run in ends)
    if english == chinese:
        return "zh" if 2 * len(han) >= len(latin) else "en"
    return "en" if english > chinese else "zh"
