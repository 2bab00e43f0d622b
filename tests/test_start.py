"""Every way of starting the server, and what each says when it can't."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from running_server import (
    DEV,
    FLASK,
    GUNICORN,
    HELLO,
    ROOT,
    RunningServer,
    clean_environment,
    free_port,
    running_server,
)

SCRIPT = ("script/server",)
WAYS = {"script/server": SCRIPT, "gunicorn": GUNICORN, "flask run": FLASK, "app.py": DEV}
PASS_THROUGH: dict[str, Any] = {"LLM_BASE_URL": "http://127.0.0.1:9/v1"}
CANARY = "s3cret-canary"
JSON = {"Content-Type": "application/json"}
TURN = json.dumps({"stream": True, "messages": HELLO}).encode()

# an interpreter that notes how it is called, and makes an environment out of the one that runs the tests
INTERPRETER = """#!/bin/sh
echo "$*" >>"{calls}"
case "$*" in
    -V) echo "Python 3.9.1" ;;
    *version_info*) exit {too_old} ;;
    *"import venv"*) exit {no_venv} ;;
    "-m venv "*) mkdir -p "$3/bin" && ln -sf "{prefix}/bin/gunicorn" "$3/bin/" && cp "$0" "$3/bin/python" ;;
    "-m pip "*) exit {no_pip} ;;
esac
"""


class Interpreters:
    """A folder for PATH in which there are a shell's tools, and such interpreters as a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        for tool in ("cat", "cp", "dirname", "ln", "mkdir"):
            found = shutil.which(tool)
            assert found
            (folder / tool).symlink_to(found)

    @property
    def calls(self) -> list[str]:
        """Return the arguments of each call so far."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def add(self, name: str = "python3", fault: str = "") -> None:
        """Add an interpreter, perhaps one that is `too_old`, has `no_venv` or `no_pip`."""
        said: dict[str, Any] = {each: int(each == fault) for each in ("too_old", "no_venv", "no_pip")}
        said |= {"calls": self._calls, "prefix": sys.prefix}
        (self.folder / name).write_text(INTERPRETER.format(**said))
        (self.folder / name).chmod(0o755)


@pytest.fixture
def interpreters(tmp_path: Path) -> Interpreters:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Interpreters(folder)


def copy_of_the_tree(folder: Path) -> Path:
    """Copy what git keeps of this server: no environment, no `.env`."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks", "docs")
    shutil.copytree(ROOT, folder, ignore=left_out)
    shutil.copy(ROOT / ".env.example", folder)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_of_the_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def ready_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree that script/setup has been in."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "bin").mkdir()
    interpreters = Interpreters(folder / "bin")
    interpreters.add()
    tree = copy_of_the_tree(folder / "tree")
    subprocess.run(
        ["script/setup", ".venv", "requirements.txt"], cwd=tree, env={"PATH": str(folder / "bin")}, check=True
    )
    return tree


