"""Takes the marks of Markdown, HTML and LaTeX out of a text, and whatever else no voice can say.

Every rule only deletes characters or replaces one by one, so that each that is left has its place in the text.
"""

import re
from collections.abc import Callable

from protocol.language import HAN

_Match = re.Match[str]

# one that is not closed goes on to the end, for the rest of it may be in the next piece
_FENCED = re.compile(
    r"^[ \t>]{0,12}(`{3,12}|~{3,12})[^`\n]*(?:\n(?:.*?\n)??[ \t>]{0,12}\1[`~]*|\n.*\Z|\Z)", re.MULTILINE | re.DOTALL
)
_SILENT = re.compile(
    "[0-9#*]\ufe0f?\u20e3"  # keycaps
    "|[\u2139\u00a9\u00ae\u2122]\ufe0f"  # signs that are pictures only where this selector says so
    # pictures, flags, skin tones, dingbats, shapes
    "|[\U0001f000-\U0001fbff\u231a-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299]"
    # joiners, directions, selectors, halves of surrogates, private use
    "|[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20e3\ufe00-\ufe0f\ufeff\ufff9-\ufffd\ud800-\uf8ff]"
    # tags and private use; controls but for white space
    "|[\U000e0000-\U0010ffff\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"
)
_CODE = re.compile(r"(?P<open>(?<![`\\])`{1,3}(?!`))(?P<text>[^`\n]+)(?P<close>(?P=open)(?!`))")
_MATH = re.compile(
    r"(?P<open>\$\$)(?P<text>[^$]{1,600})(?P<close>\$\$)"
    r"|(?P<open_2>\\[(\[])(?P<text_2>.{1,600}?)(?P<close_2>\\[)\]])"
    # a price has a digit behind the sign, and no formula has one behind its second sign
    r"|(?<![\w$])(?P<open_3>\$)(?P<text_3>(?![\s\d])[^$\n]{1,300}(?<!\s)|\d[^$\n]{0,60}[\\^_={}+][^$\n]{0,99}(?<!\s))"
    r"(?P<close_3>\$)(?![\d$])",
    re.DOTALL,
)
_COMMENT = re.compile(r"<!--.{0,2000}?(?:-->|\Z)|-->", re.DOTALL)
_TAG = re.compile(
    r"</?(?P<line>br|p|li|div|tr|h[1-6]|hr)(?:\s[^<>]{0,300})?/?>"
    r"|<(?:a|b|code|del|em|i|ins|kbd|mark|s|small|span|strong|sub|sup|u)(?:\s[^<>=]{0,50}=[^<>]{0,300})?>"
    r"|(?<!\w)<[a-z][a-z0-9-]{0,30}(?:\s[^<>=]{0,50}=[^<>]{0,300})?\s?/?>"
    r"|</[a-z][a-z0-9-]{0,30}\s?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?P<name>amp|lt|gt|quot|apos|nbsp|#39|#x27);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "nbsp": " "}
_LINK = re.compile(
    r"(?P<open>!?\[)(?P<text>[^\[\]]{0,300})"
    r"(?P<close>\]\((?:[^()\s]|\([^()\s]{0,99}\)){0,2000}(?:\s[^()\n]{0,200})?\)|\]\[[^\[\]\n]{0,99}\])"
)
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]{1,60}\]:?|【\d[^【】\n]{0,60}】|(?<=\])\([^()\s]{0,2000}\)?")
_CUT_LINK = re.compile(r"\]\((?:https?:|mailto:|[#/])[^()\s]{0,2000}\)?", re.IGNORECASE)
_ADDRESS = re.compile(
    r"(?P<open><?(?<![A-Za-z0-9])(?:(?:https?|ftp|wss?)://(?:[^\s/@<>]{1,99}@)?(?:www\.)?|mailto:(?=\S)))"
    r"(?P<text>[A-Za-z0-9.@_+-]*[A-Za-z0-9])?"
    rf"(?P<close>(?::\d{{1,5}}(?!\d))?(?:[/?#](?:[^\s<>\"“”‘’（）「」『』【】，。！？；：、*`|{HAN}]*[A-Za-z0-9_/=&#%+-])?)?>?)",
    re.IGNORECASE,
)
_ESCAPED = re.compile(r"(?P<open>\\)(?P<text>[!-/:-@\[-_{-~])(?P<close>)")
_RULE = re.compile(
    r"^[ \t]*(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,}|={3,}[ \t]*|(?=[^\n]*-)(?=[^\n]*\|)[|: \t-]+)$",
    re.MULTILINE,
)
_LINE_MARK = re.compile(
    r"^[ \t]*(?:(?:#{1,6}(?=[ \t])|>|[-*+•◦▪‣·](?=[ \t])|\[[ xX]\](?=[ \t]))[ \t]*)+|[ \t]+#{1,6}[ \t]*$|^#{1,6}$",
    re.MULTILINE,
)
_ROW_EDGE = re.compile(r"^[ \t]*\|[ \t|]*|[ \t|]*\|[ \t]*$", re.MULTILINE)
_CELL_EDGE = re.compile(r"[ \t]*(?P<comma>[|•←-⇿⟵-⟿])[ \t|]*?(?=[ \t]?[^ \t|]|\Z)")
_STRUCK = re.compile(r"~~+|(?<!\S)==(?=[^\s=])|(?<=[^\s=])==(?!\S)|\\?`+|\$\$")
_STARS = re.compile(r"\*+|_+")
# most sentences bear no mark at all
_UNMARKED = re.compile(
    rf"(?:[A-Za-z0-9À-ÖØ-öø-ÿ{HAN}\s.,!?;:'\"“”‘’，。！？；：、…()（）%]|(?<=[A-Za-z0-9])-|\$(?=\d))*"
)


