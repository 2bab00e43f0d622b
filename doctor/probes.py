"""What the endpoint is asked: the bodies of the requests, as the engine and OpenAI's clients write them."""

import json
from typing import Any

from doctor.target import Target

SAY = "The doctor says: seven green plums, nothing else."
"""The text of an assistant's last message, which no model would answer with by itself."""
TOOL = "get_weather"

_QUESTION = "Please tell me in two short sentences what you can do for me."
_LONG = "Please count from one to two hundred in words, and leave none out."
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Tells the weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
_ASKED_FOR_TOOL = {"role": "user", "content": f"What is the weather in Paris now? Call {TOOL}."}
_CALL = {"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": '{"city":"Paris"}'}}
# a white square of 8 × 8 pixels
_PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADklEQVR42mP4DwUMlDEA98A/wa9cD80AAAAASUVORK5CYII="
)
_NOW_MS = 1_760_000_000_000

_ENGINE: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You are a friendly voice agent. Be brief."},
        {
            "role": "assistant",
            "content": "Good morning, how",
            "turn_id": 1,
            "timestamp": _NOW_MS,
            "metadata": {"source": "greeting", "interrupted_by": {"turn_id": 2}},
            "interrupted": True,
            "interrupt_timestamp": _NOW_MS + 900,
            "original": "Good morning, how can I help you?",
        },
        {
            "role": "user",
            "content": "What can you do for me?",
            "turn_id": 2,
            "timestamp": _NOW_MS + 1000,
            "metadata": {"source": "asr", "user": "1002", "confidence": 0.9},
        },
    ],
    "turn_id": 2,
    "timestamp": _NOW_MS + 1001,
    "interruptable": True,
    "context": {"presence": {"1002": {"name": "Ann"}}},
}

# each is a change to the plain streamed question; None takes a field out
TOLERANCE: dict[str, dict[str, Any]] = {
    "usage": {"stream_options": {"include_usage": True}},
    "plain": {"stream": False},
    "default": {"stream": None},
    "engine": _ENGINE,
    "unknown": {"doctor_unknown_field": {"nested": [1, None, "two"]}},
    "params": {"params": {"user": "doctor"}},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": _QUESTION}]}]},
    "null": {
        "messages": [
            _ASKED_FOR_TOOL,
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius":21,"sky":"clear"}'},
        ],
        "tools": _TOOLS,
    },
    "picture": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Which colour is this?"},
                    {"type": "image_url", "image_url": {"url": _PICTURE}},
                ],
            }
        ]
    },
    "empty": {"messages": [{"role": "user", "content": ""}]},
    "assistant": {"messages": [{"role": "assistant", "content": SAY}]},
    "tools": {"messages": [_ASKED_FOR_TOOL], "tools": _TOOLS},
}
"""Requests that a good endpoint answers, by name."""

BAD: dict[str, bytes | None] = {
    "not JSON": b'{"messages": [',
    "no messages": b'{"model":"default","stream":true}',
    "messages that are a text": b'{"model":"default","stream":true,"messages":"hello"}',
    "a body that is a list": b"[1, 2]",
    "GET": None,
}
"""Requests that a good endpoint refuses, by name; None is a GET."""


def body_of(target: Target, changes: dict[str, Any] | None = None) -> bytes:
    """Write the body of a streamed question with these changes; None takes a field out."""
    body: dict[str, Any] = {
        "model": target.model,
        "stream": True,
        "messages": [{"role": "user", "content": _QUESTION}],
        **({"modalities": ["audio"], "audio": {"voice": "alloy", "format": "pcm16"}} if target.is_audio else {}),
        **(changes or {}),
    }
    fields = {name: value for name, value in body.items() if value is not None}
    return json.dumps(fields, ensure_ascii=False).encode()


def long_body(target: Target) -> bytes:
    """Write the body of a question whose answer takes long enough to be interrupted."""
    return body_of(target, {"messages": [{"role": "user", "content": _LONG}]})
