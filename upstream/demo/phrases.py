"""What the demo model says of its own, in each language, and how it recognises small talk."""

import re
from collections.abc import Mapping, Sequence

from protocol.language import HAN, Language

Phrase = Mapping[Language, str]

NOTICE: Phrase = {
    "en": "I am the built-in demo model. For a real LLM, set LLM_API_KEY or LLM_BASE_URL.",
    "zh": "我是内置的演示模型。想用真正的大模型，请设置 LLM_API_KEY 或 LLM_BASE_URL。",
}
ONLY_QUOTES: Phrase = {"en": "Until then, I can only quote what I was given.", "zh": "在那之前，我只能引用已有的内容。"}
PICTURE: Phrase = {"en": "I got your picture, but I can't look at it.", "zh": "图片收到了，不过我看不了图。"}
RECORDING: Phrase = {"en": "I got your recording, but I can't listen to it.", "zh": "录音收到了，不过我听不了。"}
NOT_IN_DOCUMENTS: Phrase = {"en": "The documents don't say that.", "zh": "文档里没有提到这一点。"}
OTHER_LANGUAGE: Phrase = {"en": "The documents say it in Chinese:", "zh": "文档里只有英文："}
CANNOT_ANSWER: Phrase = {"en": "I can't answer that myself.", "zh": "这个我自己答不上来。"}
HEARD: Phrase = {"en": "I heard: “{}”", "zh": "我听到的是：“{}”"}
SAID: Mapping[str, Phrase] = {
    "user": {"en": "You said: “{}”", "zh": "你说过：“{}”"},
    "assistant": {"en": "I said: “{}”", "zh": "我说过：“{}”"},
    "system": {"en": "I was told: “{}”", "zh": "我得到的说明是：“{}”"},
}

SMALL_TALK: Sequence[tuple[re.Pattern[str], Phrase]] = (
    (
        re.compile(
            r"\W*(?:hello|hi|hey|greetings|good (?:morning|afternoon|evening)|how are you)\b"
            rf"|\W*(?:[你您]好|哈喽|哈啰|嗨|喂(?![{HAN}])|早上好|早安|下午好|晚上好)",
            re.IGNORECASE,
        ),
        {"en": "Hello!", "zh": "你好！"},
    ),
    (
        re.compile(r"\W*(?:many )?thank(?:s| you)\b|\W*(?:多谢|谢谢|感谢)", re.IGNORECASE),
        {"en": "You're welcome!", "zh": "不客气！"},
    ),
    (
        re.compile(r"\W*(?:good ?|bye[ -]?)?bye\b|\W*(?:再见|拜拜)", re.IGNORECASE),
        {"en": "Goodbye!", "zh": "再见！"},
    ),
)
"""How small talk begins, and the answer to it."""

WHO_ARE_YOU = re.compile(
    r"\b(?:who|what)(?:'re| are| can) you\b|\bwhat(?:'s| is) your name\b|\bare you (?:an? |real|human|there)"
    r"|[你您](?:是谁|是什么|是真|是人|是机器|叫什么|能做什么|会做什么|能干什么)|[你您]的名字",
    re.IGNORECASE,
)

_AUXILIARY = "am|are|can|could|did|do|does|has|have|is|may|should|was|were|will|would"
QUESTION = re.compile(
    "[?？]|什么|谁|哪|几|多少|怎么|怎样|如何|为何|吗|呢|是不是|有没有|告诉我|^[请帮讲查]"
    rf"|^\W*(?:(?:and|but|so|please|you|{_AUXILIARY}) )*"
    r"(?:who|whom|whose|what|when|where|which|why|how|tell|give|explain|remind)\b"
    rf"|^\W*(?:{_AUXILIARY})\b",
    re.IGNORECASE,
)
"""How a turn is told for a question or a request; a speech recogniser may leave its question mark out."""
