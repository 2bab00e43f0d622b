"""What is told of the server at /openapi.json and /docs: all that is served, and nothing else."""

import html.parser
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from running_server import HELLO, KEY, RunningServer, running_server

from app import create_app
from protocol.chunks import CONTROL
from protocol.errors import BadRequest, Failure, ServerError, Superseded, error_json
from protocol.language import Language
from protocol.openapi.document import Route, document, routes
from protocol.openapi.page import page
from protocol.request import read_request
from settings import Settings

RULES = [
    ("/chat/completions", {"POST", "OPTIONS"}),
    ("/v1/chat/completions", {"POST", "OPTIONS"}),
    ("/desk/v1/chat/completions", {"POST", "OPTIONS"}),
    ("/desk/chat/completions", {"POST", "OPTIONS"}),
    ("/v1/desk/chat/completions", {"POST", "OPTIONS"}),
    ("/desk/audio/chat/completions", {"POST", "OPTIONS"}),
    ("/health", {"GET", "HEAD", "OPTIONS"}),
    ("/playground/<path:name>", {"GET", "HEAD", "OPTIONS"}),
    ("/else", {"GET", "HEAD", "OPTIONS"}),
    ("/", {"GET", "HEAD", "OPTIONS"}),
]
VOID = {"meta"}


def told(language: Language = "en", needs_key: bool = True) -> dict[str, Any]:
    return document(routes(RULES), language, needs_key=needs_key)


