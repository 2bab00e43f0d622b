"""The bodies that go in and out, as JSON Schema: what protocol/request reads, and what the answers and errors are.

They are as lenient as the server itself: what a schema allows is accepted, what it forbids is refused.
"""

from typing import Any

from protocol.chunks import CHUNK, COMPLETION, CONTROL
from protocol.openapi.text import Text

Schema = dict[str, Any]

ROLES = ("developer", "system", "user", "assistant", "tool", "function")
HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}


def ref(name: str) -> Schema:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: Text, properties: Schema, *required: str) -> Schema:
    found: Schema = {"type": "object", "description": description, "properties": properties}
    return found | ({"required": list(required)} if required else {})


def _or_null(kind: str, en: str, zh: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], "description": Text(en, zh), **more}


def _any(en: str, zh: str, **more: Any) -> Schema:
    return {"description": Text(en, zh), **more}


_CALLS = _or_null(
    "array", "Calls to tools, as OpenAI has them.", "工具调用，与 OpenAI 相同。", items={"type": "object"}
)

_MESSAGE = _object(
    Text("One message of the conversation. Unknown fields are forwarded.", "对话中的一条消息。未知字段会被转发。"),
    {
        "role": {"type": "string", "enum": list(ROLES), "description": Text("Who speaks.", "说话者。")},
        "content": {
            "description": Text("Text, a list of parts, or null.", "文本、分段列表或 null。"),
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": ref("ContentPart")},
                {"type": "null"},
            ],
        },
        "tool_calls": _CALLS,
        "turn_id": _any("The engine's; not forwarded.", "引擎字段；不转发。", examples=[3]),
        "timestamp": _any("The engine's, in ms or s; not forwarded.", "引擎字段，毫秒或秒；不转发。"),
        "metadata": _any(
            "The engine's: `source`, `user` and more; not forwarded.", "引擎字段：`source`、`user` 等；不转发。"
        ),
        "interrupted": _any("The engine's: whether the caller cut it off.", "引擎字段：是否被来电者打断。"),
        "interrupt_timestamp": _any("The engine's; not forwarded.", "引擎字段；不转发。"),
        "original": _any(
            "The engine's: what the model had produced before the interruption.", "引擎字段：打断前模型产生的全文。"
        ),
    },
    "role",
)

_PART = _object(
    Text(
        "A part of a message: text, a picture (its address in an object or bare), or audio.",
        "消息的一部分：文本、图片（地址可为对象或字符串）或音频。",
    ),
    {"type": _any("text, image_url, image, input_audio, …", "text、image_url、image、input_audio 等")},
)

_REQUEST = _object(
    Text(
        "A chat completions request as OpenAI has it, with what voice engines add. Unknown fields are forwarded.",
        "与 OpenAI 相同的 chat completions 请求，并含语音引擎附加的字段。未知字段会被转发。",
    ),
    {
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": ref("Message"),
            "description": Text(
                "The conversation so far, this turn last. A last message of role `assistant` is said as it stands.",
                "迄今的对话，最后一条是本轮。若最后一条的角色是 `assistant`，则原样说出。",
            ),
        },
        "model": _or_null(
            "string", "The model to ask; else the one that is set.", "要使用的模型；不写则用设置的模型。"
        ),
        "stream": _or_null("boolean", "Whether the answer is streamed.", "是否流式返回。", default=False),
        "stream_options": _or_null(
            "object",
            "How it is streamed.",
            "流式选项。",
            properties={
                "include_usage": _or_null("boolean", "Whether a last chunk has `usage`.", "末尾是否附带 `usage`。")
            },
        ),
        "tools": _or_null("array", "The caller's own tools.", "调用方自己的工具。", items={"type": "object"}),
        "params": _or_null(
            "object",
            "Fields that belong at the root, where some put them; the root wins.",
            "有些调用方放在这里的根字段；以根字段为准。",
        ),
        "turn_id": _any("The engine's; not forwarded.", "引擎字段；不转发。"),
        "timestamp": _any("The engine's; not forwarded.", "引擎字段；不转发。"),
        "interruptable": _any("The engine's; not forwarded.", "引擎字段；不转发。"),
        "context": _any("The engine's: presence of users; not forwarded.", "引擎字段：用户状态；不转发。"),
        "temperature": _any("Forwarded.", "会被转发。", examples=[0.7]),
        "max_tokens": _any("Forwarded.", "会被转发。", examples=[150]),
    },
    "messages",
) | {"examples": [{"stream": True, **HELLO}, HELLO]}

_SPOKEN = {
    "allOf": [
        ref("ChatRequest"),
        {
            "type": "object",
            "properties": {
                "modalities": _or_null(
                    "array",
                    "What is wanted: audio alone where it is missing.",
                    "需要的形式：缺省时只有音频。",
                    items={"type": "string", "enum": ["text", "audio"]},
                ),
                "audio": _or_null(
                    "object",
                    "How it is to sound.",
                    "声音设置。",
                    properties={
                        "voice": {"type": ["string", "object", "null"], "description": Text("The voice.", "嗓音。")}
                    },
                ),
            },
        },
    ]
}

_AUDIO = _object(
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

_WORD = _object(
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


_USAGE = _object(
    Text("Tokens, as the model reports them.", "模型报告的 token 用量。"),
    {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
)

_CHUNK = _object(
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

_CONTROL = _object(
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

_COMPLETION = _object(
    Text(
        "A whole answer; the upstream's own where it is nothing else, so only `choices` is certain.",
        "完整的回答；多为上游原样返回，因此只保证有 `choices`。",
    ),
    {
        "id": _any("The answer's id.", "回答的 id。"),
        "object": _any(f"`{COMPLETION}`", f"`{COMPLETION}`"),
        "created": _any("Seconds since 1970.", "自 1970 年起的秒数。"),
        "model": _any("The model that answered.", "作答的模型。"),
        "choices": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "index": _any("From 0.", "从 0 起。"),
                    "message": _any(
                        "`role`, `content`, `tool_calls`; `audio` where it is spoken.",
                        "`role`、`content`、`tool_calls`；语音回答含 `audio`。",
                    ),
                    "finish_reason": _any("stop, length, tool_calls, …", "stop、length、tool_calls 等"),
                },
            },
        },
        "usage": _any("Tokens, if the upstream reports them.", "token 用量（上游报告时）。"),
    },
    "choices",
)

_ERROR = _object(
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

SCHEMAS: Schema = {
    "ChatRequest": _REQUEST,
    "SpokenRequest": _SPOKEN,
    "Message": _MESSAGE,
    "ContentPart": _PART,
    "ChatCompletion": _COMPLETION,
    "ChatCompletionChunk": _CHUNK,
    "ControlChunk": _CONTROL,
    "AudioDelta": _AUDIO,
    "SpokenWord": _WORD,
    "Usage": _USAGE,
    "Error": _ERROR,
}
