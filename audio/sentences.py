"""Cuts an answer into sentences while it comes, in English and Chinese."""

import re

from audio.full_stop import full_stop_ends
from protocol.language import HAN

# past this weight a sentence is cut where a clause ends, so that speech goes on
_LONG = 160
# past this many characters it is cut between words, whatever it weighs
_LONGEST = 240

_MARK = re.compile(
    r"(?P<fence>(?<=\n)[ \t>]{0,12}(?:`{3,12}|~{3,12}))"
    r"|(?P<line>\n)"
    r"|(?P<end>[。！？!?；｡…‼⁇⁈⁉]+)"
    r"|(?P<dots>\.{2,})"
    r"|(?P<stop>\.)"
    r"|(?P<clause>[,;:，：—–]+|(?<=\s)-)"
)
_FENCE_LINE = re.compile(r"[ \t>]*(?P<mark>`{3,12}|~{3,12})[^`\n]*(?P<newline>\n)?")
_MAYBE_FENCE = re.compile(r"(?<=\n)[ \t>]{0,12}(?:`{0,2}|~{0,2})\Z")
# the most of a block's end that must be kept to see the line that closes it
_CLOSING_LINE = 32

_HAN = re.compile(f"[{HAN}]")
_LETTER = re.compile(r"[^\W_]")
_PLAIN_BEFORE = re.compile(r"[a-z]{2}\Z")
_SPACE = re.compile(r"\s*")
_CLOSING = frozenset("”’)]）」』】》〉")
_OPENING_OR_CLOSING = frozenset("\"'*_`")
_STOPS = frozenset(".。")
_URL = re.compile(r"://|www\.|@|[!?]")
_OWN_LINE = re.compile(r"\s*(?:#{1,6} |[-*+•] |\d{1,3}[.)] |[|>])")
_CLAUSE_BREAK = re.compile(r"[,;:—–](?=\s)|[，、：—](?!—)")
_WORD_BREAK = re.compile(rf"(?<=\S)(?=\s)|(?<=[{HAN}])(?=\w)|(?<=[{HAN}])(?<=\w)(?=[A-Za-z0-9])")

# what a look at a mark can say instead of the place where the sentence ends
_GOES_ON = 0
_WAIT = -1


