"""Waiting phrases: which to say, and how to keep the LLM from learning them."""

from collections.abc import Mapping, Sequence
from typing import Any

from protocol.language import Language
from protocol.request import text_of

_MARKS = (".", "!", "?", "…", "。", "！", "？", ":", "：")


class Phrases:
    """The waiting phrases of a server, by language."""

    def __init__(self, phrases: Mapping[Language, Sequence[str]]) -> None:
        self._phrases = {spoken: [_ended(phrase, spoken) for phrase in said] for spoken, said in phrases.items()}
        everything = [phrase.strip() for said in self._phrases.values() for phrase in said]
        # the longest first: one may be the beginning of another
        self._known = sorted(everything, key=len, reverse=True)

    def choose(self, messages: Sequence[Mapping[str, Any]], spoken: Language) -> str:
        """Return a phrase that did not open the last answer, with a sentence mark and a space at its end.

        Which one depends on the conversation alone, so that nothing need be remembered of it.
        """
        phrases = self._phrases[spoken]
        last = next((text_of(dict(m)) for m in reversed(messages) if m.get("role") == "assistant"), "")
        place = len(messages) % len(phrases)
        turned = phrases[place:] + phrases[:place]
        return next((phrase for phrase in turned if not last.lstrip().startswith(phrase.strip())), turned[0])

    def taken_off(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the messages without the phrases that open earlier answers, which an LLM would imitate."""
        return [self._without(message) if message.get("role") == "assistant" else message for message in messages]

    def _without(self, message: dict[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        if isinstance(content, str):
            return {**message, "content": self._rest(content)}
        if isinstance(content, list) and content and isinstance(content[0].get("text"), str):
            return {**message, "content": [{**content[0], "text": self._rest(content[0]["text"])}, *content[1:]]}
        return message

    def _rest(self, text: str) -> str:
        start = text.lstrip()
        phrase = next((phrase for phrase in self._known if start.startswith(phrase)), None)
        rest = start[len(phrase) :].lstrip() if phrase else ""
        # a caller may have spoken before more was said: an empty message would be refused
        return rest or text


def _ended(phrase: str, spoken: Language) -> str:
    phrase = phrase.strip()
    return f"{phrase} " if phrase.endswith(_MARKS) else f"{phrase}{'。' if spoken == 'zh' else '.'} "
