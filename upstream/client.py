"""Ask an OpenAI-compatible upstream, and hand on what it says as it says it."""

import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import requests

from protocol.chunks import Batch, Chunk, Completion, read_chunk, read_completion
from protocol.errors import BadRequest, Failure, UpstreamBroken, UpstreamRefused, UpstreamTimeout
from protocol.sse import DONE, EventDecoder
from upstream.adapter import Exchange, StaleConnection, UpstreamAdapter
from upstream.call import Call, Limits
from upstream.refusal import refusal, refusal_in

ANSWER_LIMIT = 32 * 1024 * 1024
"""Bytes that an answer may have that is not streamed."""
_REFUSAL_LIMIT = 64 * 1024
_REFUSAL_S = 2.0
_RETRY_AFTER_LIMIT_S = 2.0
_RETRY_PAUSE_S = 0.1

Answer = Generator[Batch | Completion, None, None]


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
        asked = time.monotonic()
        deadline = min(asked + self._limits.first_token_s, call.until) if call.stream else call.until
        try:
            response = yield from self._answered(data, call, asked, deadline)
            exchange = _exchange(response)
            try:
                if call.stream:
                    yield from self._events(exchange, call, deadline)
                else:
                    yield _completion(_whole(exchange, call.until))
            finally:
                exchange.close()
            self.state = "ok"
        except Failure as failure:
            if failure.answered >= 500:
                self.state = "failing"
            if call.retried:
                # a caller that tries again on top of our own second try makes a storm of it
                failure.headers.setdefault("x-should-retry", "false")
            raise

    def _answered(
        self, data: bytes, call: Call, asked: float, deadline: float
    ) -> Generator[Batch, None, requests.Response]:
        """Post, wait for the response's head, and return it if it is an answer; try once more where that may help."""
        while True:
            pause = _RETRY_PAUSE_S
            try:
                response = self._post(self._chat, data, call)
                exchange = _exchange(response)
                try:
                    while not exchange.head(min(deadline, call.alarm)):
                        yield from _late(call, deadline)
                    failure = self._refusal(response, call, deadline)
                except BaseException:
                    exchange.close()
                    raise
                if failure is None:
                    return response
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

    def _post(self, template: requests.PreparedRequest, data: bytes | None, call: Call) -> requests.Response:
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
        call.waits.connect_s = self._limits.connect_s
        timeout: Any = call.waits
        return self._session.send(request, stream=True, allow_redirects=False, timeout=timeout, proxies={})

    def _refusal(self, response: requests.Response, call: Call, deadline: float) -> Failure | None:
        exchange = _exchange(response)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status_code == 200 and not (call.stream and kind in ("application/json", "text/html")):
            return None
        body = _whole(exchange, min(deadline, time.monotonic() + _REFUSAL_S), _REFUSAL_LIMIT)
        if response.status_code == 200:
            return _broken(f"a stream was asked for, {kind} came: {body[:200]!r}")
        return refusal(response.status_code, response.headers, body, pass_through=not self._key)

    def _events(self, exchange: Exchange, call: Call, deadline: float) -> Iterator[Batch]:
        decoder = EventDecoder()
        spoken = False
        while True:
            block = exchange.read1(min(deadline, call.alarm))
            if block is None:
                yield from _late(call, deadline)
                continue
            try:
                datas = decoder.feed(block) if block else decoder.end()
                done = bool(datas) and datas[-1].strip() == DONE
                batch = Batch(map(read_chunk, datas[:-1] if done else datas))
            except ValueError as error:
                raise _broken(str(error) or "an event had no end") from None
            for place, event in enumerate(batch):
                if failure := refusal_in(event.chunk):
                    if place:
                        yield Batch(batch[:place])
                    raise failure
                spoken = spoken or is_token(event.chunk)
            if batch:
                if spoken:
                    deadline = min(time.monotonic() + self._limits.stall_s, call.until)
                yield batch
            if done:
                exchange.settle()
                return
            if not block:
                return

    def models(self, call: Call) -> bytes:
        """Return the upstream's own list of models as JSON; raise its failures."""
        response = self._post(self._list, None, call)
        exchange = _exchange(response)
        try:
            if not exchange.head(call.until):
                raise _too_late()
            body = _whole(exchange, call.until)
        finally:
            exchange.close()
        if response.status_code != 200:
            raise refusal(response.status_code, response.headers, body, pass_through=not self._key)
        try:
            msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _broken("the list of models is no JSON") from None
        return body


def _exchange(response: requests.Response) -> Exchange:
    """Return what our own adapter puts where requests' has urllib3's response."""
    exchange: Any = response.raw
    assert isinstance(exchange, Exchange)
    return exchange


def is_token(chunk: Chunk) -> bool:
    """Tell whether a chunk brings a token: content, reasoning, a tool call, audio or a finish, not a role alone."""
    for choice in chunk.choices or ():
        if choice.finish_reason:
            return True
        delta = choice.delta
        if delta and (
            delta.content
            or delta.reasoning_content
            or delta.reasoning
            or delta.refusal
            or delta.tool_calls
            or delta.audio
            or delta.function_call
        ):
            return True
    return False


def _late(call: Call, deadline: float) -> Iterator[Batch]:
    """Tell a wait that was ended by the call's alarm, which yields an empty batch, from one that was too long."""
    now = time.monotonic()
    if now >= deadline:
        raise _too_late()
    if now >= call.alarm:
        call.alarm = float("inf")
        yield Batch()


def _completion(data: bytes) -> Completion:
    try:
        return read_completion(data)
    except ValueError as error:
        raise _broken(f"{error}: {data[:200]!r}") from None


def _whole(exchange: Exchange, until: float, limit: int = ANSWER_LIMIT) -> bytes:
    parts: list[bytes] = []
    size = 0
    while block := exchange.read1(until):
        parts.append(block)
        size += len(block)
        if size > limit:
            if limit == ANSWER_LIMIT:
                raise _broken("the answer has no end")
            break
    if block is None and limit == ANSWER_LIMIT:
        raise _too_late()
    return b"".join(parts)


def _retry_after_s(value: str | None) -> float:
    try:
        return max(0.0, float(value)) if value else 0.0
    except ValueError:
        # a date: whoever names one means longer than we would wait
        return float("inf")


def _too_late() -> UpstreamTimeout:
    return UpstreamTimeout("The language model did not answer in time.", code="upstream_timeout")


def _broken(detail: str) -> UpstreamBroken:
    return UpstreamBroken("The language model's answer was unusable.", code="upstream_broken", detail=detail)