def spoken_characters(text: str) -> list[str]:
    """Return, for each character of a text, the one that is said in its place, or "" for none.

    White space stays as it is. So does what only looks like a mark: `2 * 3`, `snake_case`, `$5`.
    """
    if _UNMARKED.fullmatch(text):
        return list(text)
    page = _Page(text)
    page.each(_FENCED, page.drop)
    # these may stand inside a mark, and must not hide it from its rule
    page.each(_SILENT, page.drop)
    page.each(_CODE, page.keep_code)
    page.each(_MATH, page.keep_math)
    page.each(_COMMENT, page.drop)
    page.each(_TAG, page.drop_tag)
    page.each(_LINK, page.drop_around)
    # a picture in a link has left a link
    page.each(_LINK, page.drop_around)
    page.each(_CUT_LINK, page.drop)
    page.each(_ADDRESS, page.keep_host)
    page.each(_FOOTNOTE, page.drop)
    page.each(_ENTITY, page.write_entity)
    page.each(_ESCAPED, page.keep_escaped)
    page.each(_RULE, page.drop)
    page.each(_LINE_MARK, page.drop)
    page.each(_ROW_EDGE, page.drop)
    page.each(_CELL_EDGE, page.write_comma)
    page.each(_STRUCK, page.drop)
    page.each(_STARS, page.drop_emphasis)
    # one that stood in a formula was none of a rule's, and no voice says it
    return ["" if char == "`" else char for char in page.said]


class _Page:
    """A text under its rules: each sees what those before it have left."""

    def __init__(self, text: str) -> None:
        self.said = list(text)
        self._seen = list(text)  # what is left, with letters for what no rule may touch any more
        self._places = list(range(len(text)))  # where that stands in the text

    def each(self, pattern: re.Pattern[str], rule: Callable[[_Match], None]) -> None:
        found = False
        for match in pattern.finditer("".join(self._seen)):
            found = True
            rule(match)
        if found:
            left = [at for at, char in enumerate(self._seen) if char]
            self._seen = [self._seen[at] for at in left]
            self._places = [self._places[at] for at in left]

    def _write(self, at: int, char: str) -> None:
        self._seen[at] = self.said[self._places[at]] = char

    def _delete(self, start: int, end: int) -> None:
        for at in range(start, end):
            self._write(at, "")

    def _protect(self, start: int, end: int) -> None:
        self._seen[start:end] = "x" * (end - start)

    def drop(self, match: _Match) -> None:
        self._delete(*match.span())

    def drop_around(self, match: _Match) -> None:
        self._delete(*match.span("open"))
        self._delete(*match.span("close"))

    def keep_code(self, match: _Match) -> None:
        self.drop_around(match)
        if not _ADDRESS.fullmatch(match["text"]):
            self._protect(*match.span("text"))

    def keep_escaped(self, match: _Match) -> None:
        self.drop_around(match)
        self._protect(*match.span("text"))

    def keep_host(self, match: _Match) -> None:
        self.drop_around(match)
        if match["text"]:
            self._protect(*match.span("text"))

    def keep_math(self, match: _Match) -> None:
        self._delete(*match.span())
        for at in range(*match.span((match.lastgroup or "close").replace("close", "text"))):
            char = match.string[at]
            self._write(at, " " if char in "\\{}" else char)
            self._seen[at] = "x"

    def drop_tag(self, match: _Match) -> None:
        self.drop(match)
        if match["line"]:
            self._write(match.start(), "\n")

    def write_entity(self, match: _Match) -> None:
        self.drop(match)
        self._write(match.start(), _ENTITIES.get(match["name"], "'"))

    def write_comma(self, match: _Match) -> None:
        self.drop(match)
        before = match.string[: match.start()].rstrip(" \t")[-1:]
        if before.isalnum() or before in set(")）]”\"’'%°*_"):
            is_han = "\u3400" <= before <= "\u9fff"
            self._write(match.start("comma"), "，" if is_han else ",")

    def drop_emphasis(self, match: _Match) -> None:
        """Drop stars and lines under words, but for those that multiply, or join two words."""
        run, text = match[0], match.string
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        if run[0] == "_":
            is_sign = _is_latin(before) and _is_latin(after)
        elif before.isspace() and after.isspace():
            is_sign = len(run) <= 2 and _joins(text[: match.start()].rstrip()[-1:], text[match.end() :].lstrip()[:1])
        elif len(run) == 1:
            is_sign = _is_latin(before) and _is_latin(after)
        else:
            is_sign = len(run) == 2 and before.isdigit() and after.isdigit()
        if not is_sign:
            self.drop(match)


def _is_latin(char: str) -> bool:
    return char.isalnum() and char < "\u2e80"


def _joins(before: str, after: str) -> bool:
    return (before.isalnum() or before == ")") and (after.isalnum() or after == "(")
