"""The OpenAPI document of a server, made from the paths that it serves."""

import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from protocol.language import Language
from protocol.openapi.answered import ANSWERED
from protocol.openapi.asked import ASKED
from protocol.openapi.responses import HEADERS, RESPONSES, answer, failures, replied
from protocol.openapi.schemas import Schema, ref
from protocol.openapi.text import Text, said

COMPLETIONS = "/chat/completions"


class Route(NamedTuple):
    """What is served: a path as Flask writes it, its method, and the other paths that lead to the same."""

    path: str
    method: str
    also_at: tuple[str, ...] = ()


class _Known(NamedTuple):
    """An endpoint that is no completion: what it is and what it answers with."""

    summary: Text
    content_type: str
    schema: Schema
    asks_upstream: bool = False
    is_open: bool = False
    is_page: bool = False


_NOT_READY = Text("This worker is about to end: ask another one.", "该进程即将退出：请改用其他进程。")
_DRAINING: Schema = {"type": "object", "required": ["status"], "properties": {"status": {"const": "draining"}}}
_STATUS: Schema = {"type": "object", "required": ["status"]}
_KNOWN = {
    "/models": _Known(
        Text("The models that can be asked", "可用的模型"),
        "application/json",
        {"description": Text("The upstream's own list.", "上游自己的列表。")},
        asks_upstream=True,
    ),
    "/health": _Known(
        Text("Alive", "存活"),
        "application/json",
        {**_STATUS, "properties": {"status": {"const": "ok"}}},
        is_open=True,
    ),
    "/ready": _Known(
        Text("Can serve; how the upstream did", "可以服务；上游的状况"),
        "application/json",
        {
            **_STATUS,
            "properties": {
                "status": {"const": "ready"},
                "upstream": {"type": "string"},
                "knowledge_failures": {"type": "integer"},
            },
        },
    ),
    "/": _Known(
        Text("What this is, and which endpoints there are", "这是什么，有哪些端点"),
        "application/json",
        {
            "type": "object",
            "required": ["name", "what", "endpoints", "try"],
            "properties": {"endpoints": {"type": "object", "additionalProperties": {"type": "string"}}},
        },
    ),
    "/openapi.json": _Known(
        Text("This document", "本文档"),
        "application/json",
        {"type": "object", "required": ["openapi", "info", "paths"]},
        is_page=True,
    ),
    "/docs": _Known(Text("This document as a page", "本文档的网页"), "text/html", {"type": "string"}, is_page=True),
    "/playground": _Known(
        Text("A page to talk to the agent, hear it and see what it does", "与智能体对话、试听并查看其行为的网页"),
        "text/html",
        {"type": "string"},
    ),
    "/playground/endpoints": _Known(
        Text("What the playground can talk to", "试验页可用的端点"), "application/json", {"type": "object"}
    ),
    "/metrics": _Known(
        Text("Counters and times, in Prometheus's form", "计数与耗时，Prometheus 格式"),
        "text/plain",
        {"type": "string"},
    ),
}
_ENDPOINTS = {
    COMPLETIONS: Text("The language model, relayed", "转发语言模型"),
    "/rag/chat/completions": Text("The language model, told what the documents say", "语言模型，依据文档作答"),
    "/audio/chat/completions": Text("The language model, spoken, or a recording", "语言模型的语音回答，或一段录音"),
    "/rag/audio/chat/completions": Text("What the documents say, spoken", "依据文档的语音回答"),
}


def routes(rules: Iterable[tuple[str, Collection[str]]]) -> list[Route]:
    """Return what is served by these rules, each path as Flask writes it and its methods.

    What is served with and without `/v1` is one route; HEAD and OPTIONS, which all have, are none, and neither are the
    files of a page.
    """
    served: dict[tuple[str, str], list[str]] = {}
    for path, methods in rules:
        if "<" in path:
            continue
        plain = "/".join(part for part in path.split("/") if part != "v1") or "/"
        for method in sorted(set(methods) - {"HEAD", "OPTIONS"}):
            served.setdefault((plain, method), []).append(path)
    found = []
    for (plain, method), paths in served.items():
        first, *others = sorted(dict.fromkeys(paths), key=lambda path: path != plain)
        found.append(Route(first, method, tuple(others)))
    return found


