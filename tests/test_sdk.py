"""OpenAI's own Python SDK as the caller: raw streams and the `.stream()` helper, blocking and async."""

import asyncio
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from running_server import HELLO, KEY, RunningServer
from scripted_upstream import (
    COMPLETION,
    DONE,
    END,
    HEAD,
    ROLE,
    STOP,
    ScriptedUpstream,
    Step,
    answer,
    chunk,
    event,
    framed,
    reply,
    stream,
)

pytestmark = pytest.mark.once

VARIANTS = ["raw", "helper", "async raw", "async helper"]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HI = chunk({"content": "Hi"})
TURN: dict[str, Any] = {"model": "m", "messages": HELLO}
ASYNC_REUSE_S = 0.1  # what the async SDK waits for where a body has no end


@dataclass
class Heard:
    """What the SDK made of an answer."""

    text: str | None = None
    finish_reason: str | None = None
    calls: list[tuple[str | None, str | None, str | None]] = field(default_factory=list)
    usage: dict[str, Any] | None = None

    @classmethod
    def from_chunks(cls, chunks: Iterable[Any]) -> "Heard":
        """Put the chunks of a raw stream together."""
        heard = cls()
        calls: dict[int, list[Any]] = {}
        for each in chunks:
            if each.usage:
                heard.usage = each.usage.to_dict()
            for choice in each.choices:
                heard.text = (heard.text or "") + (choice.delta.content or "")
                heard.finish_reason = choice.finish_reason or heard.finish_reason
                for piece in choice.delta.tool_calls or ():
                    call = calls.setdefault(piece.index, [piece.id, piece.function.name, ""])
                    call[2] += piece.function.arguments or ""
        heard.calls = [(call[0], call[1], call[2]) for _, call in sorted(calls.items())]
        return heard

    @classmethod
    def from_completion(cls, completion: Any) -> "Heard":
        """Read the completion that the helper has put together."""
        choice = completion.choices[0]
        calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
        usage = completion.usage.to_dict() if completion.usage else None
        return cls(choice.message.content or "", choice.finish_reason, calls, usage)


@dataclass
class Sdk:
    """A client of a server, made anew for each question."""

    url: str
    key: str = KEY
    retries: int = 0

    @property
    def _settings(self) -> dict[str, Any]:
        return {"base_url": self.url, "api_key": self.key, "max_retries": self.retries, "timeout": 10}

    def hear(self, variant: str, **request: Any) -> Heard:
        """Ask for a streamed answer, and listen to its end."""
        asked = {**TURN, **request}
        if variant.startswith("async"):
            return asyncio.run(self._hear(variant, asked))
        with OpenAI(**self._settings) as client:
            if variant == "raw":
                with client.chat.completions.create(stream=True, **asked) as chunks:
                    return Heard.from_chunks(chunks)
            with client.chat.completions.stream(**asked) as helper:
                return Heard.from_completion(helper.get_final_completion())

    async def _hear(self, variant: str, asked: dict[str, Any]) -> Heard:
        async with AsyncOpenAI(**self._settings) as client:
            if variant == "async raw":
                async with await client.chat.completions.create(stream=True, **asked) as chunks:
                    return Heard.from_chunks([each async for each in chunks])
            async with client.chat.completions.stream(**asked) as helper:
                return Heard.from_completion(await helper.get_final_completion())

    def ask(self, variant: str, **request: Any) -> Any:
        """Ask for a whole answer."""
        asked = {**TURN, **request}

        async def later() -> Any:
            async with AsyncOpenAI(**self._settings) as client:
                return await client.chat.completions.create(**asked)

        if variant.startswith("async"):
            return asyncio.run(later())
        with OpenAI(**self._settings) as client:
            return client.chat.completions.create(**asked)


