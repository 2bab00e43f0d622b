import sys
import threading

import pytest

from knowledge.tokens import tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Chargers are charging", ["charger", "charg"]),
        ("What is the price of it?", ["price"]),
        ("It's the city's, don't you think", ["citi", "think"]),
        ("the U.S. army", ["us", "armi"]),
        ("怎么充电", ["充电"]),
        ("退货政策", ["退货", "货政", "政策"]),
        ("我", ["我"]),
        ("我，你", ["我", "你"]),
        ("iPhone15怎么充电", ["iphon", "15", "iphone15", "充电"]),
        ("東京タワーへ", ["東京", "京タ", "タワ", "ワー", "ーへ"]),
        ("한국어", ["한국", "국어"]),
        ("3.5 percent", ["3.5", "percent"]),
        ("1,000.50 and 1,234,567", ["1000.50", "1234567"]),
        ("pages 2,5", ["page", "2", "5"]),
        ("version 2.10.3.", ["version", "2.10.3"]),
        ("XR-200", ["xr", "200", "xr200"]),
        ("a Wi-Fi e-mail", ["wi", "fi", "wifi", "mail", "email"]),
        ("a 4K screen", ["4k", "screen"]),
        ("state-of-the-art", ["state", "art"]),
        ("ＸＲ２００", ["xr", "200", "xr200"]),
        ("Café CAFÉ cafe\u0301", ["cafe", "cafe", "cafe"]),
        ("l'hôtel d'accord", ["hotel", "accord"]),
        ("Straße", ["strass"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("ёлка", ["елка"]),
        ("\ud83d 😀 — !?", []),
        ("", []),
    ],
)
def test_a_text_becomes_its_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(("one", "other"), [("XR-200", "xr200"), ("XR‐200", "XR-200"), ("wi-fi", "Wi-Fi")])
def test_a_name_has_the_same_tokens_however_it_is_written(one: str, other: str) -> None:
    assert tokens(one) == tokens(other)


def test_a_model_number_spoken_as_two_words_shares_its_parts() -> None:
    assert set(tokens("xr 200")) < set(tokens("XR-200"))


def test_no_token_can_break_a_search_expression() -> None:
    every = "".join(map(chr, range(0x20, 0x3000))) + "中\u3000\"文'；\u0000\u00a0"

    found = tokens(every)

    assert found
    assert not [token for token in found if not token or '"' in token or any(c.isspace() or c < "." for c in token)]


def test_threads_do_not_disturb_each_other() -> None:
    text = "stemming happens running quickly 充电 connections relational"
    expected = tokens(text)
    wrong: list[list[str]] = []
    interval = sys.getswitchinterval()

    def repeat() -> None:
        wrong.extend(found for found in (tokens(text) for _ in range(500)) if found != expected)

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)

    assert not wrong