def run(*command: str, cwd: Path = ROOT, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run what should end by itself."""
    environment = clean_environment(**{"PORT": free_port(), **settings})
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=20)


def complaint(*command: str, cwd: Path = ROOT, **settings: Any) -> str:
    """Run a server that can't start, and return the one line that it says."""
    ended = run(*command, cwd=cwd, **settings)
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("custom-llm-server: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def can_connect(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def is_alive(group: int) -> bool:
    """Tell whether a process of the server's group is left."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def demo(way: str, ready_tree: Path) -> Iterator[RunningServer]:
    with running_server(*WAYS[way], cwd=ready_tree) as server:
        yield server


class TestEachWay:
    def test_the_demo_answers_without_a_key(self, demo: RunningServer) -> None:
        answer = demo.request("POST", "/chat/completions", TURN, JSON)

        assert answer.status == 200
        assert "LLM_API_KEY" in answer.text
        assert answer.finish_reasons == ["stop"]

    def test_the_curl_that_the_index_names_works(self, demo: RunningServer) -> None:
        if not shutil.which("curl"):
            pytest.skip("curl is missing")
        index = demo.request("GET", "/").json

        shown = subprocess.run(["sh", "-c", index["try"]], capture_output=True, text=True, timeout=20, check=True)

        assert shown.stdout.endswith("data: [DONE]\n\n")
        assert '"content":"Hello! "' in shown.stdout

    def test_the_startup_line_and_the_index_say_that_it_is_the_demo(self, demo: RunningServer) -> None:
        line = demo.wait_for_log("demo", timeout=1)

        assert line.startswith("custom-llm-server: ")
        for said in (line, demo.request("GET", "/").json["demo"]):
            assert "demo model" in said
            assert "LLM_API_KEY" in said
            assert "LLM_BASE_URL" in said

    # the last of these: it ends the server that those before it share
    def test_sigterm_ends_it_and_leaves_no_process(self, way: str, demo: RunningServer) -> None:
        returncode = demo.stop(timeout=5)

        assert returncode == (-signal.SIGTERM if way in ("flask run", "app.py") else 0)
        assert not is_alive(demo.process.pid)
        assert not can_connect("127.0.0.1", demo.port)
        assert "Traceback" not in demo.log


@pytest.mark.once
class TestManually:
    def test_app_py_heeds_the_env_file_beside_it(self, tree: Path) -> None:
        shutil.copy(tree / ".env.example", tree / ".env")
        with (tree / ".env").open("a") as file:
            file.write("\nSERVER_API_KEYS=from-the-file\n")

        with running_server(*DEV, cwd=tree, ENV_FILE="") as server:
            statuses = [
                server.request("POST", "/chat/completions", TURN, {**JSON, "Authorization": f"Bearer {key}"}).status
                for key in ("wrong", "from-the-file")
            ]

        assert statuses == [401, 200]

    def test_app_py_has_no_debugger_and_is_reached_from_this_machine_alone(self) -> None:
        with running_server(*DEV, HOST="0.0.0.0", FLASK_DEBUG="1") as server:
            assert server.get("/console").status == 404
            assert not can_connect("127.0.0.2", server.port)
            assert "Debugger" not in server.log


@pytest.fixture(scope="module")
def wide() -> Iterator[RunningServer]:
    """A demo with two workers that other machines reach."""
    with running_server(HOST="0.0.0.0", WEB_CONCURRENCY="2") as server:
        yield server


@pytest.mark.once
class TestGunicorn:
    def test_host_and_port_are_heeded(self, wide: RunningServer) -> None:
        wide.wait_for_log(f"listening on http://0.0.0.0:{wide.port}")

        assert can_connect("127.0.0.2", wide.port)

    def test_web_concurrency_is_heeded(self, wide: RunningServer) -> None:
        children = Path(f"/proc/{wide.process.pid}/task/{wide.process.pid}/children").read_text().split()

        commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
        assert len([command for command in commands if b"gunicorn" in command]) == 2

    def test_the_startup_line_comes_once_however_many_workers_there_are(self, wide: RunningServer) -> None:
        assert wide.log.count("demo model") == 1

    def test_an_ipv6_address_is_listened_on(self) -> None:
        with running_server(HOST="::") as server:
            assert can_connect("::1", server.port)

    def test_warnings_come_with_the_startup_line(self) -> None:
        with running_server(LLM_KEY=CANARY, LLM_API_KEY="your-api-key-here") as server:
            server.wait_for_log("custom-llm-server: LLM_KEY is no setting; did you mean LLM_API_KEY?")
            server.wait_for_log("custom-llm-server: LLM_API_KEY is still the placeholder")

            assert CANARY not in server.log

    def test_pass_through_that_is_allowed_starts_on_any_address(self) -> None:
        port = free_port()

        with running_server(
            *GUNICORN, "-b", f"0.0.0.0:{port}", PORT=port, ALLOW_PASS_THROUGH="1", **PASS_THROUGH
        ) as server:
            assert can_connect("127.0.0.2", server.port)

    def test_a_stream_that_runs_is_brought_to_its_end_before_the_server_ends(self) -> None:
        with running_server() as server, server.open() as caller:
            heard = caller.recv(65536)
            server.process.send_signal(signal.SIGTERM)

            while b"data: [DONE]" not in heard and (block := caller.recv(65536)):
                heard += block
            caller.close()

            assert b"data: [DONE]" in heard
            assert server.process.wait(10) == 0

    def test_an_idle_connection_does_not_hold_up_the_end(self) -> None:
        with running_server() as server:
            idle = server.connect()
            idle.request("GET", "/health")
            idle.getresponse().read()

            began = time.monotonic()
            returncode = server.stop(timeout=10)
            took = time.monotonic() - began
            idle.close()

        assert returncode == 0
        assert took < 5


@pytest.mark.once
class TestComplaints:
    @pytest.mark.parametrize("way", WAYS)
    def test_a_wrong_setting_is_named_with_what_it_must_be(self, way: str, ready_tree: Path) -> None:
        said = complaint(*WAYS[way], cwd=ready_tree, MAX_BODY_KB="ten")

        assert said == "custom-llm-server: MAX_BODY_KB must be a whole number, 1 to 102400\n"

    def test_a_wrong_key_is_not_repeated(self) -> None:
        said = complaint(*GUNICORN, LLM_API_KEY=f"{CANARY} {CANARY}")

        assert "LLM_API_KEY must" in said
        assert CANARY not in said

    @pytest.mark.parametrize("way", WAYS)
    def test_pass_through_that_others_reach_must_be_allowed(self, way: str, ready_tree: Path) -> None:
        said = complaint(*WAYS[way], cwd=ready_tree, HOST="0.0.0.0", **PASS_THROUGH)

        assert "ALLOW_PASS_THROUGH=1" in said

    @pytest.mark.parametrize(
        "arguments", [["-b", "0.0.0.0:0"], ["--bind", "[::]:0"], ["-b", "127.0.0.1:0", "-b", "0.0.0.0:0"]], ids=" ".join
    )
    def test_pass_through_on_an_address_of_gunicorns_must_be_allowed(self, arguments: list[str]) -> None:
        assert "ALLOW_PASS_THROUGH=1" in complaint(*GUNICORN, *arguments, **PASS_THROUGH)

    @pytest.mark.parametrize("way", ["gunicorn", "script/server"])
    def test_a_port_that_is_taken_is_named(self, way: str, ready_tree: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            said = complaint(*WAYS[way], cwd=ready_tree, PORT=port)

        assert f"127.0.0.1:{port}" in said
        assert "PORT" in said

    @pytest.mark.parametrize("way", ["flask run", "app.py"])
    def test_a_port_that_is_taken_is_no_traceback(self, way: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            arguments = ("--port", port) if way == "flask run" else ()

            ended = run(*WAYS[way], *arguments, PORT=port)

        assert ended.returncode == 1
        assert f"Port {port} is in use" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_an_address_that_is_none_is_named(self) -> None:
        assert "HOST" in complaint(*GUNICORN, HOST="no.such.host.invalid")

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["--certfile", "cert.pem"], "certfile"),
            (["--keyfile", "key.pem"], "keyfile"),
            (["--certfile", "cert.pem", "--keyfile", "key.pem"], "TLS"),
            (["--preload"], "--preload"),
        ],
    )
    def test_what_of_gunicorns_can_not_work_is_refused(self, arguments: list[str], word: str) -> None:
        assert word in complaint(*GUNICORN, *arguments)


@pytest.mark.once
class TestSetup:
    @pytest.mark.parametrize("script", ["script/server", "script/test"])
    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            ("too_old", "python3 is too old (Python 3.9.1); install Python 3.10 or newer"),
            ("no_venv", "python3 has no venv module; on Debian and Ubuntu: apt-get install python3-venv"),
        ],
    )
    def test_a_python_that_will_not_do_is_named_with_the_remedy(
        self, tree: Path, interpreters: Interpreters, script: str, fault: str, says: str
    ) -> None:
        interpreters.add(fault=fault)

        assert says in complaint(script, cwd=tree, PATH=interpreters.folder)

    def test_a_missing_python_is_named_with_the_remedy(self, tree: Path, interpreters: Interpreters) -> None:
        said = complaint("script/server", cwd=tree, PATH=interpreters.folder)

        assert "python3 is missing; install Python 3.10 or newer" in said

    def test_packages_that_can_not_be_installed_are_tried_again_the_next_time(
        self, tree: Path, interpreters: Interpreters
    ) -> None:
        setup = ("script/setup", ".venv", "requirements.txt")
        interpreters.add(fault="no_pip")

        first = run(*setup, cwd=tree, PATH=interpreters.folder)
        interpreters.add()
        second = run(*setup, cwd=tree, PATH=interpreters.folder)

        assert first.returncode == 3
        assert "pip could not install requirements.txt" in first.stderr.splitlines()[-1]
        assert second.returncode == 0

    def test_the_second_time_nothing_is_run(self, tree: Path, interpreters: Interpreters) -> None:
        setup = ("script/setup", ".venv", "requirements.txt")
        interpreters.add()
        first = run(*setup, cwd=tree, PATH=interpreters.folder)
        calls = interpreters.calls

        second = run(*setup, cwd=tree, PATH=interpreters.folder)

        assert "installing requirements.txt" in first.stderr
        assert any(call.startswith("-m pip install") for call in calls)
        assert (second.returncode, second.stderr) == (0, "")
        assert interpreters.calls == calls

    def test_changed_requirements_are_installed(self, tree: Path, interpreters: Interpreters) -> None:
        setup = ("script/setup", ".venv", "requirements-dev.txt")
        interpreters.add()
        run(*setup, cwd=tree, PATH=interpreters.folder)
        calls = interpreters.calls
        with (tree / "requirements.txt").open("a") as file:
            file.write("another\n")

        run(*setup, cwd=tree, PATH=interpreters.folder)

        assert len(interpreters.calls) > len(calls)

    def test_another_interpreter_can_be_named(self, tree: Path, interpreters: Interpreters) -> None:
        interpreters.add("python3", "too_old")
        interpreters.add("python3.12")

        ended = run(
            "script/setup", ".venv", "requirements.txt", cwd=tree, PATH=interpreters.folder, PYTHON="python3.12"
        )

        assert ended.returncode == 0
        assert (tree / ".venv/bin/python").exists()
