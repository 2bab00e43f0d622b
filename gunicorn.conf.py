"""How gunicorn runs this server: workers, limits, and what it refuses to start with."""

import gevent
from gevent import monkey

# before anything imports ssl or requests: patched later, ssl recurses without end at the first https call
monkey.patch_all()

import atexit  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from environment import announce, load_or_exit  # noqa: E402
from knowledge.indexer import keep, start  # noqa: E402
from knowledge.source import BUNDLED, private_index  # noqa: E402
from protocol.address import is_loopback  # noqa: E402
from turns.counts import forget  # noqa: E402

_settings, _warnings = load_or_exit()

if _settings.knowledge_index is None or os.environ.get("INDEX_OWNER", str(os.getpid())) != str(os.getpid()):
    # the workers read it from their environment, and find one index for all of them; a new version that takes over
    # the sockets finds the old one's there, and makes its own
    os.environ |= {"KNOWLEDGE_INDEX": str(private_index()), "INDEX_OWNER": str(os.getpid())}


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # and not in a worker, which was forked with this
        shutil.rmtree(folder, ignore_errors=True)


if _settings.has_metrics and os.environ.get("COUNTS_OWNER") != str(os.getpid()):
    # where each worker counts, for all to read
    _folder = tempfile.mkdtemp(prefix="custom-llm-server-counts-")
    os.environ |= {"COUNTS_FOLDER": _folder, "COUNTS_OWNER": str(os.getpid())}
    atexit.register(_remove, _folder, os.getpid())

_host = f"[{_settings.listens_on}]" if ":" in _settings.listens_on else _settings.listens_on
bind = [f"{_host}:{_settings.port}"]
if _settings.metrics_port:
    bind.append(f"127.0.0.1:{_settings.metrics_port}")
workers = _settings.web_concurrency
worker_class = "server.worker.Worker"
worker_connections = _settings.max_connections
# of an idle connection: an engine that asks turn by turn keeps it, one that has gone does not hold up a restart
keepalive = 20
# of a worker that hangs; streams may take as long as they like
timeout = 60
graceful_timeout = 30
# one line a request is written by us: gunicorn's would hold query strings
accesslog = None
loglevel = "warning"
# nothing here talks to it
control_socket_disable = True
# a proxy on this machine may pass a caller's headers on: none of them says where an endpoint is
forwarder_headers = ""


def on_starting(server: Any) -> None:
    """Refuse what can't work, and say what will be served where."""
    config = server.cfg
    if config.is_ssl:
        sys.exit("custom-llm-server: certfile and keyfile are not supported; terminate TLS in front, as README shows")
    if config.preload_app:
        sys.exit("custom-llm-server: --preload imports the app before gevent can patch ssl; leave it out")
    if _settings.metrics_port and ("127.0.0.1", _settings.metrics_port) not in config.address:
        place = f"127.0.0.1:{_settings.metrics_port}"
        sys.exit(f"custom-llm-server: --bind takes the place of METRICS_PORT: give it twice, with {place} too")
    hosts = [address[0] if isinstance(address, tuple) else "unix:" for address in config.address]
    if _settings.is_pass_through and not _settings.allow_pass_through and not all(map(is_loopback, hosts)):
        sys.exit("custom-llm-server: pass-through on an address that others reach needs ALLOW_PASS_THROUGH=1")
    if "GUNICORN_FD" not in os.environ:  # set where a new version takes the old one's sockets over
        _check_is_free(config.address)
    announce(_settings, _warnings)


def _check_is_free(addresses: list[Any]) -> None:
    for address in addresses:
        if not isinstance(address, tuple):
            continue
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address[:2])
            except OSError as error:
                place = f"{address[0]}:{address[1]}"
                names = "METRICS_PORT" if address[1] == _settings.metrics_port else "HOST or PORT"
                sys.exit(f"custom-llm-server: {place} can't be listened on ({error.strerror}); set {names}")


def post_fork(server: Any, worker: Any) -> None:
    """Hand a worker its time limits."""
    worker.head_s, worker.body_s, worker.write_s = _settings.head_s, _settings.body_s, _settings.write_s
    worker.drain_s = _settings.drain_s
    worker.metrics_port = _settings.metrics_port


def child_exit(server: Any, worker: Any) -> None:
    """Forget the streams of a worker that has ended, however it did; what it has counted stays."""
    if _settings.has_metrics:
        forget(Path(os.environ["COUNTS_FOLDER"]), worker.pid)


def when_ready(server: Any) -> None:
    """Say where the server listens."""
    if not (_settings.knowledge_url or _settings.is_pass_through):
        folder, index = _settings.knowledge_dir or BUNDLED, Path(os.environ["KNOWLEDGE_INDEX"])
        gevent.spawn(keep, start(folder, index), folder, index, os.getpid())
    print(f"custom-llm-server: listening on {', '.join(map(str, server.LISTENERS))}", file=sys.stderr)
