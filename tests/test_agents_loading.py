import re
import subprocess
import sys
from pathlib import Path

import pytest

from agents.loading import BadAgent, load_agents

ECHO = "def answer(turn):\n    yield turn\n"
NONE: frozenset[str] = frozenset()


def write(folder: Path, **files: str) -> Path:
    """Write Python files; two underscores in a name stand for a hyphen."""
    for name, text in files.items():
        (folder / f"{name.replace('__', '-')}.py").write_text(text, encoding="utf-8")
    return folder


def refusal(folder: Path, reserved: frozenset[str] = NONE) -> str:
    with pytest.raises(BadAgent) as caught:
        load_agents(folder, reserved)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(folder), "")


def test_each_file_is_an_agent_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, echo=ECHO, order__desk="def answer(turn):\n    return ['an order of', turn]\n")

    agents = load_agents(tmp_path, NONE)

    assert list(agents) == ["echo", "order-desk"]
    assert list(agents["order-desk"]("lamps")) == ["an order of", "lamps"]


def test_what_is_no_agent_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, echo=ECHO, _shared="raise ValueError", **{".hidden": "raise ValueError"})
    (tmp_path / "__init__.py").write_text("raise ValueError")
    (tmp_path / "README.md").write_text("# mine")
    (tmp_path / "folder.py").mkdir()

    assert list(load_agents(tmp_path, NONE)) == ["echo"]


def test_an_empty_folder_has_no_agents(tmp_path: Path) -> None:
    assert load_agents(tmp_path, NONE) == {}


def test_a_folder_given_from_here_is_the_same_wherever_one_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine", late="def answer(turn):\n    from . import _words\n    yield _words.HELLO\n")
    write(tmp_path / "mine", _words="HELLO = 'hello'\n")
    monkeypatch.chdir(tmp_path)
    agents = load_agents(Path("mine"), NONE)

    monkeypatch.chdir("/")

    assert list(agents["late"](None)) == ["hello"]


def test_agents_share_what_is_in_files_that_begin_with_an_underscore(tmp_path: Path) -> None:
    write(tmp_path, _prices="from ._currency import SIGN\nLAMP = f'39 {SIGN}'\n", _currency="SIGN = '€'\n")
    write(tmp_path, lamps="from . import _prices\ndef answer(turn):\n    yield _prices.LAMP\n")

    assert list(load_agents(tmp_path, NONE)["lamps"](None)) == ["39 €"]


def test_an_agent_may_be_made_of_another_which_is_loaded_once(tmp_path: Path) -> None:
    write(tmp_path, a="from . import b\ndef answer(turn):\n    yield b.ONCE\n")
    write(tmp_path, b="ONCE = object()\ndef answer(turn):\n    yield ONCE\n")

    agents = load_agents(tmp_path, NONE)

    assert list(agents["a"](None)) == list(agents["b"](None))


def test_a_class_of_an_agent_knows_its_module(tmp_path: Path) -> None:
    write(
        tmp_path,
        order__desk="from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Order:\n    count: int | None = 2\n"
        "def answer(turn):\n    yield f'{Order.__module__} {Order().count}'\n",
    )

    assert list(load_agents(tmp_path, NONE)["order-desk"](None)) == ["agents_of_user.order_desk 2"]


def test_nothing_of_the_folder_stands_in_for_other_modules(tmp_path: Path) -> None:
    for name in ("json", "settings", "agents", "gevent", "decimal"):
        write(tmp_path, **{name: ECHO})
    write(tmp_path, zz="import json, agents\ndef answer(turn):\n    yield json.dumps([agents.tool.__name__])\n")
    path, modules = list(sys.path), {name: sys.modules.get(name) for name in ("json", "settings", "agents")}

    agents = load_agents(tmp_path, NONE)

    assert list(agents["zz"](None)) == ['["tool"]']
    assert sys.path == path
    assert {name: sys.modules.get(name) for name in modules} == modules


def test_another_folder_takes_the_place_of_the_first(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, _name=f"NAME = '{folder}'\n")
        write(tmp_path / folder, who="from ._name import NAME\ndef answer(turn):\n    yield NAME\n")

    answers = [load_agents(tmp_path / folder, NONE)["who"] for folder in ("one", "two", "one")]

    assert [list(answer(None)) for answer in answers] == [["one"], ["two"], ["one"]]


