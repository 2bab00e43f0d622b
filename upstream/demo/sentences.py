"""Cuts documents and questions into sentences and terms, in English and Chinese."""

import re
from collections.abc import Iterator

from protocol.language import HAN

_HEADING = re.compile(r"#{1,6} ")
_OWN_LINE = re.compile(r"[-*+] |\d+[.)] |[|>]|```")
_MARKUP = re.compile(
    r"^(?:[-|:\s]+$|```.*|[-*+]\s+|\d+[.)]\s+|>)"  # a rule or a table's, a fence, list items, a quotation
    r"|!?\[([^\]]{0,300})\]\([^)]{0,500}\)"  # a link keeps its text
    r"|\*\*|`+"
)
_SPACE_BESIDE_HAN = re.compile(rf"(?<=[{HAN}，。！？；：、）」”]) (?=[{HAN}，。！？；：、（「“])")

_END = re.compile(rf"[.!?…]{{1,9}}[\"'”’)\]]{{0,9}}(?= [^a-z]|$)|[。！？…]+[\"'”’）」』]*|[!?](?=[{HAN}])")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Z]|e\.g|i\.e|vs|cf|[Aa]pprox|[DM]r|Mrs|Ms|St|Prof|Gen|Inc|Ltd)\.$")
_LONGEST_ABBREVIATION = len(" approx.")
_CLAUSE = re.compile(r"(?<=[,;:]) |(?<=[，；：])")

_WORD = re.compile(rf"([A-Za-zÀ-ÖØ-öø-ÿ]+)(?:['’][A-Za-z]+)?|(\d+(?:[.,:]\d+)*)|([{HAN}]+)")
_ASKING_OR_CONNECTING = """
    a about actually also am an and any anything are aren as ask at be been being but by can could couldn did didn do
    does doesn doing don done each else for from get give got had happen happens has hasn have haven he her here his
    how i if in into is isn it its just know let like many may me might mine more most much my need no not of ok okay
    on one only or other our out own please recall remember same say she should so some something such talk tell than
    that the their them then there these they thing this those to too us use used using very want was wasn way we were
    what when where whether which who whom whose why will with won work works would yes you your
"""
_STOP_WORDS = frozenset(_ASKING_OR_CONNECTING.split())
_STOP_PHRASES = re.compile(
    "什么时候|什麼時候|什么意思|什么样|什么|什麼|怎么[样办]|怎么|怎麼|怎样|如何|多少|为什么|為什麼|是不是|有没有|能不能|可不可以"
    "|哪[里裡些个位种一]|几[点号岁个天月]|[这那每]个|[这那]些|是否|请问|請問|告诉|可以|能用|还?记得|一[下个种]"
    "|[哪谁誰几你您他她它们请吗嗎呢吧啊呀的了是在有和与或及被把对将为由这那]"
)
# what people say for "my name is", so that "what is my name" finds it
_NAMED = re.compile(r"\b(?:[Ii]['’]m|[Ii] am|[Cc]all me)(?= [A-Z])|我叫什么(?:名字)?|我是谁|我叫|叫我")


def sentences(text: str, limit: int) -> list[str]:
    """Cut a text or Markdown into plain sentences of at most `limit` characters, in order.

    Marks of Markdown and headings are taken out; a list item or table row is a sentence of its own; lines that were
    only wrapped are joined. A longer sentence is cut at its commas, or between words where it has none.
    """
    return [piece for block in _blocks(text) for whole in _split(block) for piece in _shorten(whole, limit)]


def terms(text: str) -> list[str]:
    """Cut a text into the terms that carry its meaning: English stems, numbers, pairs of Chinese characters.

    Words that ask or only connect are left out, so that a question and its answer have the same terms.
    """
    text = _NAMED.sub(lambda said: "我名字" if said[0] > "\u3000" else "name", text)
    found: list[str] = []
    for word, number, han in _WORD.findall(text):
        if word:
            word = word.lower()
            if word not in _STOP_WORDS:
                found.append(_stem(word))
        elif number:
            found.append(number)
        else:
            for run in _STOP_PHRASES.split(han):
                found += [run] if len(run) == 1 else [run[at : at + 2] for at in range(len(run) - 1)]
    return found


def _blocks(text: str) -> Iterator[str]:
    """Yield paragraphs, list items and table rows, each as one line with single spaces."""
    block = ""
    for line in map(str.strip, [*text.splitlines(), ""]):
        plain = "" if _HEADING.match(line) else _plain(line)
        if block and (not plain or _OWN_LINE.match(line)):
            yield _SPACE_BESIDE_HAN.sub("", block)
            block = ""
        block = f"{block} {plain}".strip()


def _plain(line: str) -> str:
    line = _MARKUP.sub(lambda mark: mark[1] or "", line)
    return " ".join(line.replace("|", " ").split())


def _split(block: str) -> Iterator[str]:
    start = 0
    for mark in _END.finditer(block):
        end = mark.end()
        if not _ABBREVIATION.search(block[max(start, end - _LONGEST_ABBREVIATION) : end]):
            yield block[start:end].strip()
            start = end
    if rest := block[start:].strip():
        yield rest


def _shorten(sentence: str, limit: int) -> Iterator[str]:
    if len(sentence) <= limit:
        yield sentence
        return
    piece = ""
    for clause in _CLAUSE.split(sentence):
        longer = f"{piece} {clause}" if piece and piece[-1].isascii() else piece + clause
        if piece and len(longer) > limit:
            yield piece
            longer = clause
        while len(longer) > limit:
            cut = longer.rfind(" ", 1, limit + 1)
            cut = cut if cut > 0 else limit
            yield longer[:cut]
            longer = longer[cut:].lstrip()
        piece = longer
    if piece:
        yield piece


def _stem(word: str) -> str:
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") else word[:-1]
    for suffix in ("ing", "ed", "ly"):
        if word.endswith(suffix) and len(word) > len(suffix) + 1:
            word = word[: -len(suffix)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 2 else word
