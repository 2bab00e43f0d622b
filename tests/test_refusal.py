import json
from typing import Any

import pytest
from limits import cpu_limit

from protocol.chunks import read_chunk
from protocol.errors import Failure, error_json
from upstream.refusal import refusal, refusal_in

KEY = "sk-canary-key-1"
OUR_WORDS = {
    "upstream_auth": "The server's own key for the language model was not accepted.",
    "invalid_api_key": "The language model's server does not accept this key.",
    "upstream_rate_limited": "The language model is asked too often.",
    "upstream_error": "The language model's server failed.",
}


def refuse(status: int, body: Any, pass_through: bool = False, key: str = KEY) -> Failure:
    """Return what becomes of an upstream's error response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal(status, {}, data, key, pass_through=pass_through)


def refuse_event(body: dict[str, Any], pass_through: bool = False) -> Failure | None:
    """Return what becomes of an event of a stream."""
    return refusal_in(read_chunk(json.dumps(body).encode()).chunk, KEY, pass_through=pass_through)


@pytest.mark.parametrize(
    ("status", "answered", "code", "outcome"),
    [
        *((status, status, "upstream_rejected", "upstream_status") for status in (400, 404, 413, 422)),
        (401, 502, "upstream_auth", "upstream_status"),
        (403, 502, "upstream_auth", "upstream_status"),
        (429, 429, "upstream_rate_limited", "upstream_status"),
        *(
            (status, 502, "upstream_error", "upstream_status")
            for status in (301, 307, 402, 405, 408, 409, 415, 418, 451)
        ),
        *((status, 502, "upstream_error", "upstream_status") for status in (500, 502, 503, 504, 529, 599, 201, 204)),
    ],
)
def test_an_upstreams_status_becomes_ours(status: int, answered: int, code: str, outcome: str) -> None:
    failure = refuse(status, {"error": {"message": "It said so."}})

    assert (failure.answered, failure.code, failure.outcome) == (answered, code, outcome)
    assert failure.detail == f"upstream status {status}: It said so."
    assert failure.message == ("It said so." if code == "upstream_rejected" else failure.message)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_was_passed_through_is_the_callers_to_mend(status: int) -> None:
    failure = refuse(status, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, pass_through=True)

    assert (failure.answered, failure.code, failure.outcome) == (401, "invalid_api_key", "caller_unauthorized")
    assert failure.message == OUR_WORDS["invalid_api_key"]


@pytest.mark.parametrize(
    ("status", "pass_through", "code"),
    [
        (401, False, "upstream_auth"),
        (401, True, "invalid_api_key"),
        (429, False, "upstream_rate_limited"),
        (500, False, "upstream_error"),
    ],
)
def test_what_is_not_the_callers_fault_is_said_in_our_own_words(status: int, pass_through: bool, code: str) -> None:
    failure = refuse(status, {"error": {"message": "Secret of the house"}}, pass_through)

    assert (failure.code, failure.message) == (code, OUR_WORDS[code])
    assert "Secret of the house" in failure.detail


@pytest.mark.parametrize(
    ("headers", "passed_on"),
    [
        ({"Retry-After": "7"}, {"Retry-After": "7"}),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        ({"Retry-After": "7\r\nX-Evil: 1"}, {}),
        ({"Retry-After": ""}, {}),
        ({"X-Other": "7"}, {}),
    ],
)
def test_how_long_to_wait_is_passed_on(headers: dict[str, str], passed_on: dict[str, str]) -> None:
    assert refusal(429, headers, b"", pass_through=False).headers == passed_on


@pytest.mark.parametrize(
    ("body", "said"),
    [
        # OpenAI, Azure OpenAI, OpenRouter, Anthropic, Gemini (a list around it)
        ({"error": {"message": "No such model.", "type": "x", "param": None, "code": "y"}}, "No such model."),
        (
            {"error": {"code": 400, "message": "No such model.", "metadata": {"raw": "x"}}, "user_id": "u"},
            "No such model.",
        ),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "No such model."}}, "No such model."),
        ([{"error": {"code": 400, "message": "No such model.", "status": "INVALID_ARGUMENT"}}], "No such model."),
        # Ollama, text-generation-inference, vLLM, llama.cpp
        ({"error": "No such model."}, "No such model."),
        ({"error": "No such model.", "error_type": "validation"}, "No such model."),
        ({"object": "error", "message": "No such model.", "type": "NotFoundError", "code": 404}, "No such model."),
        ({"error": {"error": {"message": "No such model."}}}, "No such model."),
        # FastAPI, LiteLLM, Cloudflare, Bedrock
        ({"detail": "No such model."}, "No such model."),
        ({"detail": [{"loc": ["body"], "msg": "No such model.", "type": "missing"}]}, "No such model."),
        ({"detail": {"error": {"message": "No such model."}}}, "No such model."),
        ({"errors": [{"code": 7003, "message": "No such model."}], "success": False}, "No such model."),
        ({"message": "No such model."}, "No such model."),
        ({"error": None, "message": "No such model."}, "No such model."),
        # pages and text
        (b"<!DOCTYPE html><html><head><title>\n404 Not Found </title></head></html>", "404 Not Found"),
        (b"<HTML><TITLE lang=en>Bad Request</TITLE>", "Bad Request"),
        (b"No such model.", "No such model."),
        ("模型不存在。".encode(), "模型不存在。"),
        ({"error": {"message": "1 error\n  messages\r\n\tfield required"}}, "1 error messages field required"),
        (b"\xef\xbb\xbf" + b'{"error": {"message": "No such model."}}', "No such model."),
        (b'{"error": {"message": "Odd \\ud83d half"}}', "Odd \ufffd half"),
    ],
)
def test_the_sentence_is_found_in_every_shape_of_error(body: Any, said: str) -> None:
    failure = refuse(404, body)

    assert failure.message == said
    assert failure.detail.startswith("upstream status 404: ")
    assert json.loads(error_json(failure)) == {
        "error": {"message": said, "type": "invalid_request_error", "param": None, "code": "upstream_rejected"}
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n",
        b"<html><body>stack</body></html>",
        b"null",
        b"5",
        b"[]",
        b"{}",
        b"[[[[[[]]]]]]",
        {"error": {}},
        {"error": True},
        {"error": {"message": 5}},
        {"error": {"code": "x"}},
        {"detail": [5]},
        b"[" * 60_000,
        b'{"error":' * 7000,
        b"\xff\xfe\x00",
    ],
)
def test_an_error_without_a_sentence_gets_one(body: Any) -> None:
    message = refuse(400, body).message

    assert message
    assert message.isprintable()
    assert "stack" not in message


def test_what_the_caller_is_shown_is_short_and_holds_no_secret() -> None:
    said = f"Key {KEY} at https://llm.internal/v1 in /srv/app/engine.py of 10.0.0.7: " + "no " * 100

    failure = refuse(400, {"error": {"message": said}})

    assert failure.message.startswith("Key *** at … in … of …: no no")
    assert len(failure.message) <= 200
    assert "https://llm.internal/v1" in failure.detail and "/srv/app/engine.py" in failure.detail
    assert KEY not in failure.detail


@pytest.mark.parametrize("key", ["hunter2", "EMPTY"])
@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500])
@pytest.mark.parametrize("pass_through", [False, True])
def test_the_key_that_was_sent_is_never_repeated(key: str, status: int, pass_through: bool) -> None:
    failure = refuse(status, {"error": {"message": f"The key {key} is wrong."}}, pass_through, key)

    assert key not in failure.message + failure.detail
    assert "The key *** is wrong." in failure.detail


@pytest.mark.parametrize(
    "body",
    [b'{"error_code": 336003, "error_msg": "Odd."}', b"<html><body>Odd.</body></html>", b'{"error": {"x": "Odd."}}'],
)
def test_the_log_has_an_error_whose_sentence_is_not_found(body: bytes) -> None:
    failure = refuse(400, body)

    assert "Odd." in failure.detail
    assert "Odd." not in failure.message


@pytest.mark.parametrize(
    "body", [b"<title" * 10_000, b"<title>" * 9000, b"x " * 30_000, b'{"error":"' + b"a." * 30_000]
)
def test_an_error_of_any_size_costs_little(body: bytes) -> None:
    with cpu_limit(0.3):
        failure = refuse(400, body)

    assert len(failure.message + failure.detail) < 2300


@pytest.mark.parametrize(
    ("body", "answered", "code", "said"),
    [
        ({"error": {"message": "It broke."}}, 502, "upstream_error", "It broke."),
        ({"error": "It broke."}, 502, "upstream_error", "It broke."),
        ({"error": {"message": "It broke.", "code": "server_error"}}, 502, "upstream_error", "It broke."),
        ({"error": {"message": "It broke.", "code": None, "type": "x"}}, 502, "upstream_error", "It broke."),
        (
            {"type": "error", "error": {"type": "overloaded", "message": "It broke."}},
            502,
            "upstream_error",
            "It broke.",
        ),
        ({"detail": "It broke."}, 502, "upstream_error", "It broke."),
        ({"detail": [{"msg": "It broke."}], "choices": []}, 502, "upstream_error", "It broke."),
        (
            {"error": {"message": "It broke."}, "choices": [{"index": 0, "delta": {}}]},
            502,
            "upstream_error",
            "It broke.",
        ),
        ({"error": {}, "detail": "It broke."}, 502, "upstream_error", "It broke."),
        ({"error": True}, 502, "upstream_error", OUR_WORDS["upstream_error"]),
        ({"error": {"code": 500, "message": "It broke."}}, 502, "upstream_error", OUR_WORDS["upstream_error"]),
        ({"error": {"code": "400", "message": "It broke."}}, 400, "upstream_rejected", "It broke."),
        ({"error": {"status": 422, "message": "It broke."}}, 422, "upstream_rejected", "It broke."),
        (
            {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}},
            429,
            "upstream_rate_limited",
            OUR_WORDS["upstream_rate_limited"],
        ),
        ({"error": {"code": 401, "message": "Bad key."}}, 502, "upstream_auth", OUR_WORDS["upstream_auth"]),
        ({"error": {"code": 200, "message": "It broke."}}, 502, "upstream_error", "It broke."),
        ({"error": {"code": 4000, "message": "It broke."}}, 502, "upstream_error", "It broke."),
    ],
)
def test_an_error_event_becomes_a_failure(body: dict[str, Any], answered: int, code: str, said: str) -> None:
    failure = refuse_event(body)

    assert failure is not None
    assert (failure.answered, failure.code, failure.message) == (answered, code, said)
    assert failure.detail


def test_an_error_event_about_a_key_that_was_passed_through_is_the_callers_to_mend() -> None:
    failure = refuse_event({"error": {"code": 401, "message": f"Bad key {KEY}."}}, pass_through=True)

    assert failure is not None
    assert (failure.answered, failure.code) == (401, "invalid_api_key")
    assert KEY not in failure.message + failure.detail


def test_an_error_event_is_shown_without_secrets() -> None:
    failure = refuse_event({"error": {"message": f"{KEY}: /srv/app/engine.py: " + "no " * 100}})

    assert failure is not None
    assert len(failure.message) <= 200
    assert not any(secret in failure.message for secret in (KEY, "engine"))
    assert KEY not in failure.detail


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0, "delta": {"content": "error"}}]},
        {"choices": [{"index": 0, "delta": {}}], "error": None},
        {"choices": [{"index": 0, "delta": {}}], "detail": "some"},
        {"choices": [], "usage": {"total_tokens": 1}},
        {"choices": [], "error": None, "detail": None},
        {"object": "ping"},
        {},
    ],
)
def test_an_ordinary_event_is_no_error(body: dict[str, Any]) -> None:
    assert refuse_event(body) is None
