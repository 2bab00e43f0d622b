"""The document as one page that a person reads: no script, nothing from elsewhere, and all text escaped."""

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from typing import Any

from protocol.language import Language
from protocol.openapi.asked import HELLO
from protocol.openapi.text import Text, said

_STYLE = """
:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;padding:.75rem;border:1px solid #8888;border-radius:.4rem}
code,pre{font-size:.9em}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;
border-bottom:1px solid #8884}h2{margin-top:2.5rem}nav li{margin:.2rem 0}td{overflow-wrap:anywhere}
"""
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_WORDS = {
    "also": Text("Also at", "亦可用于"),
    "asks": Text("Body", "请求体"),
    "answers": Text("Answers", "回答"),
    "fields": Text("What goes in and out", "请求与响应的结构"),
    "failures": Text("Failures", "错误"),
    "parameters": Text("Headers and query", "请求头与查询参数"),
    "field": Text("Field", "字段"),
    "type": Text("Type", "类型"),
    "meaning": Text("Meaning", "含义"),
    "needed": Text("needed", "必填"),
    "key": Text(
        "Callers show a key: `Authorization: Bearer <key>`.", "调用方须出示密钥：`Authorization: Bearer <密钥>`。"
    ),
    "document": Text("The same in OpenAPI 3.1", "OpenAPI 3.1 文档"),
    "other": Text("中文", "English"),
}


