"""The time in a zone, by the names that people and LLMs give to zones."""

from datetime import datetime
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

_LONGEST_NAME = 40
_NEAR = 0.7


class UnknownZone(ValueError):
    """Say that there is no such zone, and which there are that have a name like it."""


def time_in(zone: str) -> str:
    """Return the date, the weekday and the time in a zone, as `2026-11-26 14:05, Thursday, Europe/Berlin (UTC+01:00)`.

    The zone is an IANA name, in any case, or the last part of one where no other ends so ("Tokyo", "new york").
    Raises UnknownZone.
    """
    name = _named(zone)
    now = datetime.now(ZoneInfo(name))
    offset = now.strftime("%z")
    return f"{now:%Y-%m-%d %H:%M, %A}, {name} (UTC{offset[:3]}:{offset[3:5]})"


def _named(zone: str) -> str:
    by_name = _zones()
    asked = "_".join(zone.split()).lower()
    found = by_name.get(asked, ())
    if len(found) == 1:
        return found[0]
    # who has never met the names asks for "New York, USA" or "Berlin time": those are not guessed at
    near = list(found) or _near(asked)
    hint = f"near it are {', '.join(near)}" if near else "names are IANA's, such as Europe/Berlin or Asia/Shanghai"
    raise UnknownZone(f"there is no time zone {zone[:_LONGEST_NAME]!r}: {hint}")


def _near(asked: str) -> list[str]:
    """Return zones whose last part, or whose name without parts, is spelt nearly so."""
    place = asked.rsplit("/", 1)[-1]
    if len(place) > _LONGEST_NAME:
        return []
    # those that begin alike: to compare with all would take milliseconds
    alike = [name for name in _zones() if "/" not in name and name[:1] == place[:1]]
    names = [zone for name in get_close_matches(place, alike, 3, _NEAR) for zone in _zones()[name]]
    return list(dict.fromkeys(names))[:5]


@cache
def _zones() -> dict[str, tuple[str, ...]]:
    """Return the zones by their names in lower case, whole and last part. tzdata's list is one file to read."""
    names = files("tzdata").joinpath("zones").read_text(encoding="ascii").split()
    places: dict[str, tuple[str, ...]] = {}
    for name in names:
        if "/" in name and not name.startswith("Etc/"):
            place = name.rsplit("/", 1)[1].lower()
            places[place] = (*places.get(place, ()), name)
    return places | {name.lower(): (name,) for name in names}
