"""Reasoning that models write into their answer, which a voice would read aloud."""

import re
from collections.abc import Generator, Iterable

import msgspec

from protocol.chunks import Batch, Completion, Event, event, read_body, read_completion

_OPEN = "<think>"
_CLOSE = "</think>"
_BLOCK = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)


def hide_thinking(answer: Iterable[Batch | Completion]) -> Generator[Batch | Completion, None, None]:
    """Make a `<think>` block that opens an answer its `reasoning_content`, wherever the stream was cut."""
    pieces = iter(answer)
    block = _Block()
    for piece in pieces:
        if isinstance(piece, Completion):
            yield _hidden(piece)
        elif not piece:
            yield piece
        elif batch := Batch(out for each in piece for out in block.take(each)):
            yield batch
        if block.is_over:
            break
    if held := block.end():
        yield Batch(held)
    yield from pieces


class _Block:
    """The state of the block: may it come, has it begun, is it over."""

    def __init__(self) -> None:
        self.is_over = False
        self._is_open = False
        self._is_closed = False
        self._held: list[Event] = []  # events that may be the block's beginning
        self._text = ""  # the text that is not decided on yet

    def take(self, each: Event) -> list[Event]:
        """Return what can be passed on, now that this event has come."""
        if self.is_over:
            return [each]
        if self._is_closed:
            return self._after(each, each.text)
        self._text += each.text
        if self._is_open:
            return self._inside(each)
        start = self._text.lstrip()
        if start.startswith(_OPEN):
            self._is_open = True
            self._text = start[len(_OPEN) :]
            # of what was held, the tag's own text is gone, and all else goes on
            return [held for held in self.end() if not held.text] + self._inside(each)
        if not start and not self._held and not _finish_of(each):
            # a role, or reasoning of its own: it cannot be part of the block
            return [each]
        if _OPEN.startswith(start) and not _finish_of(each):
            self._held.append(each)
            return []
        self.is_over = True
        return [*self.end(), each]

    def _inside(self, each: Event) -> list[Event]:
        if not each.text and not _finish_of(each):
            return [each]
        thought, close, said = self._text.partition(_CLOSE)
        kept = 0 if close or _finish_of(each) else _overlap(thought, _CLOSE)
        self._text = thought[len(thought) - kept :]
        thought = thought[: len(thought) - kept]
        self._is_closed = bool(close)
        return self._after(each, said, thought) if close else _recut(each, thought, "")

    def _after(self, each: Event, said: str, thought: str = "") -> list[Event]:
        """Leave out the white space between the block and the answer."""
        said = said.lstrip()
        self.is_over = bool(said or _finish_of(each))
        return [each] if said == each.text else _recut(each, thought, said)

    def end(self) -> list[Event]:
        """Return what is still held when the stream has ended, or the block is over."""
        held, self._held = self._held, []
        return held


def _finish_of(each: Event) -> str:
    return each.chunk.choices[0].finish_reason or "" if each.chunk.choices else ""


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of the text may be the beginning of the tag."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)


def _recut(each: Event, thought: str, said: str) -> list[Event]:
    """Return the events that say this in place of an event's content; all else of it goes out with the last."""
    _, body = read_body(each.data)
    choice = body["choices"][0]
    others = {key: value for key, value in (choice.get("delta") or {}).items() if key != "content"}
    texts = {"reasoning_content": thought, "content": said}
    deltas = [{key: text} for key, text in texts.items() if text]
    if not deltas and not others and not _finish_of(each):
        return []
    *first, last = deltas or [{}]
    head = {key: body[key] for key in ("id", "object", "created", "model") if key in body}
    events = [event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in first]
    return [*events, event({**body, "choices": [{**choice, "delta": {**others, **last}}, *body["choices"][1:]]})]


def _hidden(completion: Completion) -> Completion:
    found = False
    for choice in completion.body["choices"]:
        message = choice.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and (block := _BLOCK.match(content)):
            message["reasoning_content"] = (message.get("reasoning_content") or "") + block[1]
            message["content"] = content[block.end() :]
            found = True
    return read_completion(msgspec.json.encode(completion.body)) if found else completion
