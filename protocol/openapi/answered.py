"""The bodies of answers and failures, as JSON Schema."""

from protocol.chunks import CHUNK, COMPLETION, CONTROL
from protocol.openapi.schemas import Schema, anything, record, ref
from protocol.openapi.text import Text

_AUDIO = record(
    Text(
        "A piece of speech: any of these may come alone. An id is sent once.",
        "一段语音：各字段可单独出现。id 只发送一次。",
    ),
    {
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentEncoding": "base64",
            "description": Text("PCM: 16-bit little-endian, mono.", "PCM：16 位小端，单声道。"),
        },
        "transcript": {"type": "string", "description": Text("What is spoken.", "所说的文字。")},
        "words": {"type": "array", "items": ref("SpokenWord")},
    },
)

_WORD = record(
    Text("A word and its time in ms from the first sample of the reply.", "一个词及其时间（毫秒，自回复首个采样起）。"),
    {
        "text": {"type": "string"},
        "start_ts": {"type": "number"},
        "end_ts": {"type": "number"},
        "duration": {"type": "number"},
    },
    "text",
    "start_ts",
    "end_ts",
    "duration",
)


def _choice(inner: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["index", inner, "finish_reason"],
        "properties": {
            "index": {"type": "integer"},
            inner: schema,
            "finish_reason": {
                "type": ["string", "null"],
                "description": Text(
                    "stop, length, tool_calls, … in the last chunk that says something; null before.",
                    "最后一个块中为 stop、length、tool_calls 等；此前为 null。",
                ),
            },
        },
    }


_USAGE = record(
    Text("Tokens, as the model reports them.", "模型报告的 token 用量。"),
    {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
)

_CHUNK = record(
    Text("The data of one event of a stream.", "流中一个事件的数据。"),
    {
        "id": {
            "type": "string",
            "description": Text(
                "The same in all chunks of an answer; `waiting_msg` in a waiting phrase.",
                "同一回答的各块相同；等待语的 id 为 `waiting_msg`。",
            ),
        },
        "object": {"const": CHUNK},
        "created": {"type": "integer", "description": Text("Seconds since 1970.", "自 1970 年起的秒数。")},
        "model": {"type": "string"},
        "choices": {
            "type": "array",
            "description": Text("Empty in the chunk of `usage`.", "`usage` 块中为空。"),
            "items": _choice(
                "delta",
                {
                    "type": "object",
                    "properties": {
                        "role": {"type": "string"},
                        "content": {"type": ["string", "null"]},
                        "tool_calls": {"type": "array", "items": {"type": "object"}},
                        "audio": ref("AudioDelta"),
                    },
                },
            ),
        },
        "usage": ref("Usage"),
    },
    "id",
    "object",
    "created",
    "model",
    "choices",
)

_CONTROL = record(
    Text("Control metadata for the engine: comes first, says nothing.", "给引擎的控制元数据：最先发送，不含内容。"),
    {
        "object": {"const": CONTROL},
        "choices": {"type": "array", "maxItems": 0},
        "metadata": {
            "type": "object",
            "properties": {"interruptable": {"type": "boolean"}, "tts_params": {"type": "object"}},
        },
    },
    "object",
    "choices",
    "metadata",
)

_COMPLETION = record(
    Text(
        "A whole answer; the upstream's own where it is nothing else, so only `choices` is certain.",
        "完整的回答；多为上游原样返回，因此只保证有 `choices`。",
    ),
    {
        "id": anything("The answer's id.", "回答的 id。"),
        "object": anything(f"`{COMPLETION}`", f"`{COMPLETION}`"),
        "created": anything("Seconds since 1970.", "自 1970 年起的秒数。"),
        "model": anything("The model that answered.", "作答的模型。"),
        "choices": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "index": anything("From 0.", "从 0 起。"),
                    "message": anything(
                        "`role`, `content`, `tool_calls`; `audio` where it is spoken.",
                        "`role`、`content`、`tool_calls`；语音回答含 `audio`。",
                    ),
                    "finish_reason": anything("stop, length, tool_calls, …", "stop、length、tool_calls 等"),
                },
            },
        },
        "usage": anything("Tokens, if the upstream reports them.", "token 用量（上游报告时）。"),
    },
    "choices",
)

_ERROR = record(
    Text("OpenAI's error object; all four fields are always there.", "OpenAI 的错误对象；四个字段始终存在。"),
    {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string", "description": Text("Safe to be shown.", "可安全展示。")},
                "type": {"type": "string"},
                "param": {
                    "type": ["string", "null"],
                    "description": Text("The place in the request, such as `messages[2].role`.", "请求中出错的位置。"),
                },
                "code": {"type": ["string", "null"]},
            },
        }
    },
    "error",
) | {"additionalProperties": False}

# before OpenAPI 3.2 the schema of an event stream is that of each of its events
_EVENT = record(
    Text(
        "Server-Sent Events: lines `data: <JSON>`, an empty line after each; `: keepalive` while nothing comes. Each "
        "data is a chunk, and every stream ends in one of four ways: (a) a chunk with `finish_reason`, the usage if "
        '`stream_options.include_usage` asked for it, `data: [DONE]`; (b) after a failure `data: {"error": …}` and '
        "`data: [DONE]`, without a `finish_reason`; (c) where a fallback is set and nothing was said yet, that "
        "sentence, `stop` and `data: [DONE]`; (d) where a newer turn of the session has begun, `stop` and "
        "`data: [DONE]`.",
        "Server-Sent Events：每行 `data: <JSON>`，其后空一行；无内容时发送 `: keepalive`。每个 data 是一个块，"
        "每个流必以四种方式之一结束：(a) 带 `finish_reason` 的块、（若 `stream_options.include_usage` 要求）用量、"
        '`data: [DONE]`；(b) 出错后 `data: {"error": …}` 与 `data: [DONE]`，没有 `finish_reason`；'
        "(c) 若设置了后备句且尚未说出内容：该句、`stop` 与 `data: [DONE]`；"
        "(d) 若该会话已有更新的一轮：`stop` 与 `data: [DONE]`。",
    ),
    {
        "data": {
            "type": "string",
            "anyOf": [
                {"const": "[DONE]"},
                {
                    "contentMediaType": "application/json",
                    "contentSchema": {"anyOf": [ref("ChatCompletionChunk"), ref("ControlChunk"), ref("Error")]},
                },
            ],
        }
    },
    "data",
)

ANSWERED: Schema = {
    "ChatCompletion": _COMPLETION,
    "StreamEvent": _EVENT,
    "ChatCompletionChunk": _CHUNK,
    "ControlChunk": _CONTROL,
    "AudioDelta": _AUDIO,
    "SpokenWord": _WORD,
    "Usage": _USAGE,
    "Error": _ERROR,
}
