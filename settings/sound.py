"""The settings of how the agent sounds."""

from pathlib import Path
from typing import Annotated, Literal

from settings.knowledge import KnowledgeSettings
from settings.meaning import URL, about, seconds, whole


class SoundSettings(KnowledgeSettings, frozen=True, rename="upper"):
    """What is spoken, by which voice, and in which form."""

    audio_source: Annotated[
        Literal["auto", "recording", "speech", "simulated", "upstream"],
        about(
            "What /audio plays: a recording, the answer spoken by a voice, a tone that says what it is, or the "
            "upstream's own sound; `auto`: the recording if both files are set, else speech, else a bundled recording.",
            "auto, recording, speech, simulated or upstream",
        ),
    ] = "auto"
    audio_text_file: Annotated[Path | None, about("What the recording says, as a text file.", "a text file")] = None
    audio_file: Annotated[
        Path | None, about("The recording: a WAV file, or raw PCM (16 bit, mono).", "a WAV or PCM file")
    ] = None
    audio_file_hz: Annotated[int, whole("Rate of a recording that is raw PCM, in Hz.", 4000, 192000)] = 16000
    audio_hz: Annotated[int, whole("Rate of the sound that is sent, in Hz.", 8000, 48000)] = 16000
    audio_chunk_ms: Annotated[int, whole("Length of a chunk of sound, in ms.", 10, 1000)] = 40
    audio_lead_ms: Annotated[
        int, whole("How far chunks run ahead of the listener, in ms; 0: as fast as they come.", 0, 60000)
    ] = 1000
    audio_id: Annotated[
        Literal["once", "every"],
        about("Whether a reply's first chunk of sound bears its id, or every one.", "once or every"),
    ] = "once"
    audio_early: Annotated[
        int,
        whole(
            "Letters after which an answer's first clause is spoken before its sentence is complete; 0: never.", 0, 1000
        ),
    ] = 24
    audio_upstream_hz: Annotated[int, whole("Rate of an upstream's own sound, in Hz.", 4000, 192000)] = 24000
    audio_waiting_after_ms: Annotated[
        int,
        about(
            "When a spoken answer that has not begun says a waiting phrase, in ms; -1: never.",
            "a whole number, -1 to 60000",
            ge=-1,
            le=60000,
        ),
    ] = -1
    voice: Annotated[
        Literal["auto", "espeak", "server", "none"],
        about(
            "What speaks: espeak-ng, or a server with OpenAI's speech endpoint; `auto`: the server if VOICE_URL is "
            "set, else espeak-ng if it is installed.",
            "auto, espeak, server or none",
        ),
    ] = "auto"
    voice_url: Annotated[str | None, about("Voice server, up to `/v1`.", URL)] = None
    voice_key: Annotated[str | None, about("Key of the voice server.", "a key")] = None
    voice_model: Annotated[str, about("Model to ask the voice server for.", "a model's name")] = "tts-1"
    voice_name: Annotated[str, about("Voice where a request names none.", "a voice's name")] = "alloy"
    voice_hz: Annotated[int, whole("Rate of the voice server's sound, in Hz.", 4000, 192000)] = 24000
    voice_first_s: Annotated[float, seconds("Wait for a sentence's first sound.")] = 5.0
    voice_stall_s: Annotated[float, seconds("Wait between two parts of a sentence's sound.")] = 5.0
