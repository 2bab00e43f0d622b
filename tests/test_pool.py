import subprocess
import sys
from pathlib import Path
from threading import get_ident

import pytest

from turns.pool import beside_the_hub

ROOT = Path(__file__).parents[1]


def test_without_gevent_the_call_is_made_in_the_turns_thread() -> None:
    assert beside_the_hub(get_ident) == get_ident()


def test_without_gevent_what_the_call_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="not this"):
        beside_the_hub(int, "not this", base=10)


def test_under_gevent_the_call_is_made_in_another_thread() -> None:
    code = """
import gevent.monkey
gevent.monkey.patch_all()
from turns.pool import beside_the_hub
ident = gevent.monkey.get_original("_thread", "get_ident")
print(beside_the_hub(ident) != ident(), beside_the_hub(int, "ff", base=16))
try:
    beside_the_hub(int, "not this", base=10)
except ValueError as error:
    print(error)
"""

    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert ran.stdout == "True 255\ninvalid literal for int() with base 10: 'not this'\n"
    assert ran.stderr == ""
