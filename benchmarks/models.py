"""What the mock upstream's models say: bytes for a name, without I/O."""

import json
import re
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

_ECHO = re.compile(r"echo-(\d{1,5})ms")
_TOKEN = re.compile(r"\s*(?:[\u4e00-\u9fff]{1,2}[^\w\s]*|[^\s\u4e00-\u9fff]+)|\s+")
_NAME = re.compile(
    r"bench-(\d{1,6})x(\d{1,5})ms((?:-(?:(?:ttft|stall|cut|garbage|error|status)\d{1,6}|close|crlf|usage|words))*)"
)
WORDS = (" So", " this", " is", " a", " line", " of", " words", " to", " hear.")
"""What `-words` says, over and over, in the place of marks."""
_IDENTITY = {
    "id": "chatcmpl-bench00000000000000000001",
    "object": "chat.completion.chunk",
    "created": 1790000000,
    "model": "",
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}
_ERROR = b'{"error":{"message":"overloaded","type":"server_error","param":null,"code":"overloaded"}}'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"


@dataclass(frozen=True)
class Model:
    """One model: how many chunks it streams, how fast, and its bytes, prepared.

    Each item of a tuple is to be a write of its own.
    """

    name: str
    chunks: int
    interval_ns: int
    delay_ns: int
    stall: int | None
    status: int | None
    breaks_at: int | None  # the chunk in whose place `breaking` comes, and the end of the connection
    breaking: bytes
    words: bool
    framed: bool
    opening: tuple[bytes, ...]
    before: bytes
    after: bytes
    ending: tuple[bytes, ...]
    ending_with_usage: tuple[bytes, ...]
    text: str = ""  # of an echo
    said: tuple[bytes, ...] = ()  # its chunks
    sentence_end: int | None = None  # the chunk with which its first sentence is complete

    def chunk(self, sequence: int) -> bytes:
        """Return content chunk `sequence`: an echo's, or one of about 280 bytes that is stamped with this moment."""
        if self.said:
            return self.said[sequence]
        mark = WORDS[sequence % len(WORDS)].encode() if self.words else b"%d:%d" % (sequence, time.monotonic_ns())
        if not self.framed:
            return b"%b%b%b" % (self.before, mark, self.after)
        size = len(self.before) + len(mark) + len(self.after)
        return b"%x\r\n%b%b%b\r\n" % (size, self.before, mark, self.after)

    def completion(self) -> bytes:
        """Return the JSON that a request without `stream` gets."""
        content = f" @@0:{time.monotonic_ns()}@@ a short answer of one or two sentences, as a voice agent gives."
        content = self.text or content
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
        identity = {**_IDENTITY, "object": "chat.completion", "model": self.name}
        return _encode({**identity, "choices": [choice], "usage": usage})


def model_for(question: Any) -> Model:
    """Return the model that a request's body asks for; ValueError, LookupError or TypeError if it is none."""
    match = _ECHO.fullmatch(question["model"])
    if not match:
        return read_model(question["model"])
    text = str(question["messages"][-1]["content"])
    tokens = _TOKEN.findall(text)
    ends = (place for place, token in enumerate(tokens) if token.endswith(tuple(".!?。！？")))
    bare = read_model(f"bench-{len(tokens)}x{match[1]}ms")
    said = tuple(_framed(b"data: %b\n\n" % _chunk(bare.name, {"content": token}, None)) for token in tokens)
    return replace(bare, text=text, said=said, sentence_end=next(ends, None))


@lru_cache(maxsize=64)
def read_model(name: str) -> Model:
    """Return the model of that name; ValueError if it is none of the mock's."""
    match = _NAME.fullmatch(name)
    if not match:
        raise ValueError("model: the mock has bench-<N>x<I>ms[-ttft<D>][-stall<K>] and so on, echo-<I>ms")
    options = dict(re.findall(r"([a-z]+)(\d*)", match[3]))
    words = "words" in options
    chunks = int(match[1])
    framed = "close" not in options
    newline = b"\r\n\r\n" if "crlf" in options else b"\n\n"

    def frame(event: bytes) -> bytes:
        event = b"data: " + event + newline
        return _framed(event) if framed else event

    framing = b"Transfer-Encoding: chunked" if framed else b"Connection: close"
    before, _, after = _chunk(name, {"content": "mark" if words else " @@mark@@"}, None).partition(b"mark")
    finish = frame(_chunk(name, {}, "stop"))
    counts = {"prompt_tokens": 9, "completion_tokens": chunks, "total_tokens": chunks + 9}
    usage = frame(_encode({**_IDENTITY, "model": name, "choices": [], "usage": counts}))
    close = (frame(b"[DONE]"), b"0\r\n\r\n") if framed else (frame(b"[DONE]"),)
    breaks = {"cut": b"", "garbage": frame(b'{"choices":[{"delta":{"con'), "error": frame(_ERROR) + frame(b"[DONE]")}
    fault = next((fault for fault in breaks if fault in options), "")
    return Model(
        name=name,
        chunks=chunks,
        interval_ns=int(match[2]) * 1_000_000,
        delay_ns=int(options.get("ttft", 0)) * 1_000_000,
        stall=int(options["stall"]) if "stall" in options else None,
        status=int(options["status"]) if "status" in options else None,
        breaks_at=int(options[fault]) if fault else None,
        breaking=breaks.get(fault, b""),
        words=words,
        framed=framed,
        opening=(_HEAD + framing + b"\r\n\r\n", frame(_chunk(name, {"role": "assistant", "content": ""}, None))),
        before=b"data: " + before,
        after=after + newline,
        ending=(finish, usage, *close) if "usage" in options else (finish, *close),
        ending_with_usage=(finish, usage, *close),
    )


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chunk(model: str, delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _encode({**_IDENTITY, "model": model, "choices": [choice]})
