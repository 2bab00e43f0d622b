"""What counts as having said something, for what is said meanwhile or instead."""

from typing import Any

import pytest
from scripted_upstream import ROLE, SPOKEN, STOP, chunk

from protocol.chunks import CONTROL, WAITING_ID, event
from turns.meanwhile import speaks

CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (ROLE, False),
        (chunk({"content": None}), False),
        (chunk({"content": "One moment."}, id=WAITING_ID), False),
        (chunk({"reasoning_content": "hm"}), False),
        (chunk(choices=[]), False),
        ({"object": CONTROL, "choices": [], "metadata": {}}, False),
        (SPOKEN, True),
        (STOP, True),
        (chunk({"tool_calls": [CALL]}), True),
        (chunk({"audio": {"data": "AAAA"}}), True),
        (chunk({"refusal": "No."}), True),
    ],
)
def test_an_answer_speaks_with_its_content_a_decision_or_its_finish(body: dict[str, Any], says: bool) -> None:
    assert speaks(event(body)) == says
