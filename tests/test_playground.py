"""The page at /playground as files: how it is served, to whom, and what may be in it."""

import gzip
import json
import re
from collections.abc import Iterator

import pytest
from running_server import KEY, ROOT, RunningServer, running_server
from scripted_upstream import ScriptedUpstream

FOLDER = ROOT / "static" / "playground"
FILES = {path.name: path.read_text() for path in FOLDER.iterdir()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
HTML = FILES["index.html"]
ALL_OF_IT = ["/playground", *(f"/playground/{name}" for name in FILES if name != "index.html")]
LIMIT = 60_000  # bytes over the wire


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    """A server that needs no key."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def passing_through(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server whose callers bring a key for the upstream."""
    with running_server(LLM_BASE_URL=_upstream.url) as running:
        yield running


class TestServing:
    @pytest.mark.parametrize("path", ALL_OF_IT)
    def test_each_file_is_served_under_a_strict_policy(self, demo: RunningServer, path: str) -> None:
        answer = demo.request("GET", path)

        assert answer.status == 200
        assert answer.body.decode() == FILES[path.removeprefix("/playground").strip("/") or "index.html"]
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy.pop("img-src") == "'self' data:"
        assert policy.pop("media-src") == "blob:"
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert {policy.pop(name) for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert policy.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors"}
        assert set(policy.values()) == {"'none'"}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-cache"

    def test_a_browser_gets_it_small(self, demo: RunningServer) -> None:
        answers = [demo.request("GET", path, None, {"Accept-Encoding": "gzip, br"}) for path in ALL_OF_IT]

        assert {answer.headers["Content-Encoding"] for answer in answers} == {"gzip"}
        assert {answer.headers["Vary"] for answer in answers} == {"Accept-Encoding"}
        assert sum(len(answer.body) for answer in answers) <= LIMIT
        assert gzip.decompress(answers[0].body).decode() == HTML

    @pytest.mark.parametrize("encoding", ["gzip", "identity", "gzip;q=0"])
    def test_what_a_browser_has_is_not_sent_again(self, demo: RunningServer, encoding: str) -> None:
        headers = {"Accept-Encoding": encoding}
        first = demo.request("GET", "/playground", None, headers)

        again = demo.request("GET", "/playground", None, {**headers, "If-None-Match": first.headers["ETag"]})
        other = demo.request("GET", "/playground", None, {**headers, "If-None-Match": '"other"'})

        assert again.status == 304
        assert again.body == b""
        assert again.headers["Content-Security-Policy"]
        assert (other.status, other.body) == (200, first.body)
        assert ("Content-Encoding" in first.headers) == (encoding == "gzip")

    def test_the_two_encodings_have_tags_of_their_own(self, demo: RunningServer) -> None:
        tags = {
            demo.request("GET", "/playground", None, {"Accept-Encoding": encoding}).headers["ETag"]
            for encoding in ("gzip", "identity")
        }

        assert len(tags) == 2

    @pytest.mark.parametrize(
        "path",
        [
            "/playground/../app.py",
            "/playground/..%2fapp.py",
            "/playground/%2e%2e/%2e%2e/app.py",
            "/playground/%2e%2e%2f%2e%2e%2fapp.py",
            "/playground//etc/passwd",
            "/playground/..",
            "/playground/.",
            "/playground/main.js/",
            "/playground/main.js%00",
            "/playground/index.html",
            "/playground/no.js",
            "/static/playground/main.js",
        ],
    )
    def test_nothing_else_is_served(self, demo: RunningServer, path: str) -> None:
        answer = demo.request("GET", path)

        assert answer.status == 404
        assert answer.json["error"]["code"] == "not_found"


class TestAccess:
    def test_the_page_needs_no_key_and_what_it_asks_does(self, server: RunningServer) -> None:
        answers = [server.request("GET", path) for path in (*ALL_OF_IT, "/playground/endpoints")]

        *page, endpoints = answers
        assert {answer.status for answer in page} == {200}
        assert endpoints.status == 401
        assert KEY.encode() not in b"".join(answer.body for answer in answers)

    def test_the_right_key_is_told_what_can_be_talked_to(self, server: RunningServer) -> None:
        answer = server.get("/playground/endpoints")

        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert {"demo": False, "needs_key": True, "model": None}.items() <= answer.json.items()

    def test_each_endpoint_is_told_once_and_can_be_asked(self, demo: RunningServer) -> None:
        said = demo.request("GET", "/playground/endpoints").json

        assert {"demo": True, "needs_key": False, "model": "demo", "audio_hz": 16000}.items() <= said.items()
        paths = [each["path"] for each in said["endpoints"]]
        assert paths[:3] == ["/chat/completions", "/audio/chat/completions", "/rag/chat/completions"]
        assert len(set(paths)) == len(paths)
        assert not any("v1" in path for path in paths)
        assert {demo.get(path).status for path in paths} == {405}, "they are asked with POST"
        assert all(each.keys() == {"name", "path", "audio", "about"} for each in said["endpoints"])
        names = [each["name"] for each in said["endpoints"]]
        assert names[:4] == ["chat", "audio", "rag", "rag/audio"]
        assert names[4::2] == [name.removesuffix("/audio") for name in names[5::2]], "an agent is told beside its voice"
        assert [each["audio"] for each in said["endpoints"]] == [name.endswith("audio") for name in names]
        assert all(each["about"] for each in said["endpoints"])

    def test_a_caller_with_a_key_of_their_own_is_told_too(self, passing_through: RunningServer) -> None:
        answer = passing_through.get("/playground/endpoints")

        assert answer.status == 200
        assert answer.json["needs_key"] is True
        assert passing_through.request("GET", "/playground/endpoints").status == 401
        assert passing_through.request("GET", "/playground").status == 200


class TestFiles:
    def test_nothing_is_loaded_from_elsewhere(self) -> None:
        named = re.findall(r'(?:src|href)="([^"]+)"', HTML)
        named += [name for text in SCRIPTS.values() for name in re.findall(r'^import .* from "([^"]+)"', text, re.M)]

        assert len(named) > 20
        assert {name.split("/")[0] for name in named if not name.startswith("data:")} == {"playground", "."}
        assert not re.search(r"@import|@font-face|url\(", FILES["style.css"])

    def test_no_script_and_no_style_is_inline(self) -> None:
        assert re.findall(r"<script\b(?![^>]*\bsrc=)", HTML) == []
        assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", HTML) == []

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_no_script_makes_html_or_code_of_text(self, name: str) -> None:
        ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|srcdoc|setHTML"

        assert re.findall(ways, SCRIPTS[name]) == []

    def test_the_html_preloads_each_module_and_no_other(self) -> None:
        named = re.findall(r'(?:modulepreload" href|script type="module" src)="playground/([^"]+)"', HTML)

        assert sorted(named) == sorted(SCRIPTS)

    def test_the_key_is_kept_in_the_tab_only(self) -> None:
        scripts = "".join(SCRIPTS.values())

        assert "sessionStorage" in scripts
        assert not re.search(r"localStorage|document\.cookie|indexedDB", scripts)


class TestTexts:
    ENTRIES = re.findall(
        r'^  (\w+): \[\s*("(?:[^"\\]|\\.)*"),\s*("(?:[^"\\]|\\.)*"),?\s*\],$', FILES["texts.js"], re.MULTILINE
    )
    TEXTS = {name: (json.loads(english), json.loads(chinese)) for name, english, chinese in ENTRIES}

    def test_every_entry_is_read_here(self) -> None:
        assert len(self.TEXTS) == len(re.findall(r"^  \w+: \[", FILES["texts.js"], re.MULTILINE)) > 100

    def test_both_languages_have_the_same_values(self) -> None:
        for name, (english, chinese) in self.TEXTS.items():
            assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), name
            assert not re.search(r"[\u4e00-\u9fff]", english), name

    def test_each_text_that_is_named_is_there(self) -> None:
        scripts = "".join(SCRIPTS.values())
        named = set(re.findall(r'\bt\("(\w+)"', scripts)) | set(re.findall(r'data-(?:t|label|hint)="(\w+)"', HTML))
        named |= set(re.findall(r'\.find\("\w+", "(\w+)"', scripts))

        assert len(named) > 80
        assert named <= self.TEXTS.keys()

    def test_each_text_is_named(self) -> None:
        rest = HTML + "".join(text for name, text in SCRIPTS.items() if name != "texts.js")
        made = re.findall(r"`(\w+_)\$\{", rest)  # kind_${…}

        unused = [
            name
            for name in self.TEXTS
            if f'"{name}"' not in rest
            and not name.startswith(tuple(made))
            and name.removesuffix("_about") not in self.TEXTS.keys() - {name}
        ]

        assert unused == []
