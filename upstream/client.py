"""Ask an OpenAI-compatible upstream, and hand on what it says as it says it."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import requests

from protocol.chunks import Answer, Batch
from protocol.errors import BadRequest, Failure, UpstreamRefused
from upstream.adapter import Exchange, StaleConnection, UpstreamAdapter
from upstream.call import Call, Limits
from upstream.reading import EventReader, broken, completion, excerpt, has_rung, read_some, read_whole, too_late
from upstream.refusal import refusal

_REFUSAL_LIMIT = 64 * 1024
_REFUSAL_S = 2.0
_RETRY_AFTER_LIMIT_S = 2.0
_RETRY_PAUSE_S = 0.1


class Upstream:
    """The language model behind this server: any service with OpenAI's chat completions.

    `base_url` may have a query (`?api-version=…`), which is kept. `key` goes out as a Bearer, or as it is under
    another `key_header`; without one the caller's own is passed through.
    """

    is_demo = False

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None = None,
        key_header: str = "Authorization",
        headers: Mapping[str, str] | None = None,
        model: str | None = None,
        limits: Limits | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._key = key
        self._key_header = key_header
        self._model = model
        self._limits = limits or Limits()
        self._session = requests.Session()
        # a netrc entry would replace our key, and looking for it costs each request 500 µs
        self._session.trust_env = False
        adapter = UpstreamAdapter(proxies, ca_file)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._chat = self._prepare("POST", base_url, "chat/completions", headers or {})
        self._list = self._prepare("GET", base_url, "models", headers or {})
        self.state = "unknown"

    def _prepare(self, method: str, base_url: str, leaf: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
        """Prepare what is the same in all requests once: preparing each takes longer than sending it."""
        parts = urlsplit(base_url)
        path = f"{parts.path.rstrip('/').removesuffix('/chat/completions')}/{leaf}"
        fixed = {"Content-Type": "application/json"} if method == "POST" else {}
        fixed |= {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "custom-llm-server"}
        request = requests.Request(method, urlunsplit(parts._replace(path=path)), headers=fixed | dict(headers))
        prepared = request.prepare()
        if self._key:
            self._sign(prepared, self._key)
        return prepared

    def _sign(self, prepared: requests.PreparedRequest, key: str) -> None:
        prepared.headers[self._key_header] = f"Bearer {key}" if self._key_header.lower() == "authorization" else key

    def ask(self, body: dict[str, Any], call: Call) -> Answer:
        """Send one request and yield what comes back: batches of events, or one whole completion.

        An empty batch says that the call's alarm has rung. Raises BadRequest where no model is named, and any of the
        upstream's failures; the connection is closed when the iterator is.
        """
        if not body.get("model"):
            if not self._model:
                raise BadRequest(
                    "model: name one in the request, or set LLM_MODEL.", param="model", code="missing_model"
                )
            body = {**body, "model": self._model}
        data = msgspec.json.encode(body if body.get("stream") is call.stream else {**body, "stream": call.stream})
        return self._streamed(data, call) if call.stream else self._whole(data, call)

    def _streamed(self, data: bytes, call: Call) -> Answer:
        asked = time.monotonic()
        deadline = min(asked + self._limits.first_token_s, call.until)
        with self._judged(call):
            exchange = yield from self._answered(data, call, asked, deadline)
            with closing(exchange):
                reader = EventReader(exchange, call, deadline, self._limits.stall_s)
                while (batch := reader.read()) is not None:
                    yield batch

    def _whole(self, data: bytes, call: Call) -> Answer:
        with self._judged(call):
            exchange = yield from self._answered(data, call, time.monotonic(), call.until)
            with closing(exchange):
                yield completion(read_whole(exchange, call.until), call.signed_with)

    @contextmanager
    def _judged(self, call: Call) -> Iterator[None]:
        """Note how the upstream did, and tell callers not to try again on top of our own second try."""
        try:
            yield
            self.state = "ok"
        except Failure as failure:
            if failure.answered >= 500:
                self.state = "failing"
            if call.retried:
                failure.headers.setdefault("x-should-retry", "false")
            raise

    def _answered(self, data: bytes, call: Call, asked: float, deadline: float) -> Generator[Batch, None, Exchange]:
        """Post, wait for an answer's head and return what follows it; try once more where that may help."""
        while True:
            pause = _RETRY_PAUSE_S
            try:
                response = self._post(self._chat, data, call, deadline)
                exchange = _exchange(response)
                try:
                    while not exchange.head(min(deadline, call.alarm)):
                        if has_rung(call, deadline):
                            yield Batch()
                    failure = self._refusal(response, call, deadline)
                except BaseException:
                    exchange.close()
                    raise
                if failure is None:
                    return exchange
                exchange.close()
                if response.status_code != 429 and response.status_code < 500:
                    raise failure
                pause = max(pause, _retry_after_s(response.headers.get("Retry-After")))
            except StaleConnection as stale:
                failure, pause = stale, 0.0
            except UpstreamRefused as refused:
                failure = refused
            resume = time.monotonic() + pause
            if call.retried or pause > _RETRY_AFTER_LIMIT_S or resume > (asked + deadline) / 2:
                raise failure
            call.retried = True
            call.waits.pause(resume)

    def _post(
        self, template: requests.PreparedRequest, data: bytes | None, call: Call, deadline: float
    ) -> requests.Response:
        request = requests.PreparedRequest()
        request.method, request.url, request.headers, request.body = (
            template.method,
            template.url,
            template.headers,
            data,
        )
        if not self._key and call.key:
            request.headers = template.headers.copy()
            self._sign(request, call.key)
        call.signed_with = self._key or call.key
        call.waits.connect_s = self._limits.connect_s
        call.waits.send_s = max(0.001, deadline - time.monotonic())
        timeout: Any = call.waits
        return self._session.send(request, stream=True, allow_redirects=False, timeout=timeout, proxies={})

    def _refusal(self, response: requests.Response, call: Call, deadline: float) -> Failure | None:
        exchange = _exchange(response)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status_code == 200 and not (call.stream and kind in ("application/json", "text/html")):
            return None
        body = read_some(exchange, min(deadline, call.alarm, time.monotonic() + _REFUSAL_S), _REFUSAL_LIMIT)
        if response.status_code == 200:
            return broken(f"a stream was asked for, {kind} came: {excerpt(body, call.signed_with)}")
        return refusal(response.status_code, response.headers, body, call.signed_with, pass_through=not self._key)

    def _get_models(self, call: Call) -> tuple[requests.Response, bytes]:
        response = self._post(self._list, None, call, call.until)
        with closing(_exchange(response)) as exchange:
            if not exchange.head(call.until):
                raise too_late()
            return response, read_whole(exchange, call.until)

    def models(self, call: Call) -> bytes:
        """Return the upstream's own list of models as JSON; raise its failures."""
        try:
            response, body = self._get_models(call)
        except StaleConnection:
            response, body = self._get_models(call)
        if response.status_code != 200:
            raise refusal(response.status_code, response.headers, body, call.signed_with, pass_through=not self._key)
        try:
            msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise broken("the list of models is no JSON") from None
        return body


def _exchange(response: requests.Response) -> Exchange:
    """Return what our own adapter puts where requests' has urllib3's response."""
    exchange: Any = response.raw
    assert isinstance(exchange, Exchange)
    return exchange


def _retry_after_s(value: str | None) -> float:
    try:
        return max(0.0, float(value)) if value else 0.0
    except ValueError:
        # a date: whoever names one means longer than we would wait
        return float("inf")
