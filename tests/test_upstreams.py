"""Upstreams of every kind: over TLS, through a proxy, at odd addresses; and the transport adapter by itself."""

import gzip
import json
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import trustme
from forwarding_proxy import forwarding_proxy
from running_server import HELLO, KEY, RunningServer, free_port, running_server, turn
from scripted_upstream import (
    COMPLETION,
    HEAD,
    ROLE,
    ScriptedUpstream,
    Step,
    answer,
    chunk,
    event,
    framed,
    reply,
    scripted_upstream,
)
from stream_rules import read_error, read_good_stream

from protocol.errors import Failure, UpstreamBroken, UpstreamRefused
from upstream.adapter import UpstreamAdapter
from upstream.call import Call
from upstream.client import Upstream
from upstream.connection import Route
from upstream.waits import Waits

HANG_UP_S = 0.05  # ten times the limit
NEW_CONNECTION_CPU_S = 0.02  # ten times the limit
NAME = "llm.invalid"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


def tls_of(ca: trustme.CA, *names: str, **more: Any) -> ssl.SSLContext:
    """Return what a server needs that shows a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, **more).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def _secure(ca: trustme.CA) -> Iterator[ScriptedUpstream]:
    with scripted_upstream(tls=tls_of(ca, "127.0.0.1", NAME)) as upstream:
        yield upstream


@pytest.fixture
def secure(_secure: ScriptedUpstream) -> ScriptedUpstream:
    """An https upstream, which says hello until a test has it say something else."""
    _secure.say(answer("Hello", " there."))
    return _secure


Open = Callable[..., requests.Session]


@pytest.fixture
def session() -> Iterator[Open]:
    """Open a plain Session of requests on our adapter."""
    opened = []

    def open_session(proxies: dict[str, str] | None = None, ca_file: str | None = None) -> requests.Session:
        made = requests.Session()
        adapter = UpstreamAdapter(proxies, ca_file)
        made.mount("http://", adapter)
        made.mount("https://", adapter)
        opened.append(made)
        return made

    yield open_session
    for each in opened:
        each.close()


class TestTls:
    @pytest.fixture(scope="class")
    @classmethod
    def trusting(cls, _secure: ScriptedUpstream, ca_file: str) -> Iterator[RunningServer]:
        """The server in front of the https upstream, whose CA it trusts."""
        with running_server(LLM_BASE_URL=_secure.url, LLM_API_KEY=KEY, LLM_CA_FILE=ca_file) as running:
            yield running

    @pytest.mark.parametrize("streamed", [True, False])
    def test_an_answer_comes_over_tls(self, trusting: RunningServer, secure: ScriptedUpstream, streamed: bool) -> None:
        if not streamed:
            secure.say(reply(200, COMPLETION))

        got = trusting.ask(turn(stream=streamed))

        assert (read_good_stream(got).text if streamed else got.json) == ("Hello there." if streamed else COMPLETION)

    def test_a_connection_is_used_again(self, trusting: RunningServer, secure: ScriptedUpstream) -> None:
        for _ in range(4):
            trusting.ask()

        assert len({asked.connection for asked in secure.asked}) == 1

    def test_an_event_of_many_records_comes_whole_before_the_upstream_says_more(
        self, trusting: RunningServer, secure: ScriptedUpstream
    ) -> None:
        text = "x" * 300_000
        secure.say([HEAD + framed(event(ROLE) + event(chunk({"content": text}))), "hold"])

        with trusting.open() as sock:
            got = b""
            while len(got) < len(text):
                got += sock.recv(65536)

        assert text.encode() in got

    @pytest.mark.parametrize(
        "script",
        [["hold"], [HEAD, "hold"], [HEAD + framed(event(ROLE) + event(chunk({"content": "Hi"}))), "hold"]],
        ids=["before the head", "before the first token", "while it speaks"],
    )
    def test_a_hang_up_ends_the_upstreams_connection_at_once(
        self, trusting: RunningServer, secure: ScriptedUpstream, script: list[Step]
    ) -> None:
        secure.say(script)
        sock = trusting.open()
        asked = secure.wait_for(1)
        if script[0] not in ("hold", HEAD):
            sock.recv(65536)

        closed_at = time.monotonic()
        sock.close()

        assert secure.wait_for_drop(asked) - closed_at < HANG_UP_S

    @pytest.mark.parametrize("flaw", ["unknown CA", "another name", "expired"])
    def test_a_certificate_that_proves_nothing_is_refused(
        self, session: Open, ca: trustme.CA, ca_file: str, upstream: ScriptedUpstream, flaw: str
    ) -> None:
        long_ago = datetime(2020, 1, 1, tzinfo=timezone.utc)
        if flaw == "unknown CA":
            tls = tls_of(trustme.CA(), "127.0.0.1")
        elif flaw == "another name":
            tls = tls_of(ca, "127.0.0.2", "localhost")
        else:
            tls = tls_of(ca, "127.0.0.1", not_before=long_ago - timedelta(1), not_after=long_ago)
        with scripted_upstream(tls=tls) as odd, pytest.raises(UpstreamRefused) as refused:
            session(ca_file=ca_file).get(odd.url, timeout=3)

        assert odd.asked == []
        assert str(refused.value) == "The language model could not be reached."
        assert "SSL" in refused.value.detail

    def test_a_server_without_tls_is_refused_at_an_https_address(self, session: Open) -> None:
        with connected(session(), "https") as (got, sock):
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            with pytest.raises(UpstreamRefused, match="could not be reached"):
                got.result()

    def test_a_wrong_certificate_is_a_502_that_tells_the_log_alone_why(self, secure: ScriptedUpstream) -> None:
        with running_server(LLM_BASE_URL=secure.url, LLM_API_KEY=KEY) as server:
            got = server.ask()
            line = server.wait_for_log("upstream_refused")

        assert got.status == 502
        error = read_error(got.json)
        assert error["code"] == "upstream_unreachable"
        assert error["message"] == "The language model could not be reached."
        assert "CERTIFICATE_VERIFY_FAILED" in line
        assert secure.asked == []

    def test_a_new_connection_costs_little_of_the_cpus_time(self, secure: ScriptedUpstream, ca_file: str) -> None:
        route = Route(urlsplit(secure.url), None, ssl.create_default_context(cafile=ca_file))
        costs = []
        for _ in range(21):
            began = time.thread_time()
            connection = route.connect(3)
            costs.append(time.thread_time() - began)
            connection.close()

        cost = statistics.median(costs)
        print(f"\na new TLS connection: {cost * 1000:.2f} ms of CPU (median of {len(costs)})")

        assert cost < NEW_CONNECTION_CPU_S


class TestProxy:
    def test_an_http_upstream_is_asked_for_with_its_whole_address(
        self, session: Open, upstream: ScriptedUpstream
    ) -> None:
        with forwarding_proxy(upstream.port, "me:p%40ss".replace("%40", "@")) as proxy:
            url = proxy.url.replace("p@ss@", "p%40ss@")
            asking = session({"http": url})
            for _ in range(2):
                upstream.say(reply(200, {"a": 1}))
                assert asking.get(f"http://{NAME}/v1/models?x=1").json() == {"a": 1}

        assert [passed.target for passed in proxy.passed] == [f"http://{NAME}/v1/models?x=1"] * 2
        assert upstream.asked[0].headers["host"] == NAME

    def test_an_https_upstream_is_reached_through_a_tunnel(
        self, session: Open, secure: ScriptedUpstream, ca_file: str
    ) -> None:
        secure.say(reply(200, {"a": 1}))
        with forwarding_proxy(secure.port, "me:secret") as proxy:
            asking = session({"https": proxy.url}, ca_file)
            got = [asking.get(f"https://{NAME}/v1/models").json() for _ in range(2)]

        assert got == [{"a": 1}] * 2
        assert [(passed.method, passed.target) for passed in proxy.passed] == [("CONNECT", f"{NAME}:443")]
        assert not [asked for asked in secure.asked if "proxy-authorization" in asked.headers]

    def test_the_certificate_behind_a_tunnel_is_the_upstreams(
        self, session: Open, secure: ScriptedUpstream, ca_file: str
    ) -> None:
        with forwarding_proxy(secure.port) as proxy, pytest.raises(UpstreamRefused):
            session({"https": proxy.url}, ca_file).get("https://other.invalid/v1/models")

        assert secure.asked == []

    @pytest.mark.parametrize("fault", ["refuses", "credentials", "is not there"])
    def test_a_tunnel_that_is_not_made_is_an_upstream_that_can_not_be_reached(
        self, session: Open, secure: ScriptedUpstream, ca_file: str, fault: str
    ) -> None:
        credentials = "me:secret" if fault == "credentials" else None
        with forwarding_proxy(secure.port, credentials, refuses=fault == "refuses") as proxy:
            url = f"http://127.0.0.1:{free_port()}" if fault == "is not there" else proxy.url.replace("secret", "guess")
            with pytest.raises(UpstreamRefused) as refused:
                session({"https": url}, ca_file).get(f"https://{NAME}/v1/models")

        assert str(refused.value) == "The language model could not be reached."
        assert "guess" not in refused.value.detail
        assert secure.asked == []

    def test_the_server_answers_through_a_tunnel_and_a_hang_up_goes_through_it(
        self, secure: ScriptedUpstream, ca_file: str
    ) -> None:
        with (
            forwarding_proxy(secure.port, "me:secret") as proxy,
            running_server(
                LLM_BASE_URL=f"https://{NAME}/v1", LLM_API_KEY=KEY, LLM_PROXY=proxy.url, LLM_CA_FILE=ca_file
            ) as server,
        ):
            said = read_good_stream(server.ask())
            secure.say(["hold"])
            sock = server.open()
            asked = secure.wait_for(1)
            sock.close()

            assert said.text == "Hello there."
            assert secure.wait_for_drop(asked)
            assert "secret" not in server.log

    def test_the_server_heeds_the_proxy_of_its_environment(self, upstream: ScriptedUpstream) -> None:
        with (
            forwarding_proxy(upstream.port) as proxy,
            running_server(LLM_BASE_URL=f"http://{NAME}/v1?a=b", LLM_API_KEY=KEY, HTTP_PROXY=proxy.url) as server,
        ):
            said = read_good_stream(server.ask())

        assert said.text == "Hello there."
        assert proxy.passed[0].target == f"http://{NAME}/v1/chat/completions?a=b"


LAST = reply(200, COMPLETION, Connection="close")


def tell(url: str, **more: Any) -> list[Any]:
    """Ask the upstream at this URL, and return what it says."""
    call = Call(Waits(), time.monotonic() + 5, stream=False)
    return list(Upstream(url, key=KEY, **more).ask({"model": "m", "messages": HELLO}, call))


class TestAddresses:
    @pytest.mark.parametrize(
        ("written", "target"),
        [
            ("", "/chat/completions"),
            ("/", "/chat/completions"),
            ("/v1", "/v1/chat/completions"),
            ("/v1/", "/v1/chat/completions"),
            ("/v1/chat/completions", "/v1/chat/completions"),
            (
                "/openai/deployments/d?api-version=2024-10-21",
                "/openai/deployments/d/chat/completions?api-version=2024-10-21",
            ),
            ("/a%20b/v1?x=%2F&y=ü", "/a%20b/v1/chat/completions?x=%2F&y=%C3%BC"),
        ],
    )
    def test_path_and_query_are_kept(self, upstream: ScriptedUpstream, written: str, target: str) -> None:
        upstream.say(LAST)

        tell(f"http://127.0.0.1:{upstream.port}{written}")

        assert upstream.wait_for(1).target == target

    @pytest.mark.parametrize("is_secure", [False, True])
    def test_an_ipv6_address_is_reached(self, ca: trustme.CA, ca_file: str, is_secure: bool) -> None:
        with scripted_upstream("::1", tls_of(ca, "::1") if is_secure else None) as upstream:
            upstream.say(LAST)

            (completion,) = tell(upstream.url, ca_file=ca_file)

        assert completion.body == COMPLETION
        assert upstream.wait_for(1).headers["host"] == f"[::1]:{upstream.port}"

    def test_a_name_is_resolved(self, upstream: ScriptedUpstream) -> None:
        upstream.say(LAST)

        tell(f"http://localhost:{upstream.port}/v1")

        assert upstream.wait_for(1).headers["host"] == f"localhost:{upstream.port}"

    def test_a_name_that_does_not_resolve_is_a_502_without_it(self) -> None:
        with running_server(LLM_BASE_URL=f"https://{NAME}/v1", LLM_API_KEY=KEY) as server:
            began = time.monotonic()
            got = server.ask()
            line = server.wait_for_log("upstream_refused")

        assert got.status == 502
        assert read_error(got.json)["code"] == "upstream_unreachable"
        assert NAME not in got.body.decode()
        assert "gaierror" in line
        assert time.monotonic() - began < 5


class TestSession:
    """What requests' own adapter does, as far as a relay needs it."""

    def test_a_response_is_read_as_of_any_adapter(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(418, {"é": "ü"}, X_One="1"))

        got = session().get(upstream.url)

        assert (got.status_code, got.reason, got.ok) == (418, "Said", False)
        assert (got.headers["x-ONE"], got.headers["Content-Type"]) == ("1", "application/json")
        assert (got.json(), got.text) == ({"é": "ü"}, json.dumps({"é": "ü"}))
        with pytest.raises(requests.HTTPError, match="418"):
            got.raise_for_status()

    @pytest.mark.parametrize(
        ("given", "received"),
        [
            ({"json": {"a": "é"}}, {"a": "é"}),
            ({"data": b'{"a":"\xc3\xa9"}'}, {"a": "é"}),
            ({"data": '{"a":"é"}'}, {"a": "é"}),
            ({}, None),
        ],
        ids=["json", "bytes", "text", "nothing"],
    )
    def test_a_body_is_posted_whole(
        self, session: Open, upstream: ScriptedUpstream, given: dict[str, Any], received: Any
    ) -> None:
        upstream.say(reply(200, {}))

        session().post(f"{upstream.url}/x?y=z", headers={"X-A": "1"}, timeout=5, **given)

        asked = upstream.wait_for(1)
        assert (asked.method, asked.target, asked.body) == ("POST", "/v1/x?y=z", received)
        assert asked.headers["x-a"] == "1"

    def test_content_is_iterated_as_it_comes(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say([HEAD, framed(b"one"), "hold"])

        got = session().get(upstream.url, stream=True, timeout=5)
        first = next(got.iter_content(None))
        got.close()

        assert first == b"one"
        assert upstream.wait_for_drop(upstream.wait_for(1)) > 0

    def test_lines_are_iterated(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say([HEAD, framed(b"a\nb"), framed(b"c\n"), b"0\r\n\r\n"])

        assert list(session().get(upstream.url, stream=True).iter_lines()) == [b"a", b"bc"]

    def test_compressed_content_is_inflated(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(200, gzip.compress(b"plain"), Content_Encoding="gzip"))

        assert session().get(upstream.url).content == b"plain"

    def test_a_connection_is_kept_once_all_is_read(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(200, {}))
        asking = session()

        for _ in range(3):
            assert asking.get(upstream.url).content == b"{}"

        assert len({asked.connection for asked in upstream.asked}) == 1

    def test_the_end_of_the_session_closes_what_was_kept(self, session: Open) -> None:
        asking = session()
        with connected(asking, "http") as (got, sock):
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert got.result().status_code == 200

            asking.close()

            assert sock.recv(1) == b""

    def test_redirects_are_the_sessions_to_follow(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(302, b"", Location="/elsewhere"), reply(200, {"here": True}))

        got = session().get(upstream.url)

        assert got.json() == {"here": True}
        assert [asked.target for asked in upstream.asked] == ["/v1", "/elsewhere"]

    def test_cookies_are_not_kept(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(200, {}, Set_Cookie="a=b"))
        asking = session()

        asking.get(upstream.url)
        asking.get(upstream.url)

        assert "cookie" not in upstream.wait_for(2).headers
        assert not asking.cookies

    def test_threads_can_share_it(self, session: Open, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(200, {"a": "x" * 100_000}))
        asking = session()

        with ThreadPoolExecutor(4) as pool:
            lengths = list(pool.map(lambda _: len(asking.get(upstream.url).json()["a"]), range(40)))

        assert lengths == [100_000] * 40

    @pytest.mark.parametrize("timeout", [0.2, (3, 0.2), (None, 0.2)])
    @pytest.mark.parametrize("script", [["hold"], [HEAD + framed(b"one"), "hold"]], ids=["head", "body"])
    def test_a_timeout_limits_the_wait_for_the_next_bytes(
        self, session: Open, upstream: ScriptedUpstream, script: list[Step], timeout: Any
    ) -> None:
        upstream.say([*script[:-1], 2.0, "close"])

        began = time.monotonic()
        with pytest.raises(Failure) as late:
            session().get(upstream.url, timeout=timeout)

        assert late.value.code == "upstream_timeout"
        assert 0.2 <= time.monotonic() - began < 1.5

    def test_a_timeout_limits_the_wait_for_a_connection(self, session: Open) -> None:
        with full_listener() as port:
            began = time.monotonic()
            with pytest.raises(Failure) as late:
                session().get(f"http://127.0.0.1:{port}/", timeout=0.2)

        assert late.value.code == "upstream_timeout"
        assert 0.2 <= time.monotonic() - began < 1.5

    @pytest.mark.parametrize(
        "script",
        [
            ["close"],
            ["reset"],
            [b"HTTP/1.1 200 OK\r\nContent-Le", "close"],
            [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "close"],
            [HEAD + b"5\r\nhel", "close"],
            [HEAD + framed(b"hello"), "reset"],
            [HEAD + b"hello\r\n"],
            [b"220 smtp.example ESMTP\r\n\r\n"],
            [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"],
        ],
        ids=repr,
    )
    def test_an_answer_that_is_cut_or_no_http_is_an_error(
        self, session: Open, upstream: ScriptedUpstream, script: list[Step]
    ) -> None:
        upstream.say(script)

        with pytest.raises(UpstreamBroken):
            session().get(upstream.url, timeout=5)

    def test_a_server_that_is_not_there_is_an_error(self, session: Open) -> None:
        with pytest.raises(UpstreamRefused, match="could not be reached"):
            session().get(f"http://127.0.0.1:{free_port()}/", timeout=5)

    @pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: b"}, {"X-A\r\nX-B": "a"}])
    def test_a_header_that_would_break_out_of_its_line_is_refused(
        self, session: Open, upstream: ScriptedUpstream, headers: dict[str, str]
    ) -> None:
        with pytest.raises((ValueError, requests.exceptions.InvalidHeader)):
            session().get(upstream.url, headers=headers)

        assert upstream.asked == []


@contextmanager
def connected(asking: requests.Session, scheme: str) -> Iterator[tuple["Future[requests.Response]", socket.socket]]:
    """Send a GET, and return the response that is to come and the server's end of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        got = pool.submit(asking.get, f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/", timeout=5)
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(5)
            yield got, sock


@contextmanager
def full_listener() -> Iterator[int]:
    """Listen on a port whose queue is full, so that another connection is neither made nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for sock in waiting:
                sock.close()
