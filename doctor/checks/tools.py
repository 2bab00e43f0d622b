"""Do calls to the engine's own tools come back as they must?"""

from typing import Any

from doctor.check import Opinion, check, first_of, not_seen, warn
from doctor.checks.requests import answered
from doctor.probes import TOOL
from doctor.stream import Stream, parsed
from doctor.visit import Visit


@check(
    "tools.call",
    "A call to an offered tool comes back whole: numbered from 0, with id and name once, and finished by `tool_calls`.",
    "Pass `tools` on, and the model's `tool_calls` back unchanged; run only tools of your own.",
)
def call(visit: Visit) -> Opinion:
    """See a call to the tool that was offered, if one came."""
    opinion = answered(visit, "tools", warn)
    stream = visit.stream("tools")
    if opinion.verdict != "ok" or stream is None:
        return opinion
    if not stream.tool_pieces:
        return not_seen("no call came: the model chose to answer, or does not know tools")
    return first_of(_faults(stream))


def _faults(stream: Stream) -> list[str]:
    calls: list[dict[str, Any]] = []
    faults = []
    for piece in stream.tool_pieces:
        if not isinstance(piece, dict) or not isinstance(piece.get("index"), int):
            faults.append("a piece without its index")
            continue
        told = piece.get("function")
        function: dict[str, Any] = told if isinstance(told, dict) else {}
        place = piece["index"]
        if place == len(calls):
            calls.append({"id": piece.get("id"), "name": function.get("name"), "arguments": ""})
        elif not 0 <= place < len(calls):
            faults.append("calls are not numbered from 0, without gaps")
            continue
        elif piece.get("id") or function.get("name"):
            faults.append("id or name are repeated")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            calls[place]["arguments"] += arguments
        elif arguments is not None:
            faults.append("arguments that are no text")
    faults += [fault for each in calls for fault in _call_faults(each)]
    if stream.finish_reasons != ["tool_calls"]:
        faults.append(f"finish_reason is {', '.join(stream.finish_reasons) or 'missing'}, not tool_calls")
    return faults


def _call_faults(call: dict[str, Any]) -> list[str]:
    faults = [] if call["id"] else ["a call without an id"]
    if call["name"] != TOOL:
        faults.append(f"a call to {call['name']!r}, which was not offered")
    try:
        arguments = parsed(call["arguments"])
    except ValueError:
        arguments = None
    return faults if isinstance(arguments, dict) else [*faults, "the arguments are no JSON object"]


CHECKS = (call,)
