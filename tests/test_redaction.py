import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import cpu_limit

from protocol.redaction import CALLER_LIMIT, LOG_LIMIT, QUOTE_LIMIT, for_caller, for_log, quoted

PLACES = [
    "https://llm.internal.example:8443/v1/chat?api_key=abc#x",
    "http://me:secret@10.0.0.7/v1",
    "postgresql://db.internal/chat",
    "file:///srv/models/llama",
    "wss://llm.example",
    "10.0.0.7",
    "192.168.1.20:8000",
    "/srv/app/engine.py",
    "/home/me/.cache/models/",
    "/usr/lib/python3.11/site-packages/vllm/engine.py",
    "C:\\Users\\me\\server.py",
    "\\\\host\\share\\file.txt",
    "~/models/llama",
    "/data/模型/llama/engine.py",
]
KEYS = [
    "sk-proj-AbCd1234efgh",
    "sk-ant-api03-AbCdEfGh_IjKl",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "sk-serve***********nary",
    "sk-or-v1-0123456789abcdef",
    "gsk_AbCdEfGhIjKlMnOp",
    "xai-AbCdEfGhIjKlMnOp",
    "hf_AbCdEfGhIjKlMnOp",
    "ghp_AbCdEfGhIjKlMnOp",
    "AIza" + "SyD4q7ZkX-2bC9mN0pQrStUvWxYz123456",
    "Bearer my-secret",
    "bearer s3cret",
    "0123456789abcdef0123456789abcdef",
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "0123456789abcdef0123456789abcdef.k3yS3cretPart16x",
]
# around what is to be taken out: nothing, and what messages put around it
AROUND = [
    "{}",
    "failed: {}",
    "at {}, line 3",
    "({})",
    '"{}"',
    "'{}': no",
    "path={}",
    "[{}]",
    "key {} is wrong",
    "说{}。",
]


@pytest.mark.parametrize("secret", PLACES + KEYS)
def test_a_caller_is_shown_no_address_path_or_key(secret: str) -> None:
    parts = [part for part in re.split(r"[/\\.]", secret) if len(part) > 3]

    for around in AROUND:
        shown = for_caller(around.format(secret))

        assert "…" in shown
        assert not any(part in shown for part in parts), shown


@pytest.mark.parametrize("key", KEYS)
def test_the_log_has_the_message_with_its_keys_masked(key: str) -> None:
    place = " at https://llm.example/v1, /srv/app/engine.py"

    for around in AROUND:
        logged = for_log(around.format(key) + place)

        assert "***" in logged
        assert logged.endswith(place)
        assert not any(part in logged for part in key.split(".") if len(part) > 3), logged


@pytest.mark.parametrize("key", ["hunter2", "EMPTY", "my-secret", "a.b+c*(d", "x" * 300])
def test_the_key_that_was_sent_is_taken_out_whatever_it_looks_like(key: str) -> None:
    message = f"The key {key} is not known; {key!r} neither." + "." * 100

    assert key not in for_caller(message, key)
    assert key not in for_log(message, key)
    assert "is not known" in for_caller(message, key)


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens must be at most 4096, not 100000 (in messages[0].content).",
        "The model `gpt-4o-mini` does not exist or you do not have access to it.",
        "The model `claude-3-5-sonnet-20241022` does not exist.",
        "The model gpt-4o-mini-transcribe-2025-12-15 does not exist.",
        "The model `meta-llama/Llama-3.3-70B-Instruct` does not exist.",
        "The model `accounts/fireworks/models/llama-v3p1-405b-instruct` does not exist.",
        "model 'qwen3:30b-a3b-instruct-2507-q4_K_M' not found, try pulling it first",
        "Content-Type must be application/json and/or text/event-stream.",
        "Rate limit: 3/5 in 60 s; see the docs.",
        "temperature: Input should be less than or equal to 2.0.",
        "response_format.json_schema.additionalProperties must be false",
        "参数错误：messages 不能为空。",
        "",
    ],
)
def test_a_message_without_secrets_stays_as_it_is(message: str) -> None:
    assert for_caller(message) == message
    assert for_log(message) == message


def test_a_caller_is_shown_200_characters() -> None:
    assert for_caller("a b " * 50) == ("a b " * 50).strip()
    assert for_caller("ab. " * 51) == ("ab. " * 50)[:199] + "…"
    assert len(for_caller("é" * 5000)) == CALLER_LIMIT == 200


def test_a_key_at_the_limit_is_not_cut_into_one_that_is_not_seen() -> None:
    for place in range(CALLER_LIMIT - 40, CALLER_LIMIT + 5):
        shown = for_caller("a " * (place // 2) + " sk-proj-AbCd1234efgh")
        assert "sk-" not in shown

    for place in range(LOG_LIMIT - 40, LOG_LIMIT + 5):
        assert "sk-" not in for_log("a " * (place // 2) + " sk-proj-AbCd1234efgh")


def test_a_message_of_several_lines_becomes_one() -> None:
    assert for_caller("1 validation error\r\n  messages\n\tfield\u2028required\x85 ") == (
        "1 validation error messages field required"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nFAKE outcome=ok", "a\\nFAKE outcome=ok"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("a\0b\x7fc\x9bd", "a\\x00b\\x7fc\\x9bd"),
        ("\u202eevil\u200b", "\\u202eevil\\u200b"),
        ("\ud83d", "\\ud83d"),
        ("a\tb", "a\\tb"),
        ("你好，世界 é 😀", "你好，世界 é 😀"),
    ],
)
def test_a_line_of_the_log_stays_one_line_and_moves_no_terminal(text: str, escaped: str) -> None:
    assert quoted(text) == escaped
    assert for_log(text) == escaped


def test_the_log_keeps_64_characters_of_a_callers_text_and_2000_of_an_upstreams() -> None:
    assert quoted("m" * 1000) == "m" * QUOTE_LIMIT == "m" * 64
    assert for_log("é" * 10_000) == "é" * LOG_LIMIT == "é" * 2000


@given(
    st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from("ab1-_./\\: \n\x1bé\u2028"), max_size=300)
)
def test_any_text_is_made_short_and_printable(text: str) -> None:
    for shown, limit in (
        (for_caller(text), CALLER_LIMIT),
        (for_log(text), LOG_LIMIT),
        (quoted(text), 10 * QUOTE_LIMIT),
    ):
        assert shown.isprintable()
        assert len(shown) <= limit


@pytest.mark.parametrize(
    "unit", ["a.", "a-", "a1-", "ab", "1.", "/a", "/", "\\a", "sk-", "bearer ", "a://", "a1", "key_", " ", "-1a"]
)
def test_a_flood_costs_little_time(unit: str) -> None:
    with cpu_limit(0.5):
        for_caller(unit * 1_000_000)
        for_log(unit * 1_000_000)
        quoted(unit * 1_000_000)