@pytest.mark.parametrize("name", ["Echo", "order_desk", "1st", "-x", "caffè", "a" * 33, "a b", "x.y", "电话"])
def test_a_name_that_is_no_path_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text(ECHO)

    assert refusal(tmp_path).startswith(f"/{name}.py: an agent's name begins with a letter")


@pytest.mark.parametrize("name", ["a", "a" * 32, "a-", "x2", "class", "import-export"])
def test_any_other_name_is_served(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text(ECHO)

    assert list(load_agents(tmp_path, NONE)) == [name]


def test_a_name_of_the_servers_own_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rag=ECHO)

    assert refusal(tmp_path, frozenset({"chat", "rag"})) == "/rag.py: rag is the server's own name, choose another"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\ndef answer(turn)\n    yield 1\n", r"/bad\.py:2: SyntaxError: .+"),
        ("x = 1\n  y = 2\n", r"/bad\.py:2: IndentationError: .+"),
        ("\n\nimport nowhere_to_be_found\n", r"/bad\.py:3: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("from agents import nothing\n", r"/bad\.py:1: ImportError: cannot import name 'nothing' from 'agents' .+"),
        ("import json\n\njson.loads('{')\n", r"/bad\.py:3: JSONDecodeError: .+"),
        ("def f():\n    return 1 / 0\nf()\n", r"/bad\.py:2: ZeroDivisionError: division by zero"),
        ("raise ValueError('one\\ntwo')\n", r"/bad\.py:1: ValueError: one two"),
        ("raise Exception\n", r"/bad\.py:1: Exception"),
        ("import sys\nsys.exit('no key')\n", r"/bad\.py:2: SystemExit: no key"),
        ("def f(): f()\nf()\n", r"/bad\.py:1: RecursionError: .+"),
        ("x = '\\ud83d'\nopen(x)\n", r"/bad\.py:2: .+"),
        ("x = 1\0\n", r"/bad\.py.*: \w+: .*null bytes"),
        ("import _shared\n", r"/bad\.py:1: ModuleNotFoundError: .+ \(write: from \. import _shared\)"),
        ("\nfrom . import _broken\n", r"/_broken\.py:2: NameError: name 'y' is not defined"),
        ("\nfrom . import _unreadable\n", r"/_unreadable\.py:1: SyntaxError: .+"),
        ("from agents import tool\n@tool\ndef f(x): 'Do.'\n", r"/bad\.py:[23]: BadTool: f: parameter x: .+"),
        ("", r"/bad\.py: it has no function answer\(turn\)"),
        ("answer = 'hello'\n", r"/bad\.py:1: answer must be a function: def answer\(turn\)"),
        ("\ndef answer():\n    yield 1\n", r"/bad\.py:2: answer must take one parameter: def answer\(turn\)"),
        ("\n\ndef answer(turn, more):\n    yield 1\n", r"/bad\.py:3: answer must take one parameter: .+"),
        ("async def answer(turn):\n    yield 1\n", r"/bad\.py:1: answer must not be async: .+"),
        ("async def answer(turn):\n    return 1\n", r"/bad\.py:1: answer must not be async: .+"),
    ],
)
def test_a_file_that_cannot_be_served_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path, _shared="", _broken="x = 1\ny\n", _unreadable="(")
    write(tmp_path, good=ECHO, bad=text)

    said = refusal(tmp_path)

    assert re.fullmatch(told, said), said


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_bytes(b"x = '\xff\xfe'\n")

    assert re.match(r"/bad\.py:1: SyntaxError: ", refusal(tmp_path))


def test_an_answer_may_be_any_callable_of_one_parameter(tmp_path: Path) -> None:
    write(tmp_path, a="class Agent:\n    def __call__(self, turn, more=1): return [turn]\nanswer = Agent()\n")
    write(tmp_path, b="answer = lambda *turns: turns\n")

    agents = load_agents(tmp_path, NONE)

    assert [list(answer("x")) for answer in agents.values()] == [["x"], ["x"]]


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")

    assert refusal(tmp_path / name) in (": No such file or directory", ": Not a directory")


def test_agents_load_in_a_process_of_their_own_with_warnings_as_errors(tmp_path: Path) -> None:
    write(tmp_path, echo=ECHO)
    program = "import sys; from pathlib import Path; from agents.loading import load_agents as load; "
    program += "print(list(load(Path(sys.argv[1]), frozenset())['echo']('hello')))"

    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (told.stdout, told.stderr) == ("['hello']\n", "")
