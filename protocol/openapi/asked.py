"""The body of a turn's request, as JSON Schema: what protocol/request reads.

It is as lenient as the server itself: what the schema allows is accepted, what it forbids is refused.
"""

from protocol.openapi.schemas import Schema, anything, or_null, record, ref
from protocol.openapi.text import Text

ROLES = ("developer", "system", "user", "assistant", "tool", "function")
HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}

_CALLS = or_null("array", "Calls to tools, as OpenAI has them.", "工具调用，与 OpenAI 相同。", items={"type": "object"})

_MESSAGE = record(
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
        "turn_id": anything("The engine's; not forwarded.", "引擎字段；不转发。", examples=[3]),
        "timestamp": anything("The engine's, in ms or s; not forwarded.", "引擎字段，毫秒或秒；不转发。"),
        "metadata": anything(
            "The engine's: `source`, `user` and more; not forwarded.", "引擎字段：`source`、`user` 等；不转发。"
        ),
        "interrupted": anything("The engine's: whether the caller cut it off.", "引擎字段：是否被来电者打断。"),
        "interrupt_timestamp": anything("The engine's; not forwarded.", "引擎字段；不转发。"),
        "original": anything(
            "The engine's: what the model had produced before the interruption.", "引擎字段：打断前模型产生的全文。"
        ),
    },
    "role",
)

_PART = record(
    Text(
        "A part of a message: text, a picture (its address in an object or bare), or audio.",
        "消息的一部分：文本、图片（地址可为对象或字符串）或音频。",
    ),
    {"type": anything("text, image_url, image, input_audio, …", "text、image_url、image、input_audio 等")},
)

_REQUEST = record(
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
        "model": or_null("string", "The model to ask; else the one that is set.", "要使用的模型；不写则用设置的模型。"),
        "stream": or_null("boolean", "Whether the answer is streamed.", "是否流式返回。", default=False),
        "stream_options": or_null(
            "object",
            "How it is streamed.",
            "流式选项。",
            properties={
                "include_usage": or_null("boolean", "Whether a last chunk has `usage`.", "末尾是否附带 `usage`。")
            },
        ),
        "tools": or_null("array", "The caller's own tools.", "调用方自己的工具。", items={"type": "object"}),
        "params": or_null(
            "object",
            "Fields that belong at the root, where some put them; the root wins.",
            "有些调用方放在这里的根字段；以根字段为准。",
        ),
        "turn_id": anything("The engine's; not forwarded.", "引擎字段；不转发。"),
        "timestamp": anything("The engine's; not forwarded.", "引擎字段；不转发。"),
        "interruptable": anything("The engine's; not forwarded.", "引擎字段；不转发。"),
        "context": anything("The engine's: presence of users; not forwarded.", "引擎字段：用户状态；不转发。"),
        "session_id": anything(
            "The session's id: a newer turn takes the older one's place; not forwarded.",
            "会话的 id：较新的一轮会取代较旧的一轮；不转发。",
        ),
        "temperature": anything("Forwarded.", "会被转发。", examples=[0.7]),
        "max_tokens": anything("Forwarded.", "会被转发。", examples=[150]),
    },
    "messages",
) | {"examples": [{"stream": True, **HELLO}, HELLO]}

_SPOKEN = {
    "allOf": [
        ref("ChatRequest"),
        {
            "type": "object",
            "properties": {
                "modalities": or_null(
                    "array",
                    "What is wanted: audio alone where it is missing.",
                    "需要的形式：缺省时只有音频。",
                    items={"type": "string", "enum": ["text", "audio"]},
                ),
                "audio": or_null(
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

ASKED: Schema = {
    "ChatRequest": _REQUEST,
    "SpokenRequest": _SPOKEN,
    "Message": _MESSAGE,
    "ContentPart": _PART,
}