def accepts(schema: str, body: Any) -> bool:
    """Tell whether a body is as one of the document's schemas has it."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": told()["components"]}
    return bool(jsonschema_rs.validator_for(whole).is_valid(body))


class Page(html.parser.HTMLParser):
    """A page that was read: its text, its tags, its ids and where its links lead."""

    def __init__(self, data: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.commands: list[str] = []
        self._open: list[str] = []
        self.feed(data)
        self.close()
        assert self._open == [], "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID and tag != "br":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open[-1:] == ["pre"] and data.startswith("curl "):
            self.commands.append(data)

    def values(self, name: str) -> set[str]:
        """Return the values of an attribute."""
        return {value for each, value in self.attributes if each == name}


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    """The demo."""
    with running_server(AUDIO_LEAD_MS="0") as running:
        yield running


@pytest.fixture
def served(server: RunningServer) -> dict[str, Any]:
    """The document of the shared server."""
    found: dict[str, Any] = server.get("/openapi.json").json
    return found


class TestDocument:
    def test_it_names_exactly_what_is_served(self) -> None:
        app = create_app(Settings(), indexes=False)
        found = app.test_client().get("/openapi.json").get_json()

        named = {
            (path, method.upper())
            for main, item in found["paths"].items()
            for method, operation in item.items()
            for path in (main, *operation.get("x-also-at", ()))
        }

        served = [rule for rule in app.url_map.iter_rules() if not rule.arguments]
        rules = {(rule.rule, method) for rule in served for method in rule.methods or ()}
        assert named == {(path, method) for path, method in rules if method not in ("HEAD", "OPTIONS")}
        assert {("/chat/completions", "POST"), ("/v1/models", "GET"), ("/docs", "GET")} <= named

    def test_what_is_served_with_and_without_v1_is_one_route(self) -> None:
        found = routes(RULES)

        assert found[:2] == [
            Route("/chat/completions", "POST", ("/v1/chat/completions",)),
            Route("/desk/chat/completions", "POST", ("/desk/v1/chat/completions", "/v1/desk/chat/completions")),
        ]
        assert len({route.path for route in found}) == len(found) == 6

    def test_an_agent_and_its_spoken_form_are_told_of(self) -> None:
        paths = told()["paths"]

        written, spoken = paths["/desk/chat/completions"]["post"], paths["/desk/audio/chat/completions"]["post"]

        assert (written["summary"], spoken["summary"]) == ("The agent desk", "The agent desk, spoken")
        assert written["requestBody"] != spoken["requestBody"]

    def test_all_that_it_refers_to_is_there_and_operations_have_ids_of_their_own(self, served: dict[str, Any]) -> None:
        references = set(_references(served))

        for reference in references:
            found: Any = served
            for key in reference.removeprefix("#/").split("/"):
                found = found[key]
        ids = [each["operationId"] for item in served["paths"].values() for each in item.values()]
        assert len(set(ids)) == len(ids)
        assert "#/components/schemas/ChatRequest" in references

    def test_its_examples_are_as_its_schemas_have_them(self, served: dict[str, Any]) -> None:
        for example in served["components"]["schemas"]["ChatRequest"]["examples"]:
            assert accepts("ChatRequest", example)
            assert read_request(json.dumps(example).encode())
        for name in ("Answer", "SpokenAnswer"):
            example = told()["components"]["responses"][name]["content"]["text/event-stream"]["example"]
            *events, done, after = example.split("\n\n")
            assert (done, after) == ("data: [DONE]", "")
            assert len(events) > 3
            assert all(accepts("ChatCompletionChunk", json.loads(each.removeprefix("data: "))) for each in events)

    def test_only_health_is_open_where_a_key_is_needed(self, served: dict[str, Any]) -> None:
        without = [
            path for path, item in served["paths"].items() for each in item.values() if "401" not in each["responses"]
        ]

        assert served["security"] == [{"bearer": []}]
        assert without == ["/health"]
        assert served["paths"]["/health"]["get"]["security"] == []
        assert told(needs_key=False)["security"] == []

    def test_a_worker_that_drains_says_so_in_its_own_form(self, served: dict[str, Any]) -> None:
        schema = served["paths"]["/ready"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]

        allowed = jsonschema_rs.validator_for({**schema, "components": served["components"]})
        assert allowed.is_valid({"status": "draining"})
        assert allowed.is_valid(json.loads(error_json(Superseded().failure())))
        assert not allowed.is_valid({"status": "ready"})

    def test_both_languages_tell_the_same(self) -> None:
        en, zh = told("en"), told("zh")

        assert _shape(en) == _shape(zh)
        assert zh["paths"]["/health"]["get"]["summary"] == "存活"

    def test_it_holds_no_setting_and_no_key(self, server: RunningServer) -> None:
        for path in ("/openapi.json", "/docs"):
            assert KEY.encode() not in server.get(path).body


REQUESTS: list[tuple[Any, bool]] = [
    ({"messages": HELLO}, True),
    ({"messages": [{"role": "assistant"}], "whatever": {"deep": [1]}}, True),
    ({"messages": [{"role": "tool", "content": None, "tool_calls": None, "turn_id": "x"}]}, True),
    ({"messages": [{"role": "user", "content": [{}, {"type": 7}]}], "turn_id": None, "timestamp": []}, True),
    ({"messages": HELLO, "stream": None, "stream_options": {"include_usage": None, "x": 1}, "tools": []}, True),
    ({"messages": HELLO, "model": None, "params": {"x": 1}, "metadata": 5, "context": 3, "interruptable": "no"}, True),
    ({"messages": [{"role": role} for role in ("developer", "system", "user", "tool", "function")]}, True),
    ([], False),
    ("text", False),
    ({}, False),
    ({"messages": []}, False),
    ({"messages": None}, False),
    ({"messages": "hello"}, False),
    ({"messages": [None]}, False),
    ({"messages": [{}]}, False),
    ({"messages": [{"role": "robot"}]}, False),
    ({"messages": [{"role": None}]}, False),
    ({"messages": [{"role": "user", "content": 5}]}, False),
    ({"messages": [{"role": "user", "content": ["text"]}]}, False),
    ({"messages": [{"role": "user", "content": {}}]}, False),
    ({"messages": [{"role": "assistant", "tool_calls": {}}]}, False),
    ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, False),
    ({"messages": HELLO, "model": 5}, False),
    ({"messages": HELLO, "stream": "yes"}, False),
    ({"messages": HELLO, "stream": 1}, False),
    ({"messages": HELLO, "stream_options": []}, False),
    ({"messages": HELLO, "stream_options": {"include_usage": 1}}, False),
    ({"messages": HELLO, "tools": {}}, False),
    ({"messages": HELLO, "tools": [None]}, False),
    ({"messages": HELLO, "params": []}, False),
]


class TestSchemas:
    @pytest.mark.parametrize(("body", "good"), REQUESTS, ids=lambda value: json.dumps(value)[:60])
    def test_a_request_is_read_just_where_its_schema_allows_it(self, body: Any, good: bool) -> None:
        try:
            is_read = bool(read_request(json.dumps(body).encode()))
        except BadRequest:
            is_read = False

        assert (is_read, accepts("ChatRequest", body)) == (good, good)

    @pytest.mark.parametrize(
        ("fields", "good"),
        [
            ({}, True),
            ({"modalities": None, "audio": None}, True),
            ({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "pcm16"}}, True),
            ({"audio": {"voice": {"id": "a"}}}, True),
            ({"modalities": "audio"}, False),
            ({"modalities": ["video"]}, False),
            ({"audio": []}, False),
            ({"audio": {"voice": 5}}, False),
            ({"stream": 5}, False),
        ],
        ids=str,
    )
    def test_a_spoken_turn_may_say_what_it_wants_to_hear(self, fields: dict[str, Any], good: bool) -> None:
        assert accepts("SpokenRequest", {"messages": HELLO, **fields}) == good

    @pytest.mark.parametrize(
        "failure",
        [
            BadRequest("No.", param="messages[2].role", code="invalid_type"),
            ServerError("No."),
            Superseded().failure(),
        ],
        ids=lambda failure: type(failure).__name__,
    )
    def test_an_error_is_what_the_server_writes(self, failure: Failure) -> None:
        assert accepts("Error", json.loads(error_json(failure)))
        assert not accepts("Error", {"error": {"message": "No.", "type": "x", "code": None}})
        assert not accepts("Error", {"detail": "No."})

    def test_control_metadata_says_nothing(self) -> None:
        chunk = {"object": CONTROL, "choices": [], "metadata": {"interruptable": False, "tts_params": {"x": 1}}}

        assert accepts("ControlChunk", chunk)
        assert not accepts("ControlChunk", {**chunk, "choices": [{}]})


class TestPage:
    def test_it_shows_each_operation_each_schema_and_each_failure(
        self, server: RunningServer, served: dict[str, Any]
    ) -> None:
        shown = Page(server.get("/docs").body.decode())

        ids = shown.values("id")
        assert {each["operationId"] for item in served["paths"].values() for each in item.values()} <= ids
        assert served["components"]["schemas"].keys() <= ids
        assert {each["name"] for each in served["components"]["parameters"].values()} <= set(shown.texts)
        assert {f"status-{name}" if name.isdigit() else name for name in served["components"]["responses"]} <= ids
        links = {link.removeprefix("#") for link in shown.values("href") if link.startswith("#")}
        assert links <= ids

    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_it_takes_nothing_from_elsewhere_and_runs_nothing(self, server: RunningServer, language: str) -> None:
        answer = server.get(f"/docs?lang={language}")
        shown = Page(answer.body.decode())

        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert shown.tags.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
        assert not [value for name, value in shown.attributes if name.startswith("on") or name in ("src", "style")]
        assert all(link.startswith(("#", "?", "openapi.json?")) for link in shown.values("href"))
        assert len(answer.body) < 64 * 1024

    def test_whatever_it_shows_stays_text(self) -> None:
        evil = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>&amp;"
        found = _poisoned(told(), evil)
        found["paths"][f"/{evil}"] = found["paths"].pop("/else")
        found["components"]["schemas"][evil] = found["components"]["schemas"].pop("Usage")

        shown = Page(page(found, "en", f"http://{evil}"))

        assert shown.tags.isdisjoint({"script", "img"})
        assert "onerror" not in dict(shown.attributes)
        assert evil in "".join(shown.texts)
        assert f"http://{evil}/{evil}" in [shlex.split(command)[-1] for command in shown.commands]

    def test_its_commands_work_in_a_shell(self, demo: RunningServer) -> None:
        commands = Page(demo.get("/docs").body.decode()).commands

        said = {}
        for command in commands:
            done = subprocess.run(
                ["sh", "-c", f"{command} --silent --show-error --fail"],
                env={**os.environ, "KEY": KEY},
                capture_output=True,
                text=True,
                timeout=20,
            )
            said[shlex.split(command)[-1].removeprefix(demo.url)] = (done.returncode, done.stdout)

        assert {code for code, _ in said.values()} == {0}
        assert said["/chat/completions"][1].endswith("data: [DONE]\n\n")
        assert json.loads(said["/health"][1]) == {"status": "ok"}

    def test_a_host_that_is_none_is_not_shown(self, server: RunningServer) -> None:
        for host in ("x'$(id)", "a;id", "<b>", "[::1"):
            answer = server.get("/docs", {"Host": host})

            assert answer.status == 200
            targets = [shlex.split(command)[-1] for command in Page(answer.body.decode()).commands]
            assert targets[0] == "http:///chat/completions"


class TestLanguage:
    @pytest.mark.parametrize(
        ("asked", "accepted", "language"),
        [
            ("", None, "en"),
            ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
            ("", "en-GB,zh;q=0.5", "en"),
            ("", "fr", "en"),
            ("", ";;;q=x,\xff", "en"),
            ("?lang=zh", "en", "zh"),
            ("?lang=en", "zh", "en"),
            ("?lang=xx", "zh", "zh"),
            ("?lang=", "zh", "zh"),
            ("?lang=%FF%00", None, "en"),
        ],
    )
    def test_the_query_decides_and_else_the_browser(
        self, server: RunningServer, asked: str, accepted: str | None, language: str
    ) -> None:
        headers = {"Accept-Language": accepted} if accepted else {}

        pages = [server.get(f"{path}{asked}", headers) for path in ("/docs", "/openapi.json")]

        assert [answer.status for answer in pages] == [200, 200]
        assert all(answer.headers["Vary"] == "Accept-Language" for answer in pages)
        assert f'<html lang="{language}">' in pages[0].body.decode()
        assert ("语音智能体" in pages[0].body.decode()) == (language == "zh")
        assert ("语音智能体" in pages[1].json["info"]["description"]) == (language == "zh")


def test_the_demo_asks_for_no_key(demo: RunningServer) -> None:
    found = demo.request("GET", "/openapi.json").json
    shown = Page(demo.request("GET", "/docs").body.decode())

    assert found["security"] == []
    assert not [command for command in shown.commands if "Authorization" in command]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [node["$ref"]] if "$ref" in node else [each for value in node.values() for each in _references(value)]
    return [each for value in node for each in _references(value)] if isinstance(node, list) else []


def _shape(node: Any) -> Any:
    """Return a document without the words in which it is said."""
    if isinstance(node, dict):
        return {key: _shape(value) for key, value in node.items() if key not in ("description", "summary")}
    return [_shape(value) for value in node] if isinstance(node, list) else node


def _poisoned(node: Any, evil: str) -> Any:
    """Return a document that says something evil wherever it says something."""
    if isinstance(node, dict):
        told = {key: _poisoned(value, evil) for key, value in node.items()}
        words = {key: evil for key in ("description", "summary", "title", "operationId", "example") if key in node}
        return told | {key: value for key, value in words.items() if isinstance(node[key], str)}
    return [_poisoned(value, evil) for value in node] if isinstance(node, list) else node
