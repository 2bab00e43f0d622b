"""Tells the full stop that ends a sentence from that of an abbreviation, a number, a list or a name."""

import re

from protocol.language import HAN

# behind these a sentence always goes on
_GOES_ON_WORDS = """
    adm approx bros ca capt cf cmdr col dr e.g eg eq esp fig figs gen gov hon i.e ie incl lt maj messrs mlle mme mr mrs
    ms mt mx nos pg pp pres prof rep resp rev sen sgt viz vol vs www
"""
_GOES_ON = frozenset(_GOES_ON_WORDS.split())
# behind these it may go on or be over
_MAY_GO_ON_WORDS = """
    al apr assn assoc aug ave avg blvd co corp dec dept est etc exp ext feb fri ft hr hrs inc jan jr jul jun lb lbs ltd
    mar min mins mon nov oct oz rd sat sep sept sq sr st sun tbsp tel thu thur thurs tsp tue tues univ wed
"""
_MAY_GO_ON = frozenset(_MAY_GO_ON_WORDS.split())
# those of both that are words where they are written small
_CAPITALISED_WORDS = "col dec fig figs gen hon jan mar mon rep sat sen sun wed"
_CAPITALISED = frozenset(_CAPITALISED_WORDS.split())
_INITIALS = re.compile(r"(?:[a-z]\.)*[a-z]|ph\.?d")
_TIME_OR_MORE = frozenset(["a.m", "p.m", "am", "pm", "etc"])
# what follows a clock time and belongs to it
_OF_A_TIME = re.compile(r"[A-Z]{2,}|\w+day|Eastern|Pacific|Central|Mountain|Beijing")
# the words that open a sentence so often that an abbreviation before them has ended one
_OPENING_WORDS = """
    a after all also an and are as at because before both but can could did do does each finally first for from great
    he her here his how however i if in is it its just let make many most my next no not now of okay on one or our
    please she should so some sure thank thanks that the their then there these they this those to today try use was we
    what when where while who why will with would yes you your
"""
_OPENING = frozenset(_OPENING_WORDS.split())
_NEXT_WORD = re.compile(r"\s{1,20}[\"“‘'(*_]{0,3}([A-Za-z]{0,20})")

# a word of two letters or more, whatever marks stand around it; not one that a name or a function's call is made of
_PLAIN = re.compile(r"[(\[\"“‘'*_]*(?:[\w'’]+[-—–])*(?:[a-z]|[A-Z](?=[a-z]{2}))[a-z]+(?:['’][a-z]{1,2})?[\"”’')\]*_]*")
# "1" and "a" open a list's item; within a line only the first one does, behind a colon
_ITEM = re.compile(r"[\s>*#+•-]*(?:\d{1,3}|[A-Za-z])|[^:：]*[:：]\s*(?:1|[Aa])")
_BEFORE_WORD = re.compile(rf"\s|[{HAN}，。！？；：、]")
_HAN = re.compile(f"[{HAN}]")
# longer than any word: how much before the stop needs be looked at
_LOOKED_BACK = 48


def full_stop_ends(sentence: str, after: str) -> bool | None:
    """Tell whether a full stop behind `sentence` (as far as it has come) ends it; None if more must come first.

    `after` is what has come behind the stop and the quotation marks and brackets that close with it. Where nothing has,
    a plain word is enough: tokenizers keep ".js", ".com" and ".14" in one, so a lone stop behind a word is an end.
    """
    token = _BEFORE_WORD.split(sentence[-_LOOKED_BACK:])[-1]
    written = token.lstrip("(\"“‘'*_[")
    word = written.lower()
    is_item = token[-1:].isalnum() and bool(_ITEM.fullmatch(sentence))
    is_short = (word in _GOES_ON or word in _MAY_GO_ON) and not (word == written and word in _CAPITALISED)
    is_short = is_short or word == "no" or bool(_INITIALS.fullmatch(word))
    if not after:
        return True if not is_item and not is_short and _PLAIN.fullmatch(token) else None
    if is_item:
        return False
    if not after[0].isspace():
        return bool(_HAN.match(after)) and not is_short
    return _ends_shortened(word, after) if is_short else True


def _ends_shortened(word: str, after: str) -> bool | None:
    if word in _GOES_ON:
        return False
    following = _NEXT_WORD.match(after)
    if following is None or following.end() == len(after) < _LOOKED_BACK:
        # what has come of the next word may be enough
        return False if following and following[1][:1].islower() and word != "no" else None
    next_word = following[1]
    if word == "no":
        return not after[following.end()].isdigit() or bool(next_word)
    if word in _TIME_OR_MORE and next_word[:1].isupper():
        return not _OF_A_TIME.fullmatch(next_word)
    return next_word[:1].isupper() and next_word.lower() in _OPENING
