"""The responses, as OpenAPI has them: answers, and every status that a failure can have."""

from typing import Any

from protocol.openapi.schemas import Schema, ref
from protocol.openapi.text import Text

HEADERS: Schema = {
    "X-Request-Id": {
        "description": Text(
            "The request's id: the caller's own, or a new one. The log has it.",
            "请求的 id：调用方给出的，或新生成的。日志中可查。",
        ),
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": Text("Seconds to wait, or a date.", "需等待的秒数或日期。"),
        "schema": {"type": "string"},
    },
    "x-should-retry": {
        "description": Text(
            "Whether trying again may help; OpenAI's SDKs heed it.", "重试是否可能有用；OpenAI 的 SDK 会遵守。"
        ),
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    "WWW-Authenticate": {
        "description": Text("How a key is shown.", "出示密钥的方式。"),
        "required": True,
        "schema": {"type": "string"},
    },
    "Allow": {
        "description": Text("The methods that there are.", "可用的方法。"),
        "required": True,
        "schema": {"type": "string"},
    },
}

_FAILURES = {
    "400": Text("The request can't be understood; `param` names the place.", "无法理解该请求；`param` 指明位置。"),
    "401": Text("The key is missing or wrong.", "密钥缺失或错误。"),
    "403": Text("This server is no forward proxy.", "本服务器不是正向代理。"),
    "404": Text("There is no such endpoint, or no such model.", "没有该端点或该模型。"),
    "405": Text("This method is not allowed here.", "此处不允许该方法。"),
    "408": Text("The request took too long to come.", "请求到达得太慢。"),
    "409": Text("A newer turn of this session has begun.", "该会话已有更新的一轮。"),
    "411": Text("The request's length is missing.", "缺少请求长度。"),
    "413": Text("The request is too large (MAX_BODY_KB).", "请求过大（MAX_BODY_KB）。"),
    "414": Text("The address is too long.", "请求地址过长。"),
    "415": Text("The body is no JSON by its Content-Type.", "Content-Type 表明请求体不是 JSON。"),
    "417": Text("An expectation can't be met.", "无法满足 Expect。"),
    "422": Text("The upstream finds the request at fault.", "上游认为请求有误。"),
    "429": Text("The language model is asked too often.", "对语言模型的请求过于频繁。"),
    "431": Text("The request's head is too large.", "请求头过大。"),
    "500": Text("The server failed.", "服务器出错。"),
    "501": Text("A transfer coding is not known.", "不支持该传输编码。"),
    "502": Text("The upstream refused, failed or broke off.", "上游拒绝、出错或中断。"),
    "503": Text("The server is full, or about to restart.", "服务器已满或即将重启。"),
    "504": Text("The upstream was too late.", "上游超时。"),
}
_MORE_HEADERS = {
    "401": ("WWW-Authenticate",),
    "405": ("Allow",),
    "409": ("x-should-retry",),
    "429": ("Retry-After", "x-should-retry"),
    "500": ("x-should-retry",),
    "502": ("x-should-retry",),
    "503": ("Retry-After", "x-should-retry"),
    "504": ("x-should-retry",),
}
# what can happen to any request, whatever it asks for
_ANYWHERE = ("400", "401", "403", "405", "408", "413", "414", "417", "431", "500", "501", "503")
_OF_THE_UPSTREAM = ("404", "413", "422", "429", "502", "504")
_OF_A_TURN = ("409", "411", "415")

_REFUSALS: Schema = {
    status: {
        "description": description,
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *_MORE_HEADERS.get(status, ()))
        },
        "content": {"application/json": {"schema": ref("Error")}},
    }
    for status, description in _FAILURES.items()
}


def failures(*, asks_upstream: bool = False, is_turn: bool = False) -> Schema:
    """Return the failures that an operation can have."""
    statuses = {*_ANYWHERE, *(_OF_THE_UPSTREAM if asks_upstream else ()), *(_OF_A_TURN if is_turn else ())}
    return {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}


def replied(description: Text, content_type: str, schema: Schema, **more: Any) -> Schema:
    """Return a response that is no failure of the common form."""
    return {
        "description": description,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}},
        "content": {content_type: {"schema": schema}},
        **more,
    }


def answer(spoken: bool) -> Schema:
    """Return the response that a turn is answered with."""
    return {"$ref": f"#/components/responses/{'SpokenAnswer' if spoken else 'Answer'}"}


def _answer(example: str) -> Schema:
    found = replied(
        Text(
            "The answer: a stream of events with `stream: true`, else one JSON object.",
            "回答：`stream: true` 时为事件流，否则为一个 JSON 对象。",
        ),
        "application/json",
        ref("ChatCompletion"),
    )
    found["content"]["text/event-stream"] = {
        "schema": ref("StreamEvent"),
        "example": example,
    }
    return found


_HEAD = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"m","choices":[{"index":0,'


def _events(*deltas: str) -> str:
    chunks = [f'data: {_HEAD}"delta":{delta},"finish_reason":null}}]}}\n\n' for delta in deltas]
    return "".join(chunks) + f'data: {_HEAD}"delta":{{}},"finish_reason":"stop"}}]}}\n\ndata: [DONE]\n\n'


_ROLE = '{"role":"assistant","content":""}'
_EXAMPLE = _events(_ROLE, '{"content":"Hello"}', '{"content":" there."}')
_SPOKEN_EXAMPLE = _events(
    _ROLE,
    '{"audio":{"id":"a1","transcript":"Hello."}}',
    '{"audio":{"words":[{"text":"Hello.","start_ts":0,"end_ts":400,"duration":400}]}}',
    '{"audio":{"data":"AAABAAIAAwA="}}',
)

RESPONSES: Schema = {"Answer": _answer(_EXAMPLE), "SpokenAnswer": _answer(_SPOKEN_EXAMPLE), **_REFUSALS}
