import json
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agents import WrongArguments
from agents.bundled import calculate, current_time, search_tool

ROOT = Path(__file__).parent.parent


def result(expression: str) -> str:
    return calculate.run(json.dumps({"expression": expression}))


def complaint(expression: str) -> str:
    with pytest.raises(WrongArguments) as caught:
        result(expression)
    assert len(str(caught.value)) < 200
    return str(caught.value).removeprefix("expression: ")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("1.10 + 2.20", "3.3"),
        ("3 * 19.99 * 1.19", "71.3643"),
        ("1,234.5 * 2", "2469"),
        ("1,234,567 + 1", "1234568"),
        ("3 × 4 ÷ 2 − 1", "5"),
        ("3 x 4", "12"),
        ("3x4 + (2)x(3)", "18"),
        ("１２＋３", "15"),
        ("（1＋2）×3", "9"),
        ("2^10", "1024"),
        ("2**100", "1267650600228229401496703205376"),
        ("-2^2", "-4"),
        ("5² + 2³", "33"),
        ("7 / 2", "3.5"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("10 % 3", "1"),
        ("-7 % 3", "2"),
        ("15% of 80", "12"),
        ("20 % OF 50", "10"),
        ("200 * 15%", "30"),
        ("2 / 50%", "4"),
        ("10% + 5%", "0.15"),
        ("100 + 10% of 100", "110"),
        ("007 + 00.5", "7.5"),
        (".5 + 5.", "5.5"),
        ("1e3", "1000"),
        ("1 / 3", "0.333333333333333"),
        ("2 / 3 * 3", "2"),
        ("10 / 3 * 3", "10"),
        ("1 / 8", "0.125"),
        ("1e30 / 3", "333333333333333333333333333333.33"),
        ("12345678901234567890.12 + 1", "12345678901234567891.12"),
        ("1 / 7e10", "1.42857142857143e-11"),
        ("2^200", "1.60693804425899e+60"),
        ("2 ^ 0.5", "1.4142135623731"),
        ("sqrt(16) + abs(-3)", "7"),
        ("round(2.675, 2)", "2.68"),
        ("round(2.5) + round(1234, -2)", "1203"),
        ("floor(-2.5) + ceil(2.1)", "0"),
        ("max(1, 2, 3) - min(4)", "-1"),
        ("2 * PI", "6.28318530717959"),
        ("2 + 2 =", "4"),
        ("1\n+\t2", "3"),
        ("--5", "5"),
        ("0 * -1", "0"),
        ("+".join(["12.50"] * 50), "625"),
    ],
)
def test_what_people_write_is_calculated(expression: str, value: str) -> None:
    assert result(expression) == value


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "there is nothing to calculate"),
        (" = ", "there is nothing to calculate"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 / 0", "it has no value"),
        ("sqrt(-1)", "it has no value"),
        ("(-8) ^ 0.5", "it has no value"),
        ("100 + 10%", "say what the percentage is of"),
        ("50 - 20 %", "say what the percentage is of"),
        ("10% - 3", "% can be read in two ways"),
        ("10 % -3", "% can be read in two ways"),
        ("(1 + 2)%", "% can be read in two ways"),
        ("1,5 + 1", "a comma can only divide thousands"),
        ("1.234,5", "a comma can only divide thousands"),
        ("max(1,234)", "write numbers without a comma inside"),
        ("0x10", "write numbers in decimal"),
        ("$5 + 3", "'$' is not known here"),
        ("½", "'½' is not known here"),
        ("1j", "'1j' is not known here"),
        ("1_000", "'1_000' is not known here"),
        ("two + 2", "'two' is not known: there are abs, ceil, e, "),
        ("sin(1)", "'sin' is not known: there are abs, ceil, e, "),
        ("sqrt", "a function needs its brackets, as in sqrt(2)"),
        ("round(1, 0.5)", "round(number, places) takes whole places"),
        ("5 +", "it can't be read"),
        ("1 2", "it can't be read"),
        ("2(3)", "it can't be read"),
        ("(1", "it can't be read"),
        ("max()", "it can't be read"),
        ("sqrt + 1", "it can't be read"),
        ("٣ + 1", "it can't be read"),
    ],
)
def test_what_has_no_value_is_told_such_that_it_can_be_mended(expression: str, told: str) -> None:
    assert complaint(expression).startswith(told)


