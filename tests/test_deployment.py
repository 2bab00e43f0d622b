"""What deploy/ has is tried: real proxies in front, and what a container would run."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trustme
from packaging.requirements import Requirement
from running_server import KEY, ROOT, Answer, RunningServer, free_port, read_until, running_server, turn
from scripted_upstream import BEGUN, COMPLETION, REST, ScriptedUpstream, reply
from stream_rules import read_error, read_good_stream

DEPLOY = ROOT / "deploy"
CONF = (ROOT / "gunicorn.conf.py").read_text()
_SBIN = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def program(name: str) -> str:
    """Return where a program is; skip where it is missing."""
    found = shutil.which(name, path=_SBIN)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def gunicorns(name: str) -> int:
    """Return a number of gunicorn's configuration."""
    (found,) = re.findall(rf"^{name} = (\d+)$", CONF, re.MULTILINE)
    return int(found)


@contextmanager
def started(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """Have a program run that listens on this port, in a folder of its own."""
    log = folder / "log"
    environment = {"PATH": _SBIN, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + 10
        while True:
            assert process.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Proxy:
    """A proxy in front of the server; `tls` is None where it speaks plain HTTP."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self.port = port
        self.tls = tls

    def connect(self) -> socket.socket:
        """Open a connection."""
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        return self.tls.wrap_socket(sock, server_hostname="localhost") if self.tls else sock

    def head(self, length: int) -> bytes:
        """Write the head of a turn whose body is so long."""
        lines = ["POST /chat/completions HTTP/1.1", "Host: localhost", f"Authorization: Bearer {KEY}"]
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", ""]).encode()

    def open(self, body: Any) -> socket.socket:
        """Post a turn and return the connection."""
        data = json.dumps(body).encode()
        sock = self.connect()
        sock.sendall(self.head(len(data)) + data)
        return sock

    def ask(self, body: Any, key: str = KEY, path: str = "/chat/completions") -> Answer:
        """Post a turn and read the answer to its end."""
        if self.tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=10, context=self.tls
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            connection.request("POST", path, data, headers)
            response = connection.getresponse()
            return Answer(response, response.read(), cut=False)
        finally:
            connection.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ssl.SSLContext]:
    """A certificate, its key, and what trusts it."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return folder / "cert.pem", folder / "key.pem", trusting


@pytest.fixture(scope="module")
def nginx(
    server: RunningServer, certificate: tuple[Path, Path, ssl.SSLContext], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Proxy]]:
    """nginx with our site, and with nothing but its own defaults."""
    binary, folder = program("nginx"), tmp_path_factory.mktemp("nginx")
    cert, key, tls = certificate
    ours, bare = free_port(), free_port()
    site = (DEPLOY / "nginx.conf").read_text()
    for shipped, here in {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{server.port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{ours} ssl;",
        "server_name agent.example.com;": "server_name localhost;",
        "/etc/ssl/certs/agent.example.com.pem": str(cert),
        "/etc/ssl/private/agent.example.com.key": str(key),
    }.items():
        assert site.count(shipped) == 1, shipped
        site = site.replace(shipped, here)
    user = "user root;\n" if os.geteuid() == 0 else ""
    places = "\n".join(f"{name}_temp_path {folder}/{name};" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; {places}\n{site}\n"
        f"server {{ listen 127.0.0.1:{bare}; location / {{ proxy_pass http://127.0.0.1:{server.port}; }} }} }}\n"
    )
    with started([binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)], folder, ours):
        yield {"ours": Proxy(ours, tls), "bare": Proxy(bare, None)}


@pytest.fixture(scope="module")
def caddy(
    server: RunningServer, certificate: tuple[Path, Path, ssl.SSLContext], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Caddy with our file."""
    binary, folder = program("caddy"), tmp_path_factory.mktemp("caddy")
    cert, key, tls = certificate
    port = free_port()
    site = (DEPLOY / "Caddyfile").read_text()
    for shipped, here in {
        "agent.example.com {\n": f"https://localhost:{port} {{\n\ttls {cert} {key}\n",
        "127.0.0.1:8000": f"127.0.0.1:{server.port}",
    }.items():
        assert site.count(shipped) == 1, shipped
        site = site.replace(shipped, here)
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    with started([binary, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], folder, port):
        yield Proxy(port, tls)


@pytest.fixture(params=["nginx", "nginx with its own defaults", "caddy"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """Each of the proxies in turn."""
    if request.param == "caddy":
        found: Proxy = request.getfixturevalue("caddy")
        return found
    proxies: dict[str, Proxy] = request.getfixturevalue("nginx")
    return proxies["ours" if request.param == "nginx" else "bare"]


# through a proxy


def test_a_chunk_passes_before_the_next_is_said_and_a_hang_up_reaches_the_upstream(
    proxy: Proxy, upstream: ScriptedUpstream
) -> None:
    upstream.say([BEGUN, "hold"])

    with proxy.open(turn()) as caller:
        read_until(caller, b"Hello")
        asked = upstream.wait_for(1)
        assert asked.dropped_at is None

    upstream.wait_for_drop(asked, 0.5)
    assert len(upstream.asked) == 1


def test_a_hang_up_in_silence_reaches_the_upstream(proxy: Proxy, upstream: ScriptedUpstream) -> None:
    upstream.say(["hold"])

    with proxy.open(turn(stream=False)):
        asked = upstream.wait_for(1)

    upstream.wait_for_drop(asked, 0.5)


def test_a_stream_passes_whole(proxy: Proxy, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, 0.1, REST])

    got = proxy.ask(turn())

    assert read_good_stream(got).text == "Hello"
    assert got.headers["Content-Type"].startswith("text/event-stream")
    assert "no-transform" in got.headers["Cache-Control"]


def test_a_plain_answer_passes_as_it_is(proxy: Proxy, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(200, COMPLETION))

    got = proxy.ask(turn(stream=False))

    assert (got.status, got.json) == (200, COMPLETION)
    assert got.headers["X-Request-Id"]


def test_errors_keep_their_status_and_their_form(proxy: Proxy, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(503, {}, Retry_After="7"))

    got = {
        "key": proxy.ask(turn(), key="wrong"),
        "path": proxy.ask(turn(), path="/nowhere"),
        "json": proxy.ask(b"{"),
        "upstream": proxy.ask(turn()),
    }

    statuses = {name: (answer.status, read_error(answer.json)["code"]) for name, answer in got.items()}
    assert statuses == {
        "key": (401, "invalid_api_key"),
        "path": (404, "not_found"),
        "json": (400, "invalid_json"),
        "upstream": (502, "upstream_error"),
    }


def test_a_body_that_is_too_large_is_refused_in_our_form_behind_nginx(nginx: dict[str, Proxy]) -> None:
    got = nginx["ours"].ask(b" " * (10 * 1024 * 1024 + 1))

    assert got.status == 413
    assert read_error(got.json)["code"] == "request_entity_too_large"


# a container


def in_image() -> list[str]:
    """Return what of the project's root a container's image gets, as Dockerfile.dockerignore says."""
    patterns = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in "#"]
    assert patterns[0] == "*"
    tops = {pattern[1:].partition("/")[0] for pattern in patterns if pattern.startswith("!")}
    return [path.name for path in ROOT.iterdir() if any(fnmatch(path.name, top) for top in tops)]


def instructions(name: str) -> list[str]:
    """Return what follows an instruction of the Dockerfile, wherever it stands."""
    return re.findall(rf"^{name} (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the image's /app has."""
    folder = tmp_path_factory.mktemp("image") / "app"
    folder.mkdir()
    leave_out = shutil.ignore_patterns("__pycache__", *(path.name for path in DEPLOY.iterdir() if path.suffix != ".py"))
    for name in in_image():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_what_an_image_would_run_serves_and_is_found_healthy(image: Path) -> None:
    settings = dict(pair.split("=") for pair in instructions("ENV")[0].split())
    assert settings["HOST"] == "0.0.0.0"
    (command,) = (json.loads(said) for said in instructions("CMD"))
    check = json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
    here = {"/venv/bin/gunicorn": str(Path(sys.prefix, "bin/gunicorn")), "/venv/bin/python": sys.executable}
    port = free_port()
    asks = [here[check[0]], *check[1:]]

    def health(key: str) -> int:
        environment = {"PORT": str(port), "SERVER_API_KEYS": key}
        return subprocess.run(asks, cwd=image, env=environment, timeout=10).returncode

    settings |= {"HOST": "127.0.0.1", "PORT": str(port), "SERVER_API_KEYS": "one, two"}
    with running_server(here[command[0]], *command[1:], **{"cwd": image, **settings}) as running:  # type: ignore[arg-type]
        question = {"messages": [{"role": "user", "content": "Which file types can the agent read?"}]}
        answered = running.ask(question, "/rag/chat/completions", {"Authorization": "Bearer two"})
        found = [health("one,two"), health("wrong")]

    assert answered.status == 200
    assert "Markdown" in answered.json["choices"][0]["message"]["content"]
    assert [*found, health("one,two")] == [0, 1, 1]


def test_an_image_has_no_secret_no_test_and_all_that_is_imported() -> None:
    names = set(in_image())

    assert not names & {".env", ".git", "tests", "benchmarks", "docs", ".venv"}
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert rooms <= names
    assert {"app.py", "wsgi.py", "gunicorn.conf.py", "requirements.txt"} <= names


def test_an_image_installs_what_is_pinned_and_runs_as_nobody_special() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] not in "#-"]

    wanted = [Requirement(line) for line in lines]

    assert all(each.specifier for each in wanted)
    assert [each.name for each in wanted if version(each.name) not in each.specifier] == []
    assert instructions("USER") == ["10001"]
    assert len(instructions("FROM")) == 2


