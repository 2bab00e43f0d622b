"""Are the chunks of a stream whole, in order, and of one answer?"""

from typing import Any

from doctor.check import Opinion, check, fail, first_of, not_seen, ok, warn
from doctor.stream import Chunk, Stream
from doctor.visit import Visit

FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str, "object": str, "created": (int, float), "model": str, "choices": list
}  # fmt: skip


def _with_chunks(visit: Visit) -> list[Stream]:
    return [stream for stream in visit.streams if stream.answer_chunks]


@check(
    "chunk.fields",
    "Every chunk has `id`, `object`, `created`, `model` and `choices`, of the right types.",
    "Send all five in every chunk; clients drop or crash on what lacks one.",
)
def fields(visit: Visit) -> Opinion:
    """See whether each chunk has its head."""
    if not _with_chunks(visit):
        return not_seen("no chunk came")
    chunks = [chunk.body for stream in _with_chunks(visit) for chunk in stream.answer_chunks]
    return first_of(
        [f"`{name}` is {_shown(body, name)}" for body in chunks for name, kind in _FIELDS.items()
         if not isinstance(body.get(name), kind)]
    )  # fmt: skip


def _shown(body: dict[str, Any], name: str) -> str:
    return type(body[name]).__name__ if name in body else "missing"


@check(
    "chunk.object",
    "Every chunk's `object` is `chat.completion.chunk`.",
    "Send that; openai-python's helper drops the text of any other.",
)
def object_(visit: Visit) -> Opinion:
    """See the chunks' kind; the engine's control metadata has another, and comes first."""
    if not _with_chunks(visit):
        return not_seen("no chunk came")
    kinds = [chunk.body.get("object") for stream in _with_chunks(visit) for chunk in stream.answer_chunks]
    faults = [f"{kind!r}" for kind in kinds if kind != "chat.completion.chunk"]
    late = [chunk for stream in visit.streams for chunk in stream.chunks[1:] if chunk.is_control]
    return first_of(faults + ["control metadata that is not the first event"] * bool(late))


def _one(visit: Visit, name: str) -> Opinion:
    if not _with_chunks(visit):
        return not_seen("no chunk came")
    faults = []
    for stream in _with_chunks(visit):
        found = {str(chunk.body.get(name)) for chunk in stream.answer_chunks if not chunk.is_waiting}
        if len(found) > 1:
            faults.append(f"{len(found)} different ones in one answer")
        elif found & {"", "None", "0"}:
            faults.append("it is empty")
    return first_of(faults)


@check(
    "chunk.id",
    "All chunks of an answer have one `id` (a waiting message may have its own, `waiting_msg`).",
    "Make the id once for each answer.",
)
def id_(visit: Visit) -> Opinion:
    """See whether an answer has one id."""
    return _one(visit, "id")


@check("chunk.created", "All chunks of an answer have one `created`.", "Take the time once for each answer.")
def created(visit: Visit) -> Opinion:
    """See whether an answer has one time."""
    return _one(visit, "created")


@check("chunk.model", "All chunks of an answer name one `model`.", "Name the same model in each chunk.")
def model(visit: Visit) -> Opinion:
    """See whether an answer has one model."""
    return _one(visit, "model")


@check(
    "chunk.choice",
    "A chunk has one choice with `index` 0, a `delta` and a `finish_reason`; only usage has none.",
    "Send one choice a chunk, its content a text or null.",
)
def choice(visit: Visit) -> Opinion:
    """See the form of the choices."""
    if not _with_chunks(visit):
        return not_seen("no chunk came")
    found = [_choice_faults(chunk) for stream in _with_chunks(visit) for chunk in stream.answer_chunks]
    return first_of([fault for faults, _ in found for fault in faults], [odd for _, odds in found for odd in odds])


def _choice_faults(chunk: Chunk) -> tuple[list[str], list[str]]:
    if not chunk.choices:
        return [], ([] if chunk.body.get("usage") else ["no choice"])
    faults = [] if len(chunk.choices) == 1 else [f"{len(chunk.choices)} choices in one chunk"]
    oddities = []
    for said in chunk.choices:
        if said.get("index") != 0:
            faults.append(f"`index` is {said.get('index')!r}")
        if not isinstance(said.get("delta"), dict):
            faults.append("`delta` is no object")
        elif not isinstance(said["delta"].get("content"), str | None):
            faults.append("`content` is no text")
        if "finish_reason" not in said:
            oddities.append("`finish_reason` is left out")
    return faults, oddities