HOSTILE = [
    "9**9**9",
    "9**9**9**9",
    "(((9**9)**9)**9)**9",
    "1.0000001**999999999",
    "1.5**1e40",
    "2**-1e40",
    "1e999999999999",
    "1e-999999999999",
    "1" * 299,
    "9" * 290 + "**.9",
    "1." + "9" * 140 + "**" + "9" * 140,
    "1e998*" * 49 + "1",
    "1e99%" * 59 + "3",
    "7^.3+" * 59 + "1",
    "2" + "**.5" * 70,
    "2" + "**2" * 99,
    "1" + "+1" * 149,
    "-" * 299 + "1",
    "(" * 149 + "1" + ")" * 149,
    "- " * 9 + "1" + "+ " * 9 + "1",
    "(" * 300,
    "sqrt(" * 49 + "2" + ")" * 49,
    "9%" * 150,
    "%" * 300,
    "1 " * 150,
    "1,111" * 60,
    "," * 300,
    "0" * 300,
    "." * 300,
    "x" * 300,
    "1x" * 150,
    "1" * 1_000_000,
    "(" * 1_000_000,
    "1+" * 500_000,
    '"a" * 10**9',
    "'a' * 9",
    "[1] * 10**9",
    "(1,) * 10**9",
    "1 << 10**9",
    "1 >> 1",
    "1 if 2 else 3",
    "1if 2else 3",
    "1 < 2",
    "1 == 1",
    "1 and 2",
    "not 1",
    "1 | 2",
    "~1",
    "True",
    "None",
    "...",
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "(1).real",
    "pi.__class__",
    "sqrt.__globals__",
    "max.__self__",
    "lambda: 1",
    "(lambda: 1)()",
    "[x for x in (1, 2)]",
    "{1: 2}",
    "f'{1}'",
    "max(*(1, 2))",
    "max(**{})",
    "max(a=1)",
    "max(1)(2)",
    "max((1, 2))",
    "min(sqrt, 2)",
    "round(1, sqrt)",
    "a = 1",
    "(a := 1)",
    "1; 2",
    "import os",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd')",
    "print(1)",
    "del pi",
    "1 # 2",
    "1 \\\n + 2",
    "\0",
    "1\0",
    "\ud83d",
    "\u202e1",
    "😀",
]


@pytest.mark.parametrize("expression", HOSTILE, ids=lambda expression: repr(expression[:20]))
def test_what_is_meant_to_harm_takes_no_time_and_gives_a_number_or_an_error(expression: str) -> None:
    started = time.perf_counter()
    try:
        text = calculate(expression)
    except WrongArguments as error:
        assert len(str(error)) < 200
    else:
        assert re.fullmatch(r"-?\d{1,51}(\.\d{1,60})?(e[+-]\d{1,3})?", text)

    assert time.perf_counter() - started < 0.1


def test_no_python_is_run_and_no_memory_is_taken() -> None:
    program = (
        "import json, resource, sys\n"
        "from agents.bundled import calculate\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "hostile = json.load(sys.stdin)\n"
        "calculate('1 + 1')\n"
        "watched = ('open', 'import', 'exec', 'os.system')\n"
        # Python looks for the source of a SyntaxError, in a file of this name
        "wrong = lambda event, args: event in watched and args[0] != '<unknown>'\n"
        "sys.addaudithook(lambda event, args: wrong(event, args) and print(event, args))\n"
        "before = used()\n"
        "for expression in hostile:\n"
        "    try: calculate(expression)\n"
        "    except ValueError: pass\n"
        "print((used() - before) // 1024)\n"
    )
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert told.stderr == ""
    assert int(told.stdout) < 20, "MB"