class SentenceCutter:
    """Cut one answer into sentences as it comes; joined, the pieces are exactly the text.

    A sentence goes out with the mark that ends it, as early as is safe; white space between two opens the second.
    So does a closing quotation mark that comes when its sentence has gone: no voice speaks it, and the transcript is
    whole. A line that is a heading, an item or a paragraph is a sentence; a fenced block of code is a piece of its own.

    `early_after` is the weight after which the answer's first piece may go where a clause ends: a letter or digit
    weighs 1, a Chinese character 3, all else nothing; 0 waits for the whole sentence. However an answer is cut, and
    however long it is, this takes time in proportion to its length.
    """

    def __init__(self, early_after: int = 0) -> None:
        self._clause_after = min(early_after, _LONG) if early_after > 0 else _LONG
        # what has come and not gone, behind one character of what has, so that a line's start is seen
        self._held = "\n"
        self._start = 1
        self._looked = 1  # the marks before this place end nothing
        self._weight = 0
        self._weighed = 1
        self._close: re.Pattern[str] | None = None  # what closes the block of code that is open
        self._code: list[str] = []

    def feed(self, text: str) -> list[str]:
        """Take the next piece of the answer and return the sentences that it completes."""
        self._held += text
        pieces = []
        while (piece := self._block(self._close) if self._close else self._sentence()) is not None:
            if piece:
                pieces.append(piece)
        gone = self._start - 1
        self._held = self._held[gone:]
        self._start = 1
        self._looked -= gone
        self._weighed -= gone
        return pieces

    def end(self) -> list[str]:
        """Return what is left when the answer has ended."""
        rest = "".join(self._code) + self._held[self._start :]
        self._code = []
        self._take(len(self._held))
        return [rest] if rest else []

    def _sentence(self) -> str | None:
        """Return the next piece, "" where a block of code opens, None if more must come first."""
        limit = self._start + _LONGEST
        is_waiting = False
        for mark in _MARK.finditer(self._held, self._looked, limit):
            end = self._end_at(mark)
            if self._close:
                return ""
            if end > 0:
                return self._cut(end)
            self._looked = mark.start() if end == _WAIT else mark.end()
            if is_waiting := end == _WAIT:
                break
        if len(self._held) > limit:
            return self._cut(self._break_before(limit))
        if not is_waiting:
            maybe = _MAYBE_FENCE.search(self._held, self._looked)
            self._looked = maybe.start() if maybe else len(self._held)
        return None

    def _block(self, close: re.Pattern[str]) -> str | None:
        """Return the block of code if it is closed by now."""
        if line := close.search(self._held, self._start):
            self._close = None
            code, self._code = "".join(self._code), []
            return code + self._take(line.end())
        if len(self._held) - self._start > 2 * _CLOSING_LINE:
            self._code.append(self._take(len(self._held) - _CLOSING_LINE))
        return None

    def _cut(self, end: int) -> str:
        piece = self._take(end)
        if _LETTER.search(piece):
            self._clause_after = _LONG
        return piece

    def _take(self, end: int) -> str:
        piece = self._held[self._start : end]
        self._start = self._looked = self._weighed = end
        self._weight = 0
        return piece

    def _end_at(self, mark: re.Match[str]) -> int:
        """Return where the sentence ends, _GOES_ON if not with this mark, _WAIT if that cannot be told yet."""
        kind = mark.lastgroup
        if kind == "fence":
            return self._end_before_block(mark)
        if not _LETTER.search(self._held, self._start, mark.start()):
            return _GOES_ON
        if kind == "line":
            return self._end_of_line(mark.start())
        if kind == "end":
            return self._end_of_call(mark)
        if kind == "dots":
            return self._end_of_ellipsis(mark.end())
        if kind == "stop":
            end = self._with_closers(mark.end())
            is_over = full_stop_ends(self._held[self._start : mark.start()], self._held[end : end + _LONGEST])
            return _WAIT if is_over is None else end if is_over else _GOES_ON
        return self._end_of_clause(mark)

    def _end_before_block(self, mark: re.Match[str]) -> int:
        line = _FENCE_LINE.match(self._held, mark.start(), mark.start() + _LONGEST)
        if line is None or line.end() < len(self._held) and not line["newline"]:
            return _GOES_ON  # a line of text with code in it
        if not line["newline"]:
            return _WAIT
        if _LETTER.search(self._held, self._start, mark.start()):
            return self._without_space(mark.start())
        # nothing of the line that closes it counts but how it begins
        self._close = re.compile(rf"\n[ \t>]{{0,12}}{line['mark']}")
        self._code = [self._take(line.start("newline"))]
        return _GOES_ON

    def _end_of_line(self, at: int) -> int:
        line = self._held[self._start : at].rstrip()
        if line[-1] not in ".!?:。！？：；…|" and not _OWN_LINE.match(line):
            if at + 1 == len(self._held):
                return _WAIT
            if self._held[at + 1].islower():
                return _GOES_ON  # the line was only wrapped
        return self._without_space(at)

    def _end_of_call(self, mark: re.Match[str]) -> int:
        """Decide on a mark that ends a sentence at once, if it is not part of a word."""
        held, at, end = self._held, mark.start(), mark.end()
        if not mark[0].strip("…"):
            if not _HAN.match(held, at - 1):
                return self._end_of_ellipsis(end)
            if len(mark[0]) == 1 and end == len(held):
                return _WAIT
        elif mark[0][0] in "!?" and (held[at - 1].isspace() or self._is_in_url(at)):
            # "![a picture]", "a != b", "/list?page=2"
            if end == len(held):
                return _WAIT
            if not held[end].isspace():
                return _GOES_ON
        end = self._with_closers(end)
        if end < len(held) and held[end] in ",;:，、":
            return _GOES_ON
        # "(Really!)."
        return self._with_closers(end + 1) if end > mark.end() and held[end : end + 1] in _STOPS else end

    def _end_of_ellipsis(self, end: int) -> int:
        """Decide on dots, which end a sentence unless it goes on with a small letter."""
        end = self._with_closers(end)
        space = _SPACE.match(self._held, end, end + _LONGEST)
        following = space.end() if space else end
        if following == len(self._held):
            return _WAIT
        if _HAN.match(self._held, following):
            return end
        return end if following > end and not self._held[following].islower() else _GOES_ON

    def _end_of_clause(self, mark: re.Match[str]) -> int:
        held, end = self._held, mark.end()
        if self._weigh(mark.start()) < self._clause_after:
            return _GOES_ON
        if mark[0][-1] in "，：":
            return self._with_closers(end)
        if end == len(held):
            is_plain = mark[0] in ",;" and _PLAIN_BEFORE.search(held, end - 3, end - 1)
            return end if is_plain else _WAIT
        return end if held[end].isspace() or mark[0][-1] == "—" or _HAN.match(held, end) else _GOES_ON

    def _break_before(self, limit: int) -> int:
        """Return where a sentence that has become too long is cut."""
        held, start = self._held, self._start
        for pattern, least in ((_CLAUSE_BREAK, _LONGEST // 4), (_WORD_BREAK, 1)):
            ends = [place.end() for place in pattern.finditer(held, start + least, limit)]
            if ends and _LETTER.search(held, start, ends[-1]):
                return ends[-1]
        return limit

    def _weigh(self, end: int) -> int:
        more = self._held[self._weighed : end]
        self._weight += len(_LETTER.findall(more)) + 2 * len(_HAN.findall(more))
        self._weighed = max(end, self._weighed)
        return self._weight

    def _is_in_url(self, at: int) -> bool:
        word = self._held[max(self._start, at - _LONGEST) : at].split()[-1:]
        return bool(word and _URL.search(word[0]) and word[0].isascii())

    def _with_closers(self, end: int) -> int:
        """Return the place behind the quotation marks, brackets and emphasis that close at this one."""
        held = self._held
        is_ascii = held[end - 1].isascii()
        while end < len(held):
            char = held[end]
            if char in _OPENING_OR_CLOSING:
                run = end + 1
                while run < min(len(held), end + 3) and held[run] == char:
                    run += 1
                is_open = held.count(held[end:run], self._start, end) % 2 == 1
                if not is_open and not (is_ascii and (run == len(held) or held[run].isspace())):
                    break
                end = run
            elif char in _CLOSING:
                end += 1
            else:
                break
        return end

    def _without_space(self, end: int) -> int:
        """Leave the white space before a place to the next piece."""
        while self._held[end - 1].isspace():
            end -= 1
        return end