# numbers


def number_in(file: str, pattern: str) -> int:
    """Return the one number that a file of deploy/ has at this place."""
    (found,) = re.findall(pattern, (DEPLOY / file).read_text())
    return int(found)


def test_every_stop_waits_longer_than_the_server_does() -> None:
    graceful_s = gunicorns("graceful_timeout")
    before_s = number_in("kubernetes.yaml", r'\[sleep, "(\d+)"\]')

    waits = {
        "systemd": number_in("custom-llm-server.service", r"TimeoutStopSec=(\d+)"),
        "compose": number_in("compose.yaml", r"stop_grace_period: (\d+)s"),
        "kubernetes": number_in("kubernetes.yaml", r"terminationGracePeriodSeconds: (\d+)") - before_s,
    }

    assert {name: wait_s for name, wait_s in waits.items() if wait_s < graceful_s + 5} == {}


def test_no_proxy_keeps_an_idle_connection_as_long_as_the_server() -> None:
    kept_s = gunicorns("keepalive")

    assert number_in("nginx.conf", r"keepalive_timeout (\d+)s") <= kept_s - 5
    assert number_in("Caddyfile", r"keepalive (\d+)s") <= kept_s - 5


def test_a_proxy_waits_as_long_as_an_answer_may_take_and_takes_what_the_server_takes() -> None:
    from environment import load

    settings, _ = load({"ENV_FILE": os.devnull})

    assert number_in("nginx.conf", r"proxy_read_timeout (\d+)s") > settings.total_s
    assert number_in("nginx.conf", r"client_max_body_size (\d+)m") * 1024 > settings.max_body_kb
    assert number_in("Caddyfile", r"max_size (\d+)MB") * 1000 > settings.max_body_kb * 1.024


