"""Are bad requests refused in a form that clients can read, and that tells nothing it must not?"""

import json
import re
from collections.abc import Iterator

from doctor.check import Opinion, check, fail, first_of, not_seen, ok
from doctor.stream import Stream, parsed
from doctor.visit import Visit
from doctor.wire import Heard

_TRACE = re.compile(r"Traceback \(most recent call|File \"[^\"]+\", line \d|^\s+at \S.*:\d+:\d+\)?$", re.MULTILINE)
_PATH = re.compile(
    r"(?:/(?:home|usr|app|srv|opt|var|root|tmp|workspace)/|[A-Z]:\\)[\w./\\-]+\.(?:py|js|ts|go|rb|java|php)\b"
)
_SHORTEST_KEY = 6
_HTML = re.compile(rb"\s*<(?:!doctype|html|head|body|h1)", re.IGNORECASE)


@check(
    "errors.status",
    "A bad request is answered with 4xx, not with 200 and not with 5xx.",
    "Validate before you answer, and turn what is wrong into a 400.",
)
def status(visit: Visit) -> Opinion:
    """See the status of each bad request."""
    if not visit.bad:
        return not_seen("none was sent")
    faults = []
    for name, heard in visit.bad.items():
        if not heard.status:
            faults.append(f"{name}: {heard.trouble}")
        # a page for those who look is no fault
        elif not 400 <= heard.status < 500 and (name != "GET" or heard.status >= 500):
            faults.append(f"{name}: {heard.status}")
    return first_of(faults)


@check(
    "errors.object",
    "An error is OpenAI's object, `{error: {message, type, param, code}}`, as JSON.",
    "Answer errors in that form; clients lose the message of any other, such as `{detail}`.",
)
def object_(visit: Visit) -> Opinion:
    """See the form of each error; what a framework says to a GET is left out."""
    answered = {name: heard for name, heard in visit.bad.items() if heard.status >= 400 and name != "GET"}
    answered |= {f"key: {name}": heard for name, heard in visit.access.items() if heard.status >= 400}
    if not answered:
        return not_seen("no request was refused")
    found = [(name, *_object_fault(heard)) for name, heard in answered.items()]
    return first_of(
        [f"{name}: {fault}" for name, fault, _ in found if fault], [oddity for _, _, oddity in found if oddity]
    )


def _object_fault(heard: Heard) -> tuple[str, str]:
    """Return what is wrong with an error's body, and what is odd."""
    try:
        body = parsed(heard.body)
    except ValueError:
        return f"no JSON ({heard.kind or 'no content type'})", ""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str) or not error["message"]:
        return "no `error.message`", ""
    missing = [name for name in ("type", "param", "code") if name not in error]
    return "", f"`{'`, `'.join(missing)}` left out" if missing else ""


@check(
    "errors.html",
    "No error is an HTML page.",
    "Answer every error as JSON, a framework's and a proxy's own pages too.",
)
def html(visit: Visit) -> Opinion:
    """See whether anything that came was HTML."""
    pages = [heard for heard in visit.heard if heard.kind == "text/html" or _HTML.match(heard.body[:100])]
    # a page for those who look with a browser is no error
    return first_of(
        [f"status {heard.status}" for heard in pages if heard.status >= 400 or heard not in visit.bad.values()]
    )


@check(
    "errors.traceback",
    "Errors tell nothing of the inside: no traceback, no path. The engine passes their text on to clients.",
    "Write details to the log, and a short message to the caller.",
)
def traceback(visit: Visit) -> Opinion:
    """See whether an error tells of the server's inside."""
    said = [text for heard in visit.heard for text in _error_texts(heard)]
    found = [
        (pattern.search(text), what) for text in said for pattern, what in ((_TRACE, "a traceback"), (_PATH, "a path"))
    ]
    return first_of([what for match, what in found if match])


def _error_texts(heard: Heard) -> Iterator[str]:
    if heard.status >= 400:
        yield heard.body.decode(errors="replace")
    elif heard.kind == "text/event-stream":
        stream = Stream(heard)
        if stream.error:
            yield json.dumps(stream.error)
        yield from stream.json_faults


@check(
    "errors.secret",
    "The key is never in an answer.",
    "Don't echo headers, and mask keys in what an upstream says.",
)
def secret(visit: Visit) -> Opinion:
    """See whether any answer holds the key that it was asked with."""
    if not visit.target.key:
        return not_seen("no --key was given")
    key = visit.target.key
    if len(key) < _SHORTEST_KEY:
        return not_seen("so short a key may be anywhere")
    told = [heard for heard in visit.heard if key.encode() in heard.body or key in " ".join(heard.headers.values())]
    return fail(f"it is in {len(told)} answers") if told else ok(f"looked for in {len(visit.heard)} answers")


CHECKS = (status, object_, html, traceback, secret)