@pytest.fixture
def sdk(server: RunningServer) -> Sdk:
    return Sdk(f"{server.url}/v1")


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestText:
    def test_an_answer_is_heard(self, sdk: Sdk, variant: str, upstream: ScriptedUpstream) -> None:
        assert sdk.hear(variant) == Heard("Hello there.", "stop")

    def test_it_is_heard_without_v1_too(self, server: RunningServer, variant: str, upstream: ScriptedUpstream) -> None:
        assert Sdk(server.url).hear(variant).text == "Hello there."

    @pytest.mark.parametrize("is_asked", [True, False])
    def test_usage_is_heard_where_it_is_asked_for(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream, is_asked: bool
    ) -> None:
        upstream.say(answer("Hello.", usage=USAGE))

        heard = sdk.hear(variant, **({"stream_options": {"include_usage": True}} if is_asked else {}))

        assert heard == Heard("Hello.", "stop", usage=USAGE if is_asked else None)

    def test_usage_that_the_upstream_does_not_tell_is_not_made_up(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream
    ) -> None:
        assert sdk.hear(variant, stream_options={"include_usage": True}).usage is None

    @pytest.mark.parametrize(
        "events",
        [
            [{"choices": [{"delta": {"content": "Hi"}}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}],
            [chunk(choices=[], id="", prompt_filter_results=[]), ROLE, HI, STOP],
            [ROLE, chunk(choices=None), chunk(delta=None), chunk({"content": None}), HI, STOP],
            [chunk({"role": "assistant", "content": "H"}), chunk({"role": "assistant", "content": "i"}), STOP],
            [ROLE, chunk({"content": "Hi"}, "stop", usage=USAGE)],
            [ROLE, chunk({"content": "Hi"}, usage=USAGE), chunk({}, "stop", usage=USAGE), chunk(usage=USAGE)],
            [ROLE, chunk({"content": "H"}, id="one"), chunk({"content": "i"}, id="two", created=1), STOP],
        ],
        ids=["bare", "Azure's first", "nulls", "roles", "text in the finish", "usage everywhere", "many ids"],
    )
    def test_odd_chunks_are_heard(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream, events: list[dict[str, Any]]
    ) -> None:
        upstream.say(stream(*events))

        assert sdk.hear(variant) == Heard("Hi", "stop")

    def test_keepalives_are_not_heard(self, sdk: Sdk, variant: str, upstream: ScriptedUpstream) -> None:
        upstream.say([HEAD, 0.5, framed(event(ROLE) + event(HI) + event(STOP) + DONE), END])

        assert sdk.hear(variant) == Heard("Hi", "stop")
        assert len(upstream.asked) == 1


def piece(arguments: str = "", **more: Any) -> dict[str, Any]:
    """Return a piece of a call to a tool; its `name` goes where the format wants it."""
    name = {"name": more.pop("name")} if "name" in more else {}
    return {**more, "function": {**name, "arguments": arguments}}


def calling(*pieces: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(pieces)})


A, B = {"id": "call_a", "type": "function", "name": "weather"}, {"id": "call_b", "type": "function", "name": "clock"}
A1, A2, B1, B2 = '{"city":', '"Paris"}', '{"zone":', '"CET"}'
ASK_TOOLS = chunk({}, "tool_calls")
TOOL_SHAPES = {
    "as OpenAI": [
        calling(piece(index=0, **A)),
        calling(piece(A1, index=0)),
        calling(piece(A2, index=0)),
        calling(piece(index=1, **B)),
        calling(piece(B1, index=1)),
        calling(piece(B2, index=1)),
        ASK_TOOLS,
    ],
    "without indexes": [
        calling(piece(A1, **A)),
        calling(piece(A2)),
        calling(piece(B1, **B)),
        calling(piece(B2)),
        ASK_TOOLS,
    ],
    "all at index 0": [calling(piece(A1 + A2, index=0, **A)), calling(piece(B1 + B2, index=0, **B)), ASK_TOOLS],
    "from index 1": [calling(piece(A1 + A2, index=1, **A)), calling(piece(B1 + B2, index=2, **B)), ASK_TOOLS],
    "several in a chunk": [calling(piece(A1 + A2, index=0, **A), piece(B1 + B2, index=1, **B)), ASK_TOOLS],
    "ids repeated": [
        calling(piece(A1, index=0, **A)),
        calling(piece(A2, index=0, **A)),
        calling(piece(B1, index=1, **B)),
        calling(piece(B2, index=1, **B)),
        ASK_TOOLS,
    ],
    "finished by stop": [calling(piece(A1 + A2, index=0, **A)), calling(piece(B1 + B2, index=1, **B)), STOP],
    "in the finish": [
        chunk({"tool_calls": [piece(A1 + A2, index=0, **A), piece(B1 + B2, index=1, **B)]}, "tool_calls")
    ],
    "usage behind the finish": [
        calling(piece(A1 + A2, index=0, **A)),
        calling(piece(B1 + B2, index=1, **B)),
        ASK_TOOLS,
        chunk(choices=[], usage=USAGE),
    ],
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string"}},
                "required": [key],
                "additionalProperties": False,
            },
        },
    }
    for name, key in (("weather", "city"), ("clock", "zone"))
]


