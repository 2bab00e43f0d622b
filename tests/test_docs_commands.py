"""What the README tells the reader to run is run, and says what the README says that it says."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from binascii import a2b_base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from readme import CHINESE, ENGLISH, PAGES, Block, Page
from running_server import HELLO, KEY, ROOT, RunningServer, clean_environment, free_port, running_server, turn
from scripted_upstream import ScriptedUpstream, answer
from test_tools import call, calling, results

# what README tells the reader to run, and this file does not
NOT_RUN = {
    "script/test": "it would run this test again",
    "script/doctor http://localhost:8000/chat/completions": "tests/test_doctor.py runs it",
    "ngrok http 8000": "needs a network and an account",
    "cloudflared tunnel --url http://localhost:8000": "needs a network",
    "curl -u \"$AGORA_CUSTOMER_ID:$AGORA_CUSTOMER_SECRET\" -H 'Content-Type: application/json' -d @start-agent.json "
    '"https://api.agora.io/api/conversational-ai-agent/v2/projects/$AGORA_APP_ID/join"': "needs a network and keys",
}
STARTS = re.compile(r"(?:\w+=\S+ )?(?:script/server|python3 app\.py|gunicorn wsgi:app|flask --app app run)")


def is_curl(block: Block) -> bool:
    """Tell whether a block asks the server that the reader has just started."""
    return block.text.startswith("curl ") and "http://localhost:8000/" in block.text


START_BLOCKS = [block for block in ENGLISH.blocks_in("sh") if STARTS.fullmatch(block.commands[-1])]
CURLS = [
    pytest.param(page, block, id=f"{page.path.stem}-{number}")
    for page in (ENGLISH, CHINESE)
    for number, block in enumerate(page.blocks_in("sh"))
    if is_curl(block)
]


class TestCommands:
    def test_every_command_is_run_here_or_is_known_not_to_be(self) -> None:
        shown = {command for block in ENGLISH.blocks_in("sh") for command in block.commands}
        run = {command for block in START_BLOCKS for command in block.commands}
        run |= {command for block in ENGLISH.blocks_in("sh") if is_curl(block) for command in block.commands}

        assert shown == run | NOT_RUN.keys()

    def test_the_agents_request_calls_what_is_served(self, demo: RunningServer) -> None:
        (block,) = (block for block in ENGLISH.blocks_in("json") if "llm" in block.text)
        llm: dict[str, Any] = json.loads(block.text)["properties"]["llm"]
        path = re.sub(r"^https://[^/]+", "", llm["url"])
        messages = [*llm["system_messages"], {"role": "user", "content": "Hello!", "turn_id": 1, "timestamp": 1}]

        answer = demo.ask({**llm["params"], "stream": True, "turn_id": 1, "messages": messages}, path)

        assert answer.status == 200
        assert answer.finish_reasons == ["stop"]

    @pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
    @pytest.mark.parametrize(("page", "block"), CURLS)
    def test_the_demo_answers_each_curl(self, page: Page, block: Block, demo: RunningServer) -> None:
        said = curl(block, demo)

        assert any(mark in said for mark in ('"model":"demo"', '"model":"default"', '"upstream":"demo"'))
        if (expected := page.after(block)).language == "text":
            beginning, _, end = expected.text.partition("\n…\n")
            assert said.startswith(beginning.strip())
            assert said.endswith(end.strip())

    @PAGES
    def test_a_chunk_of_sound_has_what_is_shown(self, page: Page, demo: RunningServer) -> None:
        (block,) = (block for block in page.blocks_in("json") if "words" in block.text)
        shown = json.loads(block.text)["choices"][0]

        answer = demo.ask({"stream": True, "messages": HELLO}, "/audio/chat/completions")

        choices = [chunk["choices"][0] for chunk in answer.chunks]
        sounds = [choice["delta"]["audio"] for choice in choices if "audio" in choice["delta"]]
        assert shown.keys() == choices[0].keys()
        assert shown["delta"]["audio"].keys() == {name for sound in sounds for name in sound}
        first = next(sound["words"][0] for sound in sounds if "words" in sound)
        assert first.keys() == shown["delta"]["audio"]["words"][0].keys()
        assert first["text"] == sounds[0]["transcript"] == shown["delta"]["audio"]["transcript"]
        assert f" {len(a2b_base64(sounds[0]['data'])):,} bytes" in block.text

    def test_the_agent_that_is_shown_offers_its_tool(self, upstream: ScriptedUpstream, agents_dir: Path) -> None:
        with running_server(AGENTS_DIR=agents_dir, LLM_BASE_URL=upstream.url, LLM_API_KEY=KEY) as server:
            upstream.say(calling(call("opening_hours", day="Sunday")), answer("We are closed."))

            got = server.ask(turn(), "/desk/chat/completions")

        assert got.text == "We are closed."
        assert results(upstream) == ["closed"]

    @pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
    @PAGES
    def test_a_real_llm_answers_the_curl_with_its_key(
        self, page: Page, server: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        (block,) = (block for block in page.blocks_in("sh") if "$LLM_API_KEY" in block.text)

        said = curl(block, server)

        assert '"Hello"' in said
        assert said.endswith("data: [DONE]")
        assert upstream.wait_for(1).headers["authorization"] == f"Bearer {KEY}"


@pytest.fixture(scope="module")
def agents_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the reader has saved the agent that README shows."""
    return save_agent(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def demo(agents_dir: Path) -> Iterator[RunningServer]:
    with running_server(AGENTS_DIR=agents_dir, AUDIO_LEAD_MS=0) as running:
        yield running


def save_agent(folder: Path) -> Path:
    """Save the agent that README shows where README says, and return its folder."""
    (block,) = (block for block in ENGLISH.blocks_in("python") if "def answer(turn)" in block.text)
    file = folder / "my-agents/desk.py"
    assert all(f"`{file.relative_to(folder)}`" in page.text for page in (ENGLISH, CHINESE))
    file.parent.mkdir()
    file.write_text(block.text)
    return file.parent


def curl(block: Block, server: RunningServer) -> str:
    """Run a block against a server, and return what it says with its times and ids left out."""
    command = block.text.replace("http://localhost:8000", server.url)
    ended = subprocess.run(
        ["sh", "-ec", command], env=clean_environment(LLM_API_KEY=KEY), capture_output=True, text=True, timeout=20
    )
    assert ended.returncode == 0, ended.stderr
    return re.sub(r'(?<="created":)\d+|(?<="id":"chatcmpl-)\w+', "…", ended.stdout).strip()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository as it is after `git clone`, but that pip need not fetch gunicorn's command."""
    tree = tmp_path_factory.mktemp("clone") / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks"))
    shutil.copy(ROOT / ".env.example", tree)
    save_agent(tree)
    (tree / ".venv/bin").mkdir(parents=True)
    (tree / ".venv/bin/gunicorn").symlink_to(Path(sys.prefix, "bin/gunicorn"))
    return tree


@pytest.mark.once
class TestStarting:
    @pytest.mark.parametrize("block", START_BLOCKS, ids=lambda block: block.commands[-1])
    def test_each_way_to_start_the_server_starts_it(self, block: Block, tree: Path) -> None:
        port = str(free_port())
        # new environments find here what pip would have to fetch, and so it fetches nothing
        installed = {"PYTHONPATH": sysconfig.get_path("purelib"), "PIP_NO_INDEX": "1"}
        path = os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ["PATH"]])

        with running_server(
            "sh", "-ec", block.text, cwd=tree, ENV_FILE="", PORT=port, FLASK_RUN_PORT=port, PATH=path, **installed
        ) as server:
            said = server.log

        assert "custom-llm-server: " in said
        if (expected := ENGLISH.after(block)).language == "text":
            assert expected.text.replace("8000", port) in said
