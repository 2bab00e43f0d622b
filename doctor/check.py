"""A check: its stable id, the rule behind it, what to change where it is broken, and how it is judged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from doctor.visit import Visit

Verdict = Literal["ok", "warn", "fail", "not seen"]


class Opinion(NamedTuple):
    """What a check says; `seen` is what it saw, in a few words."""

    verdict: Verdict
    seen: str = ""


Judge = Callable[["Visit"], Opinion]


@dataclass(frozen=True)
class Check:
    """One check; `judge` asks nothing itself, it looks at what a visit has heard."""

    id: str
    rule: str
    change: str
    judge: Judge


def check(id: str, rule: str, change: str) -> Callable[[Judge], Check]:
    """Make a check of the function that judges it."""
    return lambda judge: Check(id, rule, change, judge)


def ok(seen: str = "") -> Opinion:
    """Say that the rule is kept."""
    return Opinion("ok", seen)


def warn(seen: str) -> Opinion:
    """Say that the rule is not kept, and that most agents work all the same."""
    return Opinion("warn", seen)


def fail(seen: str) -> Opinion:
    """Say that agents or clients break here."""
    return Opinion("fail", seen)


def not_seen(why: str) -> Opinion:
    """Say that it could not be looked at."""
    return Opinion("not seen", why)


def first_of(faults: list[str], oddities: list[str] | None = None, seen: str = "") -> Opinion:
    """Say what is wrong, the worst first; each kind of it is named once."""
    for found, say in ((faults, fail), (oddities or [], warn)):
        if found:
            kinds = list(dict.fromkeys(found))
            more = f" (and {len(kinds) - 3} more)" if len(kinds) > 3 else ""
            return say("; ".join(kinds[:3]) + more)
    return ok(seen)