@check(
    "chunk.role",
    "The first delta has the role `assistant`, and no later one has a role.",
    "Begin with `delta: {role: assistant, content: ''}`, once.",
)
def role(visit: Visit) -> Opinion:
    """See where the role comes."""
    faults, oddities = [], []
    for stream in _with_chunks(visit):
        # the waiting message bears the role, too, and the answer after it begins anew
        deltas = [delta for chunk in stream.answer_chunks if not chunk.is_waiting for delta in chunk.deltas]
        has_waited = any(chunk.is_waiting for chunk in stream.answer_chunks)
        if deltas and deltas[0].get("role") != "assistant" and not has_waited:
            faults.append("the first delta has no role")
        if any(delta.get("role") for delta in deltas[1:]):
            oddities.append("the role is repeated")
    return first_of(faults, oddities) if _with_chunks(visit) else not_seen("no chunk came")


@check(
    "chunk.finish",
    "An answer has exactly one finish_reason, a known one, in its last choice.",
    "Send an empty delta with `finish_reason: stop` before `[DONE]`; never `error`, never none.",
)
def finish(visit: Visit) -> Opinion:
    """See how each answer says that it is over."""
    if not _with_chunks(visit):
        return not_seen("no chunk came")
    return first_of([fault for stream in _with_chunks(visit) for fault in _finish_faults(stream)])


def _finish_faults(stream: Stream) -> list[str]:
    if stream.error:
        return ["the answer ended with an error"]
    reasons = stream.finish_reasons
    if len(reasons) != 1:
        return [f"{len(reasons)} finish_reasons"]
    if reasons[0] not in FINISH_REASONS:
        return [f"an unknown one, {reasons[0]!r}"]
    last = [said for chunk in stream.answer_chunks for said in chunk.choices][-1]
    return [] if last.get("finish_reason") else ["something comes after it"]


@check(
    "chunk.text",
    "The answer says something.",
    "See what the model behind it got and said; a reasoning model may have spent all its tokens thinking.",
)
def text(visit: Visit) -> Opinion:
    """See whether anything was said."""
    if not visit.streams:
        return not_seen("no stream came")
    silent = [stream for stream in visit.streams if not stream.text.strip() and not stream.sound]
    return fail("an answer without a word") if silent else ok(f"{len(visit.streams[0].text)} characters")


@check(
    "usage.unasked",
    "Usage is not sent where it was not asked for.",
    "Send it only where `stream_options.include_usage` is true.",
)
def unasked(visit: Visit) -> Opinion:
    """See whether usage came unasked."""
    if not _with_chunks(visit):
        return not_seen("no chunk came")
    counts = [sum(bool(chunk.body.get("usage")) for chunk in stream.answer_chunks) for stream in _with_chunks(visit)]
    return first_of([f"in {count} chunks" for count in counts if count])


@check(
    "usage.asked",
    "Usage that was asked for comes once, after the finish, in a chunk of its own with `choices: []`.",
    "Send one chunk with usage and `choices: []` between the finish and `[DONE]`.",
)
def asked(visit: Visit) -> Opinion:
    """See how usage comes where it was asked for."""
    stream = visit.stream("usage")
    if not stream or not stream.answer_chunks:
        return not_seen("no such stream came")
    places = [place for place, chunk in enumerate(stream.answer_chunks) if chunk.body.get("usage")]
    if not places:
        return warn("none came")
    if len(places) > 1:
        return fail(f"in {len(places)} chunks: clients add them up")
    used = stream.answer_chunks[places[0]]
    if used.body.get("choices"):
        return fail("it shares its chunk with a choice")
    return ok() if places[0] == len(stream.answer_chunks) - 1 else fail("it is not last: clients lose it")


CHECKS = (fields, object_, id_, created, model, choice, role, finish, text, unasked, asked)
