"""What a request wants to hear or read."""

from typing import Any, NamedTuple

import msgspec

from protocol.errors import BadRequest
from protocol.request import ChatRequest


class Wanted(NamedTuple):
    """Whether sound, text or both are wanted, and in whose voice, if the request names one."""

    sound: bool = True
    text: bool = False
    voice: str | None = None


class _Audio(msgspec.Struct):
    voice: str | dict[str, Any] | None = None


class _Fields(msgspec.Struct):
    modalities: list[str] | None = None
    audio: _Audio | None = None


def wanted(request: ChatRequest) -> Wanted:
    """Take `modalities` and `audio` out of a request, for they are ours to heed; raise BadRequest.

    Without modalities sound alone is wanted: that is what the engine plays.
    """
    taken = {name: request.body.pop(name) for name in ("modalities", "audio") if name in request.body}
    try:
        fields = msgspec.convert(taken, _Fields)
    except msgspec.ValidationError as error:
        place = "modalities" if "modalities" in str(error) else "audio"
        raise BadRequest(
            f"{place}: must be as OpenAI has it: {str(error).partition(' - at')[0]}.", param=place, code="invalid_type"
        ) from None
    modalities = fields.modalities or ["audio"]
    if unknown := set(modalities) - {"text", "audio"}:
        raise BadRequest(
            "modalities: only text and audio are known.",
            param="modalities",
            code="invalid_type",
            detail=f"{len(unknown)} unknown",
        )
    voice = fields.audio.voice if fields.audio else None
    return Wanted("audio" in modalities, "text" in modalities, voice if isinstance(voice, str) else None)
