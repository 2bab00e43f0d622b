"""Schemathesis, which makes requests of a server's OpenAPI document, finds nothing: no 5xx, nothing undocumented."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import KEY, RunningServer, clean_environment, running_server
from scripted_upstream import COMPLETION, DONE, HEAD, ROLE, Asked, ScriptedUpstream, Step, answer, event, framed, reply

MODELS = {"object": "list", "data": [{"id": "up-1", "object": "model"}]}
FAULTS: list[list[Step]] = [
    *(reply(status, {"error": {"message": "No."}}) for status in (400, 401, 403, 404, 413, 422, 418)),
    reply(429, {"error": {"message": "Wait."}}, Retry_After="7"),
    reply(200, b"<html><title>Hello</title></html>", "text/html"),
    reply(200, b"garbage"),
    reply(200, []),
    [HEAD + framed(event(ROLE)), "close"],
    [HEAD + framed(event(ROLE) + event({"error": {"message": "No."}}) + DONE), "close"],
    [HEAD + framed(event(ROLE) + event(b"{")), "reset"],
    ["close"],
]


def well(asked: Asked) -> list[Step]:
    """Answer as a good upstream does."""
    if asked.method == "GET":
        return reply(200, MODELS)
    return answer("Hello", " there.") if asked.body["stream"] else reply(200, COMPLETION)


def run(server: RunningServer, folder: Path, *options: str, examples: int = 8) -> str:
    """Let schemathesis try a server, the same requests each time; return what it tells, or fail with that."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
    command += ["--header", f"Authorization: Bearer {KEY}", "--generation-deterministic", "--no-shrink"]
    command += ["--max-examples", str(examples), "--request-timeout", "10", "--max-failures", "5", *options]
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr + server.log[-4000:]
    assert "Traceback" not in server.log
    return done.stdout


@pytest.fixture
def upstream(upstream: ScriptedUpstream) -> ScriptedUpstream:
    """An upstream that is well."""
    upstream.judge = well
    return upstream


@pytest.fixture(scope="module")
def named(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that asks the scripted upstream, and names a model where a request does not."""
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, LLM_MODEL="up-1") as running:
        yield running


def test_the_demo_keeps_all_that_its_document_says(tmp_path: Path) -> None:
    # of the turns the one that has most to it; the relay is tried in the next test
    others = ["--exclude-path-regex", "^/(?!rag/audio/).*completions$"]
    with running_server(AUDIO_LEAD_MS="0") as demo:
        told = run(demo, tmp_path, "--checks", "all", "--phases", "examples,coverage,fuzzing", *others)

    assert "No issues found" in told


def test_a_server_with_a_key_and_an_upstream_keeps_all_that_its_document_says(
    named: RunningServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    relayed = ["--include-path", "/chat/completions", "--include-path", "/models", "--include-path", "/ready"]

    told = run(named, tmp_path, "--checks", "all", "--phases", "examples,coverage,fuzzing", *relayed, examples=24)

    assert "No issues found" in told
    assert len(upstream.asked) > 20


def test_an_upstream_that_fails_is_told_of_as_the_document_says(
    named: RunningServer, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    turns = iter(range(10**6))
    upstream.judge = lambda asked: FAULTS[next(turns) % len(FAULTS)]
    checks = "status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
    relayed = ["--include-path", "/chat/completions", "--include-path", "/models"]

    told = run(named, tmp_path, "--checks", checks, "--mode", "positive", "--phases", "coverage,fuzzing", *relayed)

    assert "No issues found" in told
    assert len(upstream.asked) > len(FAULTS)
