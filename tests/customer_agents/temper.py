"""An agent of the tests that does what its caller asks for."""

import time
from collections.abc import Iterator
from typing import Any

from protocol.chunks import Answer
from turns.turn import Turn


def answer(turn: Turn) -> Answer | Iterator[Any] | Any:
    word, _, rest = turn.text.partition(" ")
    if word == "return":
        return rest
    if word == "nothing":
        return None
    return said(turn, word, rest)


def said(turn: Turn, word: str, rest: str) -> Iterator[Any]:
    if word == "control":
        yield turn.control(interruptable=False, tts_params={"params": {"rate": 2}})
        yield "Said."
    elif word == "late-control":
        yield "Said."
        yield turn.control(interruptable=False)
    elif word == "raise":
        raise RuntimeError("sk-agents-secret")
    elif word == "break":
        yield "Said."
        raise RuntimeError("sk-agents-secret")
    elif word == "none":
        yield "Said."
        yield None
        yield "Lost."
    elif word == "number":
        yield 7
    elif word == "sleep":
        time.sleep(float(rest))
        yield "Awake."
    elif word == "block":
        until = time.monotonic() + float(rest)
        while time.monotonic() < until:
            pass
        yield "Done."
    elif word == "swallow":
        try:
            yield from turn.ask()
        except Exception:
            yield "Never mind."
    elif word == "meanwhile":
        turn.say_meanwhile("Hold on.", after_ms=100)
        yield from turn.ask()
    elif word == "search":
        passages = yield from turn.search(rest)
        yield passages[0].title
    elif word == "twice":
        yield from turn.ask([{"role": "user", "content": "One?"}], temperature=0)
        yield " And "
        yield from turn.ask([{"role": "user", "content": "Two?"}])
    elif word == "who":
        yield f"{turn.language} {turn.metadata.get('source')} {'a session' if turn.session else 'no session'}"