def page(document: dict[str, Any], language: Language, url: str) -> str:
    """Return the HTML of a document that is in this language; `url` is the server's own, without a slash at its end."""
    words = said(_WORDS, language)
    operations = [(path, method, each) for path, item in document["paths"].items() for method, each in item.items()]
    info, parts = document["info"], document["components"]
    answers = [(name, each) for name, each in parts["responses"].items() if not name.isdigit()]
    refusals = [(status, each) for status, each in parts["responses"].items() if status.isdigit()]
    other = "en" if language == "zh" else "zh"
    body = [
        f"<h1>{_text(info['title'])}</h1><p>{_prose(info['description'])}</p>",
        f"<p>{_prose(words['key'])}</p>" if document["security"] else "",
        f'<p><a href="openapi.json?lang={language}">{_text(words["document"])}</a> · '
        f'<a href="?lang={other}" hreflang="{other}" lang="{other}">{_text(words["other"])}</a></p>',
        "<nav><ul>",
        *(
            f'<li><a href="#{_text(each["operationId"])}">{method.upper()} {_text(path)}</a> '
            f"{_text(each['summary'])}</li>"
            for path, method, each in operations
        ),
        "</ul></nav><main>",
        *(
            _operation(path, method, each, words, _curl(path, method, each, document, url))
            for path, method, each in operations
        ),
        f'<h2 id="answers">{_text(words["answers"])}</h2>',
        *(f'<h3 id="{_text(name)}">{_text(name)}</h3>{_response(each)}' for name, each in answers),
        f'<h2 id="fields">{_text(words["fields"])}</h2>',
        *(_schema(name, schema, words) for name, schema in parts["schemas"].items()),
        f'<h2 id="parameters">{_text(words["parameters"])}</h2>',
        _table(
            (f"<code>{_text(each['name'])}</code>", _text(each["in"]), _prose(each["description"]))
            for each in parts["parameters"].values()
        ),
        f'<h2 id="failures">{_text(words["failures"])}</h2>',
        _table(
            (f'<span id="status-{_text(status)}">{_text(status)}</span>', _prose(response["description"]))
            for status, response in refusals
        ),
        "</main>",
    ]
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{_text(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"{''.join(body)}</body></html>"
    )


def _text(text: object) -> str:
    return escape(str(text))


def _prose(text: object) -> str:
    """Return escaped text, with what stands between backquotes as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", _text(text))


def _table(rows: Iterable[tuple[str, ...]], head: tuple[str, ...] = ()) -> str:
    heading = f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>" if head else ""
    return f"<table>{heading}{''.join(f'<tr>{_cells(row)}</tr>' for row in rows)}</table>"


def _cells(row: tuple[str, ...]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in row)


def _operation(path: str, method: str, operation: dict[str, Any], words: dict[str, str], curl: str) -> str:
    told = [f'<h2 id="{_text(operation["operationId"])}">{method.upper()} <code>{_text(path)}</code></h2>']
    told.append(f"<p>{_text(operation['summary'])}</p>")
    if also := operation.get("x-also-at"):
        told.append(f"<p>{_text(words['also'])} {', '.join(f'<code>{_text(each)}</code>' for each in also)}</p>")
    told.append(f"<pre>{_text(curl)}</pre>")
    if body := operation.get("requestBody"):
        kinds = [_type(content["schema"]) for content in body["content"].values()]
        told.append(f"<p>{_text(words['asks'])}: {', '.join(kinds)}</p>")
    failures = []
    for status, response in operation["responses"].items():
        if status != "200":
            # each is told of once, below
            failures.append(f'<a href="#status-{_text(status)}">{_text(status)}</a>')
        elif "$ref" in response:
            told.append(f"<p>{_text(words['answers'])}: {_type(response)}</p>")
        else:
            told.append(_response(response))
    told.append(f"<p>{_text(words['failures'])}: {' '.join(failures)}</p>")
    return "".join(told)


def _response(response: dict[str, Any]) -> str:
    told = [f"<p>{_prose(response['description'])}"]
    for kind, content in response["content"].items():
        told.append(f"<br><code>{_text(kind)}</code> {_type(content['schema'])}")
    examples = [content["example"] for content in response["content"].values() if "example" in content]
    return "".join([*told, "</p>", *(f"<pre>{_text(example)}</pre>" for example in examples)])


def _curl(path: str, method: str, operation: dict[str, Any], document: dict[str, Any], url: str) -> str:
    """Return the command that tries an operation, for a POSIX shell: the key is in $KEY."""
    words = ["curl"]
    security = operation.get("security", document["security"])
    if security:
        words.append("-H 'Authorization: Bearer '\"$KEY\"")
    if method == "post":
        body = json.dumps({"stream": True, **HELLO}, separators=(",", ":"))
        words += ["-N", "-H 'Content-Type: application/json'", "-d", shlex.quote(body)]
    return " ".join([*words, shlex.quote(f"{url}{path}")])


def _schema(name: str, schema: dict[str, Any], words: dict[str, str]) -> str:
    told = [f'<h3 id="{_text(name)}">{_text(name)}</h3>']
    if "description" in schema:
        told.append(f"<p>{_prose(schema['description'])}</p>")
    for part in [schema, *schema.get("allOf", ())]:
        if "$ref" in part:
            told.append(f"<p>{_type(part)} +</p>")
        if rows := list(_rows(part, words)):
            told.append(_table(rows, (words["field"], words["type"], words["meaning"])))
    return "".join(told)


def _rows(schema: dict[str, Any], words: dict[str, str], inside: str = "") -> Iterable[tuple[str, ...]]:
    """Yield a row a field, those of objects inside included."""
    for name, field in schema.get("properties", {}).items():
        needed = f" ({_text(words['needed'])})" if name in schema.get("required", ()) else ""
        yield (f"<code>{_text(inside + name)}</code>{needed}", _type(field), _prose(field.get("description", "")))
        yield from _rows(field, words, f"{inside}{name}.")
        yield from _rows(field.get("items", {}), words, f"{inside}{name}[].")


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "const" in schema:
        return f"<code>{_text(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{_text(json.dumps(each))}</code>" for each in schema["enum"])
    if "contentSchema" in schema:
        return _type(schema["contentSchema"])
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    kinds = schema.get("type", ())
    named = [kinds] if isinstance(kinds, str) else list(kinds)
    items = schema.get("items")
    return " | ".join(f"array [{_type(items)}]" if kind == "array" and items else _text(kind) for kind in named)
