"""The built-in demo model: what answers where neither a key nor an upstream is set."""

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from protocol.chunks import CHUNK, COMPLETION, Batch, Completion, event, read_completion
from protocol.request import text_of
from upstream.call import Call
from upstream.demo.extract import reply, words

NAME = "demo"
Reference = Callable[[str], tuple[Sequence[tuple[str, str]], str] | None]
"""What finds reference material in a message: it returns titles and texts, and the message without them."""
_FIRST_WORD_S = 0.02
_WORD_S = 0.02


class DemoModel:
    """Answer from the conversation alone, always the same way, word by word like a real model."""

    is_demo = True
    state = "demo"

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def ask(self, body: dict[str, Any], call: Call) -> Generator[Batch | Completion, None, None]:
        """Yield an answer as an upstream would: batches of events, or one whole completion."""
        text = reply(*self._read(body["messages"]))
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": NAME}
        if not call.stream:
            message = {"role": "assistant", "content": text}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            yield read_completion(msgspec.json.encode({**head, "object": COMPLETION, "choices": choices}))
            return

        def says(delta: dict[str, str], finish_reason: str | None = None) -> Batch:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            return Batch([event({**head, "object": CHUNK, "choices": [choice]})])

        call.waits.pause(time.monotonic() + _FIRST_WORD_S)
        yield says({"role": "assistant", "content": ""})
        for word in words(text):
            yield says({"content": word})
            call.waits.pause(time.monotonic() + _WORD_S)
        yield says({}, "stop")

    def _read(self, messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[str, str]] | None]:
        """Tell the conversation from the reference material that it was given with."""
        for place, message in enumerate(messages):
            if found := self._reference(text_of(message)):
                excerpts, rest = found
                told = [{**message, "content": rest}] if rest.strip() else []
                return [*messages[:place], *told, *messages[place + 1 :]], [(e[0], e[1]) for e in excerpts]
        return messages, None

    def models(self, call: Call) -> bytes:
        """Return the list of models: this one."""
        model = {"id": NAME, "object": "model", "created": 0, "owned_by": "custom-llm-server"}
        return msgspec.json.encode({"object": "list", "data": [model]})
