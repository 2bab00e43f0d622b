"""How long does a caller wait? The figures are those by which the engine judges."""

import math
from collections.abc import Sequence

from doctor.check import Opinion, check, not_seen, ok, warn
from doctor.visit import Visit

TYPICAL_S = 1.0
"""The engine's figure for an LLM's first byte and first sentence: 250 to 1000 ms are typical."""
GOOD_AUDIO_S = 0.5
BAD_AUDIO_S = 1.5
"""Its figures for a first sound: under 500 ms is good, over 1500 bad, none after 10 s a failure."""

_CHANGE = (
    "Keep the connection to the model, retrieve while it waits, choose a quicker model, and serve near the engine."
)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _told(values: Sequence[float]) -> str:
    parts = (f"p{share * 100:.0f} {percentile(values, share) * 1000:.0f}" for share in (0.5, 0.95, 0.99))
    return f"{', '.join(parts)} ms over {len(values)} calls"


def _judged(visit: Visit, moments: Sequence[float], missing: int, good_s: float) -> Opinion:
    first_s = visit.bounds.first_s
    values = [at for at in moments if at <= first_s]
    late = missing + len(moments) - len(values)
    if late:
        return Opinion("fail", f"{late} of {late + len(values)} calls: nothing within {first_s:g} s")
    if not values:
        return not_seen("nothing came that could be timed")
    return ok(_told(values)) if percentile(values, 0.5) <= good_s else warn(_told(values))


@check("latency.first_byte", "The first byte of the answer comes within 1000 ms (250 to 1000 are typical).", _CHANGE)
def first_byte(visit: Visit) -> Opinion:
    """See when the body began."""
    values = [stream.heard.pieces[0][0] for stream in visit.streams if stream.heard.pieces]
    late = sum(bool(heard.connect_s) and not heard.status for heard in visit.calls)
    late += len(visit.streams) - len(values)
    return _judged(visit, values, late, TYPICAL_S)


@check(
    "latency.first_sentence",
    "The first sentence is whole within 1000 ms: the TTS begins there.",
    "Have the model begin with a short sentence. " + _CHANGE,
)
def first_sentence(visit: Visit) -> Opinion:
    """See when the first sentence was whole."""
    values = [at for stream in visit.streams if (at := stream.sentence_at) is not None]
    return _judged(visit, values, 0, TYPICAL_S)


@check(
    "latency.first_audio",
    "The first sound comes within 500 ms (over 1500 is bad, none after 10 s a failure).",
    "Speak the first sentence, or its first clause, as soon as it is there. " + _CHANGE,
)
def first_audio(visit: Visit) -> Opinion:
    """See when the first sound came."""
    if not (visit.target.is_audio or visit.audio_streams):
        return not_seen("not an audio endpoint")
    values = [at for stream in visit.streams if (at := stream.sound_at) is not None]
    opinion = _judged(visit, values, len(visit.streams) - len(values), GOOD_AUDIO_S)
    if opinion.verdict == "warn" and percentile(values, 0.5) > BAD_AUDIO_S:
        return warn(f"bad: {opinion.seen}")
    return opinion


CHECKS = (first_byte, first_sentence, first_audio)
