"""Is the answer a stream that engines, clients and proxies can read?"""

from bisect import bisect_left

from doctor.check import Opinion, check, fail, first_of, not_seen, ok, warn
from doctor.stream import Stream
from doctor.visit import Visit

_CLOSE_S = 0.1  # what clients wait before they give up a connection that could have been used again
_SLOW_S = 1.0  # below this an answer that comes at once may simply be quick
_ONE_MOMENT_S = 0.02
_FEW, _MANY = 5, 20  # chunks of an answer, below which nothing, or nothing certain, can be said of how they came


@check(
    "stream.status",
    "A plain streamed question is answered with status 200.",
    "See the server's log; a wrong key, path or --model may be the reason.",
)
def status(visit: Visit) -> Opinion:
    """See the status of each call."""
    if not visit.calls[0].status:
        return not_seen("no answer came")
    bad = [f"status {heard.status}" if heard.status else heard.trouble for heard in visit.calls if heard.status != 200]
    return first_of(bad)


@check(
    "stream.type",
    "Its content type is text/event-stream.",
    "Send `Content-Type: text/event-stream` where `stream` is true.",
)
def kind(visit: Visit) -> Opinion:
    """See the content type."""
    answered = [heard for heard in visit.calls if heard.status == 200]
    if not answered:
        return not_seen("no call was answered with 200")
    return first_of([heard.kind or "none was sent" for heard in answered if heard.kind != "text/event-stream"])


@check(
    "stream.headers",
    "Proxies are told not to buffer: `Cache-Control: no-cache`, `X-Accel-Buffering: no`, and no compression.",
    "Send both headers with every stream, and leave streams uncompressed.",
)
def headers(visit: Visit) -> Opinion:
    """See the headers that decide about buffering."""
    if not visit.streams:
        return not_seen("no stream came")
    sent = visit.streams[0].heard.headers
    if sent.get("content-encoding", "identity") != "identity":
        return fail(f"compressed with {sent['content-encoding']}")
    missing = [] if "no-cache" in sent.get("cache-control", "") else ["no `Cache-Control: no-cache`"]
    missing += [] if sent.get("x-accel-buffering", "").lower() == "no" else ["no `X-Accel-Buffering: no`"]
    return first_of([], missing)


@check(
    "stream.request_id",
    "Every answer has an `X-Request-Id`, which clients show and logs can be searched for.",
    "Send one, and write it to the log.",
)
def request_id(visit: Visit) -> Opinion:
    """See whether an answer can be found in a log."""
    if not visit.streams:
        return not_seen("no stream came")
    return ok() if "x-request-id" in visit.streams[0].heard.headers else warn("none was sent")


@check(
    "stream.lines",
    "A stream has `data:` lines, comments and empty lines, and nothing else.",
    "Write each event as `data: <json>` and an empty line; leave `event:`, `id:` and `retry:` out.",
)
def lines(visit: Visit) -> Opinion:
    """See what kinds of lines came."""
    if not visit.streams:
        return not_seen("no stream came")
    faults = [fault for stream in visit.streams for fault in stream.line_faults]
    return first_of(faults, [oddity for stream in visit.streams for oddity in stream.line_oddities])


@check(
    "stream.json",
    "Each event is a JSON object in UTF-8, but the last, `[DONE]`.",
    "Write whole JSON objects, each on one line, and never a text by itself.",
)
def json(visit: Visit) -> Opinion:
    """See whether each event could be decoded."""
    if not visit.streams:
        return not_seen("no stream came")
    return first_of([fault for stream in visit.streams for fault in stream.json_faults])


@check(
    "stream.done",
    "The last event is exactly one `data: [DONE]`, and the body is whole.",
    "End every stream with `data: [DONE]`, failed ones too; a TTS may wait for it for ever.",
)
def done(visit: Visit) -> Opinion:
    """See how each stream ends."""
    if not visit.streams:
        return not_seen("no stream came")
    return first_of([fault for stream in visit.streams for fault in _ending(stream)])


def _ending(stream: Stream) -> list[str]:
    faults = [f"the body is not whole: {stream.heard.trouble}"] if stream.heard.trouble else []
    if not stream.done_at:
        return [*faults, "no [DONE] came"]
    if len(stream.done_at) > 1:
        return [*faults, f"[DONE] came {len(stream.done_at)} times"]
    return faults if stream.is_done_last else [*faults, "[DONE] is not the last event, or has spaces around it"]


@check(
    "stream.close",
    "The body ends at once after `[DONE]`, so that the connection can be used again.",
    "Return from the generator right after `[DONE]`; close nothing late, await nothing.",
)
def close(visit: Visit) -> Opinion:
    """See how long the body stayed open after its end."""
    ended = [(stream.heard.ended_s, stream.done_at[-1]) for stream in visit.streams if stream.done_at]
    late = [f"open for {end - at:.1f} s more" for end, at in ended if end is not None and end > at + _CLOSE_S]
    if not ended:
        return not_seen("no stream came to its [DONE]")
    return first_of([], late)


@check(
    "stream.spread",
    "Chunks arrive as they are made, not all at once.",
    "Flush each chunk, read the upstream as it comes, and turn buffering and compression off in each proxy.",
)
def spread(visit: Visit) -> Opinion:
    """See whether an answer that took its time came in one piece."""
    if visit.audio_streams:
        return not_seen("sound may come ahead of its time; see audio.pace")
    told = [stream for stream in visit.streams if len(stream.spoken_at) >= _FEW]
    if not told:
        return not_seen("the answers were too short to tell")
    opinions = [_spread(stream) for stream in told]
    # what buffers does so always: one answer that came bit by bit clears the others, which the network may have held up
    return next(each for say in ("ok", "warn", "fail", "not seen") for each in opinions if each.verdict == say)


def _spread(stream: Stream) -> Opinion:
    at = stream.spoken_at
    most = max(bisect_left(at, moment + _ONE_MOMENT_S) - place for place, moment in enumerate(at))
    if most < len(at) * 0.9:
        reads = len(set(at))
        if len(at) >= 8 * reads and at[-1] > _SLOW_S:
            return warn(f"{len(at)} chunks in {reads} reads: something gathers them")
        return ok(f"{len(at)} chunks over {at[-1] - at[0]:.1f} s")
    if at[-1] < _SLOW_S:
        return not_seen("the answers were too quick to tell")
    # a few chunks may come as quickly from a quick model that was late to begin
    return (fail if len(at) >= _MANY else warn)(f"{most} of {len(at)} chunks at once, after {at[-1]:.1f} s")


CHECKS = (status, kind, headers, request_id, lines, json, done, close, spread)
