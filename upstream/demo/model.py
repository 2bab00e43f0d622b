"""The built-in demo model: what answers where neither a key nor an upstream is set."""

import secrets
import time
from collections.abc import Generator
from typing import Any

import msgspec

from protocol.chunks import CHUNK, COMPLETION, Batch, Completion, event, read_completion
from upstream.call import Call
from upstream.demo.extract import reply, words

NAME = "demo"
_FIRST_WORD_S = 0.02
_WORD_S = 0.02


class DemoModel:
    """Answer from the conversation alone, always the same way, word by word like a real model."""

    is_demo = True
    state = "demo"

    def ask(self, body: dict[str, Any], call: Call) -> Generator[Batch | Completion, None, None]:
        """Yield an answer as an upstream would: batches of events, or one whole completion."""
        text = reply(body["messages"])
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

    def models(self, call: Call) -> bytes:
        """Return the list of models: this one."""
        model = {"id": NAME, "object": "model", "created": 0, "owned_by": "custom-llm-server"}
        return msgspec.json.encode({"object": "list", "data": [model]})
