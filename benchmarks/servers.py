"""The servers that are measured: those that run already, and those that are started for it and stopped again."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import processes
from benchmarks.endpoints import PATH, Endpoint

PROJECT = Path(__file__).resolve().parent.parent
_START_S = 120  # script/server may have to set up its environment first
_STOP_S = 8
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)  # the user's own limit: servers run under it
_NGINX_CONF = """\
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn; worker_rlimit_nofile {files};
events {{ worker_connections {connections}; multi_accept on; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 75;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream mock {{ server {upstream}; keepalive 4096; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock/v1/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 300;
    }}
  }}
}}
"""


class NotStarted(Exception):
    """A server did not start; the message has the end of its log."""


@dataclass(frozen=True)
class Cores:
    """Which core each part has to itself; None: the system decides."""

    server: int | None = None
    mock: int | None = None
    client: int | None = None

    @property
    def one_for_both(self) -> bool:
        """Tell whether client and mock upstream share one core."""
        return self.mock is not None and self.mock == self.client

    @classmethod
    def choose(cls) -> "Cores":
        """Give the server a physical core of its own, where there are two and processes can be bound to them."""
        if sys.platform != "linux":
            return cls()
        allowed = sorted(os.sched_getaffinity(0))
        physical: dict[str, int] = {}
        for cpu in allowed:
            physical.setdefault(processes.core_of(cpu), cpu)
        cpus = list(physical.values()) if len(physical) > 1 else allowed
        if len(cpus) < 2:
            return cls()
        return cls(server=cpus[1], mock=cpus[0], client=cpus[2] if len(cpus) > 2 else cpus[0])


@dataclass(frozen=True)
class Server:
    """A server to measure; one without a command runs already."""

    name: str
    url: str
    key: str
    anywhere: bool = False
    pid: int | None = None
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path = Path(os.devnull)
    core: int | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[Endpoint, int | None]]:
        """Have it running: yield its endpoint and the root of its process tree, where that is known.

        NotStarted if it does not come up; ValueError or ConnectionError if its URL is refused or does not answer.
        """
        with contextlib.ExitStack() as stack:
            pid = self.pid
            if self.command:
                started = _started(self.command, self.environment, self.log, self.core, self._listens)
                pid = stack.enter_context(started).pid
            endpoint = Endpoint.resolve(self.url, self.key, anywhere=self.anywhere)
            if pid is None and endpoint.address[0] in ("127.0.0.1", "::1"):
                pid = processes.find_listener(endpoint.address[1])
            yield endpoint, pid

    def _listens(self) -> bool:
        parts = urlsplit(self.url)
        try:
            socket.create_connection((parts.hostname, parts.port or 80), timeout=1).close()
        except OSError:
            return False
        return True


def serve_project(upstream: str, folder: Path, core: int | None, **settings: str) -> Server:
    """Return this project's own server, one worker, before the mock `upstream` (its base URL)."""
    port = _free_port()
    environment = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "LLM_BASE_URL": upstream,
        "LLM_API_KEY": "bench",
        "SERVER_API_KEYS": "",  # whatever .env says
        "LLM_PROXY": "",
        "NO_PROXY": "127.0.0.1",
        **settings,
    }
    script = PROJECT / "script" / "server"
    if not script.exists():
        raise NotStarted(f"{script} is missing")
    url = f"http://127.0.0.1:{port}{PATH}"
    return Server(
        "ours", url, "bench", command=(str(script),), environment=environment, log=folder / "ours.log", core=core
    )


def serve_nginx(upstream: str, folder: Path, core: int | None) -> Server:
    """Return an nginx that passes everything on unbuffered: what a relay can cost at least."""
    binary = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN)))
    if not binary:
        raise NotStarted("nginx is not installed")
    port = _free_port()
    files = 16384 if _FILES[1] == resource.RLIM_INFINITY else min(16384, _FILES[1])
    conf = folder / "nginx.conf"
    conf.write_text(
        _NGINX_CONF.format(
            folder=folder, port=port, files=files, connections=files // 2, upstream=urlsplit(upstream).netloc
        )
    )
    command = (binary, "-c", str(conf), "-p", str(folder))
    return Server("nginx", f"http://127.0.0.1:{port}{PATH}", "", command=command, log=folder / "nginx.log", core=core)


@contextlib.contextmanager
def serve_mock(folder: Path, core: int | None) -> Iterator[str]:
    """Run the mock upstream on a free port; yield its base URL."""
    log = folder / "upstream.log"
    command = (sys.executable, str(PROJECT / "benchmarks" / "upstream.py"), "--port", "0")
    with _started(command, {}, log, core, lambda: log.exists() and log.read_text().endswith("\n")):
        yield log.read_text().splitlines()[0]


@contextlib.contextmanager
def _started(
    command: tuple[str, ...], environment: Mapping[str, str], log: Path, core: int | None, ready: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, _FILES)
        if core is not None and sys.platform == "linux":
            os.sched_setaffinity(0, {core})

    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=prepare,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise NotStarted(f"{command[0]} does not start: {_tail(log)}")
            time.sleep(0.05)
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tail(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-400:] or "it says nothing"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
