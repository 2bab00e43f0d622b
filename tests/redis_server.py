"""A real Redis server as a subprocess, which can hang, be killed and come back."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_server import free_port

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="the program redis-server is missing: apt-get install redis-server, or brew install redis",
)


class RedisServer:
    """One redis-server on a loopback port, with nothing stored; its port stays the same when it is started anew."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.socket = folder / "redis.sock"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "unixsocket": self.socket,
            "save": "",
            "appendonly": "no",
            "dir": self._folder,
            "logfile": self._folder / "redis.log",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(["redis-server", *words])
        end = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "redis.log").read_text()
            assert time.monotonic() < end, "redis-server does not answer"
            time.sleep(0.01)

    def hang(self) -> None:
        """Have it keep all connections and answer nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def command(self, *words: str | bytes) -> bytes:
        """Send one command on a connection of its own, and return what is answered first."""
        said = [word.encode() if isinstance(word, str) else word for word in words]
        data = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in said)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(b"*%d\r\n%s" % (len(said), data))
            return sock.recv(65536)

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a Redis server that keeps its socket and its log in this folder."""
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.kill()
