"""Is the endpoint closed to those without its key?"""

from doctor.check import Opinion, check, fail, not_seen, ok, warn
from doctor.visit import Visit

_CHANGE = "Compare the Bearer with your own key, in constant time, and answer 401 where it differs."


@check("access.none", "A request without a key is refused with 401 or 403.", _CHANGE)
def none(visit: Visit) -> Opinion:
    """See how a request without a key was answered."""
    return _refused(visit, "none")


@check("access.wrong", "A request with a wrong key is refused with 401 or 403.", _CHANGE)
def wrong(visit: Visit) -> Opinion:
    """See how a request with a wrong key was answered."""
    return _refused(visit, "wrong")


def _refused(visit: Visit, name: str) -> Opinion:
    if not visit.target.key:
        if visit.streams and name == "none":
            return warn("answered without a key; whoever knows the URL can use it. If it has one, name it with --key")
        return not_seen("no --key was given")
    heard = visit.access.get(name)
    if heard is None:
        return not_seen("it was not asked")
    if heard.status in (401, 403):
        return ok(f"status {heard.status}")
    if heard.status in (400, 404, 429):
        return warn(f"refused, but with status {heard.status}")
    return fail(f"status {heard.status}" if heard.status else heard.trouble)


CHECKS = (none, wrong)