def test_a_deep_stack_is_no_reason_to_crash() -> None:
    def below(depth: int) -> str:
        return below(depth - 1) if depth else calculate("1" + "+1" * 140)

    texts = set()
    for depth in range(300, 1000, 10):
        try:
            texts.add(below(depth))
        except WrongArguments as error:
            texts.add(str(error))
        except RecursionError:
            break  # the stack was full before it came to the calculation

    assert texts == {"141", "expression: too much at once: calculate in several steps"}


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
        ("new york", "America/New_York"),
        ("Tokyo", "Asia/Tokyo"),
        ("UTC", "UTC"),
        (" asia/kathmandu ", "Asia/Kathmandu"),
    ],
)
def test_the_time_in_a_zone_is_told(zone: str, name: str) -> None:
    before = datetime.now(ZoneInfo(name))
    text = current_time.run(json.dumps({"zone": zone}))
    after = datetime.now(ZoneInfo(name))

    told = re.fullmatch(r"(\S+ \S+), (\w+), (\S+) \(UTC([+-]\d\d:\d\d)\)", text)
    assert told
    assert told[1] in (f"{before:%Y-%m-%d %H:%M}", f"{after:%Y-%m-%d %H:%M}")
    assert told[2] in (f"{before:%A}", f"{after:%A}")
    assert told[3] == name
    assert datetime.strptime(told[4], "%z").utcoffset() in (before.utcoffset(), after.utcoffset())


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("Europe/Berln", "near it are Europe/Berlin"),
        ("Berlin time", "near it are Europe/Berlin"),
        ("Louisville", "near it are America/Kentucky/Louisville, America/Louisville"),
        ("Beijing", "names are IANA's, such as Europe/Berlin or Asia/Shanghai"),
        ("", "names are IANA's"),
        ("../../etc/passwd", "names are IANA's"),
        ("/etc/localtime", "names are IANA's"),
        ("\0", "names are IANA's"),
        ("x" * 1_000_000, "names are IANA's"),
        ("Asia/" * 100_000, "names are IANA's"),
    ],
)
def test_an_unknown_zone_is_told_with_those_near_it(zone: str, told: str) -> None:
    started = time.perf_counter()
    with pytest.raises(WrongArguments, match="^zone: there is no time zone ") as caught:
        current_time(zone)

    assert told in str(caught.value)
    assert len(str(caught.value)) < 200
    assert time.perf_counter() - started < 0.1


def test_zones_are_known_on_a_machine_without_any() -> None:
    program = "from agents.bundled import current_time; print(current_time('Asia/Shanghai'))"

    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env={"PYTHONTZPATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "Asia/Shanghai (UTC+08:00)" in told.stdout, told.stderr


def test_the_knowledge_is_asked_in_the_turn_of_the_caller() -> None:
    asked: list[tuple[Any, str]] = []

    def search(turn: Any, question: str) -> str:
        asked.append((turn, question))
        return "It costs 39 euros."

    tool = search_tool(search)
    text = tool.run('{"question": "What does the lamp cost?"}', "this turn")

    assert (tool.name, text) == ("search_knowledge", "It costs 39 euros.")
    assert asked == [("this turn", "What does the lamp cost?")]


@pytest.mark.parametrize(
    "each", [current_time, calculate, search_tool(lambda turn, question: "")], ids=lambda e: e.name
)
def test_each_bundled_tool_has_one_described_text_to_be_given(each: Any) -> None:
    parameters = each.schema["function"]["parameters"]

    (described,) = parameters["properties"].values()
    assert described["type"] == "string"
    assert described["description"]
    assert len(parameters["required"]) == 1