class TestTools:
    @pytest.mark.parametrize("shape", TOOL_SHAPES)
    def test_calls_are_heard_whatever_form_they_have(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream, shape: str
    ) -> None:
        upstream.say(stream(ROLE, *TOOL_SHAPES[shape]))

        heard = sdk.hear(variant, tools=TOOLS)

        assert heard.calls == [("call_a", "weather", A1 + A2), ("call_b", "clock", B1 + B2)]
        assert heard.finish_reason == "tool_calls"
        assert upstream.wait_for(1).body["tools"] == TOOLS


BEFORE: dict[str, tuple[list[Step], type[openai.APIStatusError], str]] = {
    "400": (reply(400, {"error": {"message": "Too hot."}}), openai.BadRequestError, "upstream_rejected"),
    "404": (reply(404, {"error": {"message": "No such model."}}), openai.NotFoundError, "upstream_rejected"),
    "422": (reply(422, {"detail": "Odd."}), openai.UnprocessableEntityError, "upstream_rejected"),
    "401": (reply(401, {"error": {"message": "Who?"}}), openai.InternalServerError, "upstream_auth"),
    "429": (reply(429, {}, Retry_After="7"), openai.RateLimitError, "upstream_rate_limited"),
    "500": (reply(500, b"<html>", "text/html"), openai.InternalServerError, "upstream_error"),
    "HTML": (reply(200, b"<html>", "text/html"), openai.InternalServerError, "upstream_broken"),
    "error first": (stream({"error": {"message": "Overloaded."}}), openai.InternalServerError, "upstream_error"),
    "nothing": ([HEAD, "close"], openai.InternalServerError, "upstream_broken"),
}
AFTER: dict[str, list[Step]] = {
    "an error frame": stream(ROLE, HI, {"error": {"message": "Overloaded."}}),
    "cut": [HEAD + framed(event(ROLE) + event(HI)), "close"],
    "no finish": stream(ROLE, HI),
    "no finish, no end": stream(ROLE, HI, done=False),
    "no JSON": stream(ROLE, HI, b"{oops"),
    "a stall": [HEAD + framed(event(ROLE) + event(HI)), "hold"],
    "keepalives only": [HEAD, "hold"],
}


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "streamed"), [*((name, True) for name in BEFORE), ("400", False), ("429", False), ("500", False)]
    )
    def test_a_failure_before_the_first_token_raises_with_its_status(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream, name: str, streamed: bool
    ) -> None:
        script, error, code = BEFORE[name]
        upstream.say(script)

        with pytest.raises(error) as raised:
            (sdk.hear if streamed else sdk.ask)(variant)

        assert raised.value.code == code
        assert raised.value.type
        assert raised.value.request_id
        assert isinstance(raised.value.body, dict) and raised.value.body["message"]

    @pytest.mark.parametrize("name", AFTER)
    def test_a_failure_after_it_raises_and_is_no_answer(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream, name: str
    ) -> None:
        upstream.say(AFTER[name])

        with pytest.raises(openai.APIError) as raised:
            sdk.hear(variant)

        assert not isinstance(raised.value, (openai.APIStatusError, openai.APIConnectionError))
        assert raised.value.code and raised.value.code.startswith("upstream_")
        assert raised.value.message

    def test_a_wrong_key_raises(self, sdk: Sdk, variant: str) -> None:
        sdk.key = "sk-wrong"

        with pytest.raises(openai.AuthenticationError):
            sdk.hear(variant)

    def test_what_the_server_has_tried_twice_the_sdk_does_not_try_again(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(reply(500, {"error": {"message": "Down."}}))
        sdk.retries = 2

        with pytest.raises(openai.InternalServerError) as raised:
            sdk.hear(variant)

        assert raised.value.response.headers["x-should-retry"] == "false"
        assert len(upstream.asked) == 2

    def test_what_another_try_would_not_mend_the_sdk_does_not_try_again(
        self, sdk: Sdk, variant: str, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(reply(400, {"error": {"message": "Too hot."}}))
        sdk.retries = 2

        with pytest.raises(openai.BadRequestError):
            sdk.hear(variant)

        assert len(upstream.asked) == 1

    def test_how_long_to_wait_is_passed_on(self, sdk: Sdk, variant: str, upstream: ScriptedUpstream) -> None:
        upstream.say(BEFORE["429"][0])

        with pytest.raises(openai.RateLimitError) as raised:
            sdk.hear(variant)

        assert raised.value.response.headers["retry-after"] == "7"


class TestWhole:
    @pytest.mark.parametrize("variant", ["raw", "async raw"])
    def test_a_whole_answer_is_heard(self, sdk: Sdk, variant: str, upstream: ScriptedUpstream) -> None:
        upstream.say(reply(200, COMPLETION))

        completion = sdk.ask(variant)

        assert completion.to_dict() == COMPLETION
        assert completion._request_id
        assert upstream.wait_for(1).body["stream"] is False

    def test_models_are_listed(self, sdk: Sdk, upstream: ScriptedUpstream) -> None:
        listed = [{"id": name, "object": "model", "created": 1, "owned_by": "them"} for name in ("up-1", "up-2")]
        upstream.say(reply(200, {"object": "list", "data": listed}))

        async def names() -> list[str]:
            async with AsyncOpenAI(base_url=sdk.url, api_key=KEY) as client:
                return [model.id async for model in client.models.list()]

        with OpenAI(base_url=sdk.url, api_key=KEY) as client:
            assert [model.id for model in client.models.list()] == ["up-1", "up-2"]
        assert asyncio.run(names()) == ["up-1", "up-2"]


class TestConnection:
    def test_it_is_used_again_without_a_wait_for_the_end_of_the_body(
        self, sdk: Sdk, upstream: ScriptedUpstream
    ) -> None:
        async def ask() -> tuple[set[int], float]:
            ports, times = set(), []
            async with AsyncOpenAI(base_url=sdk.url, api_key=KEY) as client:
                for _ in range(7):
                    began = time.monotonic()
                    chunks = await client.chat.completions.create(stream=True, **TURN)
                    ports.add(_port(chunks))
                    assert Heard.from_chunks([each async for each in chunks]).text == "Hello there."
                    times.append(time.monotonic() - began)
            return ports, statistics.median(times)

        ports, median = asyncio.run(ask())

        assert len(ports) == 1
        assert median < ASYNC_REUSE_S

    def test_a_stream_that_is_closed_ends_the_upstreams_too(self, sdk: Sdk, upstream: ScriptedUpstream) -> None:
        upstream.say([HEAD + framed(event(ROLE) + event(HI)), "hold"])

        with (
            OpenAI(base_url=sdk.url, api_key=KEY) as client,
            client.chat.completions.create(stream=True, **TURN) as chunks,
        ):
            next(iter(chunks))

        assert upstream.wait_for_drop(upstream.wait_for(1))


def _port(chunks: Any) -> int:
    """Return the client's port of the connection that a stream comes over."""
    return int(chunks.response.extensions["network_stream"].get_extra_info("client_addr")[1])