def document(
    served: Iterable[Route], language: Language, *, needs_key: bool, session_header: str = "X-Session-Id"
) -> dict[str, Any]:
    """Return the document; with `needs_key` callers must show one as their Bearer.

    `session_header` is the header that may hold a session's id.
    """
    paths: Schema = {}
    for route in served:
        path = route.path
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "custom-llm-server", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}] if needs_key else [],
        "paths": paths,
        "components": {
            "schemas": ASKED | ANSWERED,
            "headers": HEADERS,
            "responses": RESPONSES,
            "parameters": {
                "X-Request-Id": _optional("X-Request-Id", "header", _REQUEST_ID),
                "session": _optional(session_header, "header", _SESSION),
                "session_id": _optional("session_id", "query", _SESSION),
                "lang": _optional("lang", "query", _LANG),
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": _BEARER}},
        },
    }
    spoken: dict[str, Any] = said(whole, language)
    return spoken


_ABOUT = Text(
    "A custom LLM server for voice agents: OpenAI's chat completions, streamed.",
    "语音智能体的自定义 LLM 服务器：OpenAI 的 chat completions，流式返回。",
)
_BEARER = Text(
    "One of the server's keys, or the caller's own for the upstream, as the server is set up.",
    "服务器的密钥之一，或调用方自己的上游密钥，取决于服务器的设置。",
)
_REQUEST_ID = Text(
    "An id for the log: 1 to 64 letters, digits, `.`, `_` or `-`; any other is replaced.",
    "写入日志的 id：1 到 64 个字母、数字、`.`、`_` 或 `-`；否则会被替换。",
)
_SESSION = Text(
    "The session's id: a newer turn of a session takes the place of the older one.",
    "会话的 id：同一会话中较新的一轮会取代较旧的一轮。",
)
_LANG = Text("`en` or `zh`; else Accept-Language decides.", "`en` 或 `zh`；否则由 Accept-Language 决定。")


def _optional(name: str, place: str, description: Text) -> Schema:
    return {"name": name, "in": place, "required": False, "description": description, "schema": {"type": "string"}}


def _operation(route: Route, path: str) -> Schema:
    parameters: list[Schema] = [{"$ref": "#/components/parameters/X-Request-Id"}]
    if route.method == "POST" and path.endswith(COMPLETIONS):
        operation = _completion(path, parameters)
    else:
        operation = _plain(path, parameters)
        if path in _KNOWN and _KNOWN[path].is_open:
            operation["responses"].pop("401")
            operation["security"] = []
    if route.also_at:
        operation["x-also-at"] = [*route.also_at]
    return {"operationId": _operation_id(route.method, path), **operation}


def _completion(path: str, parameters: list[Schema]) -> Schema:
    prefix = path.removesuffix(COMPLETIONS)
    sessions = [{"$ref": f"#/components/parameters/{name}"} for name in ("session", "session_id")]
    spoken = prefix.endswith("/audio")
    name = prefix.removesuffix("/audio").strip("/")
    known = _ENDPOINTS.get(path)
    own = (
        Text(f"The agent {name}, spoken", f"智能体 {name}，语音")
        if spoken
        else Text(f"The agent {name}", f"智能体 {name}")
    )
    schema = ref("SpokenRequest" if spoken else "ChatRequest")
    return {
        "summary": known or own,
        "parameters": [*parameters, *sessions],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": answer(spoken), **failures(asks_upstream=True, is_turn=True)},
    }


def _plain(path: str, parameters: list[Schema]) -> Schema:
    known = _KNOWN.get(path) or _Known(Text(path, path), "*/*", {})
    if known.is_page:
        parameters = [*parameters, {"$ref": "#/components/parameters/lang"}]
    found = {"200": replied(known.summary, known.content_type, known.schema)}
    responses = {**found, **failures(asks_upstream=known.asks_upstream)}
    if path == "/ready":
        responses["503"] = replied(_NOT_READY, "application/json", {"anyOf": [_DRAINING, ref("Error")]})
    return {"summary": known.summary, "parameters": parameters, "responses": responses}


def _operation_id(method: str, path: str) -> str:
    return "_".join([method.lower(), *re.findall(r"[A-Za-z0-9]+", path)])
