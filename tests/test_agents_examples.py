"""The examples as files: what they answer is tested where they are served."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents import WrongArguments
from agents.loading import load_agents

EXAMPLES = Path(__file__).parent.parent / "examples" / "agents"
NAMES = ["echo", "order-desk", "receptionist", "remembered", "translator"]


@pytest.fixture
def order_desk(tmp_path: Path) -> Any:
    shutil.copy(EXAMPLES / "order-desk.py", tmp_path)
    load_agents(tmp_path, frozenset())
    return sys.modules["agents_of_user.order_desk"]


def test_all_examples_load() -> None:
    assert list(load_agents(EXAMPLES, frozenset())) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_under_twenty_lines(name: str) -> None:
    lines = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").split("\n")

    assert len([line for line in lines if line.strip()]) < 20


def test_the_order_desk_tells_prices(order_desk: Any) -> None:
    assert order_desk.price.run('{"item": "lamp", "count": "3"}') == "117.00 euros"
    with pytest.raises(WrongArguments, match="item: invalid enum value 'sofa'"):
        order_desk.price.run('{"item": "sofa"}')


def test_the_order_desk_writes_orders_down(order_desk: Any) -> None:
    told = order_desk.order.run('{"item": "lamp", "count": 2}', SimpleNamespace(session="ann\n"))

    assert told == "done"
    assert order_desk.ORDERS.read_text() == "2 lamp for 'ann\\n'\n"
