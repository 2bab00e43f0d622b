"""What tests share: a scripted upstream, and the real server in front of it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from running_server import FLASK, KEY, RunningServer, running_server
from scripted_upstream import ScriptedUpstream, answer, scripted_upstream

# on a machine that is busy an example may take its time
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


# what takes longest and is the same in every Python; script/test runs it with one of them
ONCE = {
    "test_access",
    "test_agents",
    "test_audio_benchmark",
    "test_audio_espeak",
    "test_audio_sentences",
    "test_audio_sources",
    "test_audio_speech_server",
    "test_audio_voices",
    "test_benchmarks",
    "test_cross_origin",
    "test_deployment",
    "test_docs_agents",
    "test_docs_audio",
    "test_docs_commands",
    "test_docs_knowledge",
    "test_docs_security",
    "test_doctor",
    "test_drain",
    "test_failures",
    "test_hangup",
    "test_hostile_injection",
    "test_hostile_peers",
    "test_hostile_requests",
    "test_kept_connections",
    "test_knowledge_indexer",
    "test_metrics",
    "test_openapi",
    "test_overload",
    "test_playground",
    "test_playground_people",
    "test_playground_sight",
    "test_playground_sound",
    "test_playground_talk",
    "test_rag",
    "test_rag_folder",
    "test_rag_remote",
    "test_retries",
    "test_schemathesis",
    "test_sdk",
    "test_shared_sessions",
    "test_soak",
    "test_start",
    "test_status",
    "test_superseding",
    "test_time",
    "test_trace",
    "test_upstreams",
}


# what measures, and is disturbed by others at work; script/test runs it by itself
ALONE = {
    "test_audio_benchmark",
    "test_benchmarks",
    "test_playground_sound",
    "test_retries",
    "test_time",
}


MEASURE_TOO = {"test_hostile_peers", "test_rag_folder"}
"""Files of which some tests measure."""


# what takes longest begins first: a file is one process's, and none is to be left with a long one at the end
LONG = [
    "test_soak",
    "test_rag_folder",
    "test_start",
    "test_playground_people",
    "test_doctor",
    "test_playground_talk",
    "test_playground_sight",
    "test_schemathesis",
    "test_drain",
]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the files unread of which nothing is wanted: reading all of them takes seconds in each process."""
    wanted, name = config.option.markexpr, collection_path.stem
    if not name.startswith("test_"):
        return None
    is_left_out = ("not once" in wanted and name in ONCE) or ("not alone" in wanted and name in ALONE)
    return True if is_left_out or (wanted == "alone" and name not in ALONE | MEASURE_TOO) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the files that one Python is enough for, and those that are run by themselves; put the long ones first."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    for item in items:
        if item.path.stem in ONCE:
            item.add_marker(pytest.mark.once)
        if item.path.stem in ALONE:
            item.add_marker(pytest.mark.alone)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail what was not run where everything must be, as in CI; pytest's summary names it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("ALL") == "1" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def _upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The upstream behind `server` and `dev_server`, which says hello until a test has it say something else."""
    _upstream.say(answer("Hello", " there."))
    return _upstream


@pytest.fixture(scope="session")
def server(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """gunicorn, with a key and short time limits."""
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **SHORT) as running:
        yield running


@pytest.fixture(scope="session")
def dev_server(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """Flask's development server with the same settings."""
    with running_server(*FLASK, LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **SHORT) as running:
        yield running


SHORT: dict[str, Any] = {"FIRST_TOKEN_S": "0.8", "STALL_S": "0.8", "TOTAL_S": "4", "KEEPALIVE_S": "0.3", "WRITE_S": "1"}


@pytest.fixture(params=["gunicorn", "the development server"])
def either(request: pytest.FixtureRequest) -> RunningServer:
    """Each of the two servers in turn."""
    running: RunningServer = request.getfixturevalue("server" if request.param == "gunicorn" else "dev_server")
    return running


@pytest.fixture(scope="session")
def tuned(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server whose settings say how the upstream is asked."""
    settings: dict[str, Any] = {
        "LLM_BASE_URL": f"{_upstream.url}/deployments/d/?api-version=7&x=a%20b",
        "LLM_API_KEY": KEY,
        "LLM_KEY_HEADER": "api-key",
        "LLM_HEADERS": '{"X-Team":"voice"}',
        "LLM_MODEL": "house-1",
        "LLM_DROP_FIELDS": "account,notes",
        "THINK": "hide",
        "ASSISTANT_LAST": "forward",
    }
    with running_server(**settings) as running:
        yield running