def test_systemd_finds_no_fault_with_the_unit_and_little_that_it_may_do(tmp_path: Path) -> None:
    binary = program("systemd-analyze")
    unit = tmp_path / "custom-llm-server.service"
    shipped = (DEPLOY / "custom-llm-server.service").read_text()
    unit.write_text(
        shipped.replace("/opt/custom-llm-server/.venv", sys.prefix).replace("=/opt/custom-llm-server", f"={ROOT}")
    )

    verified = subprocess.run([binary, "verify", str(unit)], capture_output=True, text=True)
    judged = subprocess.run([binary, "security", "--offline=yes", str(unit)], capture_output=True, text=True)

    assert (verified.returncode, verified.stderr) == (0, "")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert exposure and float(exposure[1]) < 2


def test_docker_understands_the_compose_file(tmp_path: Path) -> None:
    command = ["docker", "compose"]  # which may be a plugin of docker's, or a program of its own
    if not shutil.which("docker") or subprocess.run([*command, "version"], capture_output=True).returncode:
        command = [program("docker-compose")]
    (tmp_path / "deploy").mkdir()
    shutil.copy(DEPLOY / "compose.yaml", tmp_path / "deploy")
    (tmp_path / ".env").write_text("SERVER_API_KEYS=a\n")

    checked = subprocess.run(
        [*command, "-f", str(tmp_path / "deploy/compose.yaml"), "config"], capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stderr
    assert "stop_grace_period: 40s" in checked.stdout
