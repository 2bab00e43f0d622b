"""What CONTRIBUTING.md says of the house is true of it."""

import ast
import re
from typing import Any

import pytest
from flask import Flask
from readme import Page
from running_server import ROOT

PAGE = Page(ROOT / "CONTRIBUTING.md")
HOUSE = re.findall(r"^    ([a-z.]+/?) {2,}\S", PAGE.text, re.MULTILINE)
ROOMS = [name.strip("/") for name in HOUSE if name.endswith("/")]
ORDER = ["blueprints", "agents", "audio", "knowledge", "turns", "upstream", "protocol"]


def test_every_room_is_named_and_there_are_no_others() -> None:
    inside = {path.parent.name for path in ROOT.glob("*/*.py")} - {"__pycache__"}

    assert all((ROOT / name).exists() for name in HOUSE)
    assert inside <= set(ROOMS)


def test_the_modules_that_a_request_walks_through_are_there() -> None:
    named = set(re.findall(rf"(?<![/…])\b(?:{'|'.join({*ROOMS} - {'docs'})})/[a-z_]+\b", PAGE.text))

    assert len(named) > 40
    assert {name for name in named if not ((ROOT / name).exists() or (ROOT / f"{name}.py").exists())} == set()


@pytest.mark.parametrize("room", ORDER)
def test_imports_point_down(room: str) -> None:
    place = ORDER.index(room)
    beside = {"agents", "audio", "knowledge"} if room in ("agents", "audio", "knowledge") else {room}
    allowed = {*ORDER[place:], *beside}

    for path in (ROOT / room).rglob("*.py"):
        imported = {module.partition(".")[0] for module in modules(ast.parse(path.read_text()))}
        assert imported & {*ROOMS, "app", "settings", "environment"} <= allowed, path


def modules(tree: ast.AST) -> set[str]:
    """Return the names of the modules that are imported."""
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


def test_an_endpoint_is_added_as_is_shown() -> None:
    (block,) = PAGE.blocks_in("python")
    names: dict[str, Any] = {}
    exec(block.text, names)
    app = Flask(__name__)

    app.register_blueprint(names["bp"])

    served = {rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    assert {"/patient/chat/completions", "/v1/patient/chat/completions", "/patient/audio/chat/completions"} <= served


def test_links_lead_somewhere() -> None:
    assert [link for link in PAGE.links if not (ROOT / link.partition("#")[0]).exists()] == []
