"""How does the endpoint do with calls that overlap, and with callers who interrupt?"""

from doctor.check import Opinion, check, fail, first_of, not_seen, ok, warn
from doctor.stream import Stream
from doctor.visit import Visit

_NEXT_S = 3.0  # what the most impatient engines wait for a first token
_SLOW_S = 0.5  # below this it can't be told whether two calls waited for each other


@check(
    "calls.overlap",
    "Two calls at once are both answered, neither waiting for the other to end.",
    "Serve with more than one worker, thread or greenlet.",
)
def overlap(visit: Visit) -> Opinion:
    """See two answers that were asked for together."""
    if len(visit.together) < 2:
        return not_seen("it was not asked")
    if any(heard.status == 429 for heard in visit.together):
        return not_seen("the endpoint has had enough of requests (429)")
    faults = [
        f"status {heard.status}" if heard.status else heard.trouble for heard in visit.together if heard.status != 200
    ]
    both = [Stream(heard) for heard in visit.together if heard.status == 200]
    faults += ["one of two has no proper end" for stream in both if not stream.has_ended_well]
    if faults:
        return first_of(faults)
    first, second = sorted(both, key=lambda stream: stream.heard.ended_s or 0.0)
    began = second.heard.began + (second.spoken_at[0] if second.spoken_at else 0.0)
    ended = first.heard.began + (first.heard.ended_s or 0.0)
    if began >= ended and (first.heard.ended_s or 0.0) > _SLOW_S:
        return warn("the second began when the first had ended")
    return ok()


@check(
    "calls.ids",
    "Each answer has an `id` of its own.",
    "Make a new id for every answer; nothing of one call may show in another.",
)
def ids(visit: Visit) -> Opinion:
    """See whether two answers have the same id."""
    streams = [*visit.streams, *(Stream(heard) for heard in visit.together if heard.status == 200)]
    found = [ids for stream in streams if (ids := _ids(stream))]
    if len(found) < 2:
        return not_seen("fewer than two answers came")
    shared = sum(len(each) for each in found) - len(set().union(*found))
    return fail("different answers have the same") if shared else ok(f"{len(found)} answers")


def _ids(stream: Stream) -> set[str]:
    return {str(chunk.body.get("id")) for chunk in stream.answer_chunks if not chunk.is_waiting}


@check(
    "calls.next",
    "After a caller has hung up in the middle of an answer, the next request is answered at once.",
    "See a hang-up as it happens: nothing may go on, or hold a lock, for a caller who has gone.",
)
def next_(visit: Visit) -> Opinion:
    """See the request after the one that was interrupted."""
    if visit.barge_in is None or visit.next is None:
        return not_seen("it was not asked")
    if not visit.barge_in.heard.was_left:
        return not_seen("the answer was over before it could be interrupted")
    if visit.next.status == 429:
        return not_seen("the endpoint has had enough of requests (429)")
    if visit.next.status != 200:
        return fail(f"status {visit.next.status}" if visit.next.status else visit.next.trouble)
    spoken = Stream(visit.next).spoken_at
    if not spoken:
        return fail("it said nothing")
    return ok(f"{spoken[0] * 1000:.0f} ms") if spoken[0] <= _NEXT_S else fail(f"it took {spoken[0]:.1f} s")


@check(
    "calls.cancel",
    "When the caller hangs up, what generates behind the endpoint stops: else it goes on, and bills.",
    "Watch the caller's socket, also while the model is silent, and close the upstream's connection.",
)
def cancel(visit: Visit) -> Opinion:
    """See whether what ran behind the endpoint ended with its caller."""
    if visit.barge_in is None:
        return not_seen("it was not asked")
    if visit.barge_in.stopped is None:
        return not_seen(visit.barge_in.why)
    after = f"{visit.barge_in.after_s * 1000:.0f} ms"
    return ok(f"within {after}") if visit.barge_in.stopped else fail(f"it still ran after {after}")


CHECKS = (overlap, ids, next_, cancel)
