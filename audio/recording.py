"""Read a recording and its text: sound that is ready to be sent, or a clear error at the start."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # it takes 0.1 s to load, which only those pay who have a recording
    from numpy import float64
    from numpy.typing import NDArray

BUNDLED_AUDIO = Path(__file__).parent / "bundled" / "hello.wav"
"""The recording that is sent where there is no other sound."""
BUNDLED_TEXT = Path(__file__).parent / "bundled" / "hello.txt"
"""What it says."""

_MOST_AUDIO = 100_000_000  # bytes
_MOST_TEXT = 100_000
_RATES = range(4_000, 400_000)
# what raw PCM can't be: as such it would be noise on a call
_OTHER_SUFFIXES = frozenset(
    [".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus", ".webm", ".wma"]
)
_OTHER_HEADS = (b"RIFF", b"RF64", b"FORM", b"OggS", b"fLaC", b"ID3", b"\x1a\x45\xdf\xa3")

# WAVE's formats: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
_PCM = 1
_FLOAT = 3
_EXTENSIBLE = 0xFFFE
_SUBFORMATS = bytes.fromhex("000000001000800000aa00389b71")  # of which the first two bytes are the format
_FORMATS = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}
_UNTIL_THE_END = 0xFFFFFFFF  # the size that programs write who did not know it yet


class BadRecording(ValueError):
    """Say, in one sentence, which file can't be used and why."""


class Recording(NamedTuple):
    """What is said, and its signed 16-bit little-endian mono samples."""

    text: str
    pcm: bytes


class _Wave(NamedTuple):
    format: tuple[int, int]
    channels: int
    hz: int
    data: bytes


def read_recording(audio_file: Path, text_file: Path, raw_hz: int | None, to_hz: int) -> Recording:
    """Read a recording and bring its sound to `to_hz`; raise BadRecording.

    A file whose name ends in .wav is WAV: of any rate, any number of channels, 8 to 32 bits or float. Any other is raw
    PCM: signed 16-bit little-endian mono samples, `raw_hz` of them a second.
    """
    text = _read_text(text_file)
    content = _read(audio_file, _MOST_AUDIO)
    if audio_file.suffix.lower() in (".wav", ".wave"):
        wave = _read_wave(audio_file, content)
        if wave.format == (_PCM, 16) and wave.channels == 1 and wave.hz == to_hz:
            return Recording(text, wave.data)
        return Recording(text, _pcm(_mono(audio_file, wave), wave.hz, to_hz))
    if audio_file.suffix.lower() in _OTHER_SUFFIXES or content.startswith(_OTHER_HEADS):
        raise BadRecording(f"{audio_file} is not raw PCM: convert it to WAV, and name it .wav.")
    if raw_hz is None:
        raise BadRecording(f"{audio_file} is raw PCM, and its rate is not set.")
    if raw_hz not in _RATES:
        raise BadRecording(f"{audio_file} can't have {raw_hz} samples a second.")
    if len(content) % 2:
        raise BadRecording(f"{audio_file} has an odd number of bytes ({len(content):,}): it is no 16-bit PCM, or cut.")
    if raw_hz == to_hz:
        return Recording(text, content)
    return Recording(text, _pcm(_mono(audio_file, _Wave((_PCM, 16), 1, raw_hz, content)), raw_hz, to_hz))


def _read(file: Path, most: int) -> bytes:
    try:
        if not file.is_file():  # a pipe would be waited for
            raise BadRecording(f"{file} {'is no file' if file.exists() else 'does not exist'}.")
        if file.stat().st_size > most:
            raise BadRecording(f"{file} is too large: at most {most:,} bytes are read.")
        content = file.read_bytes()
    except OSError as error:
        raise BadRecording(f"{file} can't be read: {error.strerror or error}.") from None
    if not content:
        raise BadRecording(f"{file} is empty.")
    return content


def _read_text(file: Path) -> str:
    content = _read(file, _MOST_TEXT)
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadRecording(f"{file} is not UTF-8: byte {error.start:,} can't be read.") from None
    if not text or "\0" in text:
        raise BadRecording(f"{file} {'is no text' if text else 'has no text in it'}.")
    return text


def _read_wave(file: Path, content: bytes) -> _Wave:
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise BadRecording(f"{file} has no WAV header.")
    form: tuple[tuple[int, int], int, int] | None = None
    at = 12
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        at += 8
        if name == b"fmt ":
            form = _read_format(file, content[at : at + size])
        elif name == b"data":
            if form is None:
                raise BadRecording(f"{file} has a broken WAV header: its format is missing.")
            return _Wave(*form, _read_data(file, content[at:], size, form))
        at += size + size % 2
    raise BadRecording(f"{file} is cut short: {'its WAV header' if form is None else 'the sound'} is missing.")


def _read_format(file: Path, chunk: bytes) -> tuple[tuple[int, int], int, int]:
    if len(chunk) < 16:
        raise BadRecording(f"{file} has a broken WAV header: its format is cut.")
    code, channels, hz, _, frame, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == _EXTENSIBLE and chunk[26:40] == _SUBFORMATS:
        code = int.from_bytes(chunk[24:26], "little")
    if (code, bits) not in _FORMATS:
        raise BadRecording(f"{file} has a format that is not supported ({code:#06x}, {bits} bits): use 16-bit PCM.")
    if not channels or frame != channels * bits // 8 or hz not in _RATES:
        raise BadRecording(
            f"{file} has a broken WAV header: {channels} channels, {bits} bits, {frame} bytes a frame, {hz:,} Hz."
        )
    return (code, bits), channels, hz


def _read_data(file: Path, rest: bytes, size: int, form: tuple[tuple[int, int], int, int]) -> bytes:
    (_, bits), channels, _ = form
    if size == _UNTIL_THE_END:
        size = len(rest)
    if not size:
        raise BadRecording(f"{file} has no sound in it.")
    if size > len(rest):
        raise BadRecording(f"{file} is cut short: {size:,} bytes of sound are announced, {len(rest):,} are there.")
    if size % (channels * bits // 8):
        raise BadRecording(f"{file} is cut inside a sample: it has {size:,} bytes of sound.")
    return rest[:size]


def _mono(file: Path, wave: _Wave) -> "NDArray[float64]":
    """Return samples from -1 to 1, the channels mixed."""
    import numpy

    samples: Any
    code, bits = wave.format
    if code == _FLOAT:
        samples = numpy.frombuffer(wave.data, f"<f{bits // 8}").astype(numpy.float64)
        if not numpy.isfinite(samples).all():
            raise BadRecording(f"{file} has samples that are no numbers.")
    elif bits == 8:
        samples = (numpy.frombuffer(wave.data, "u1").astype(numpy.float64) - 128) / 128
    elif bits == 24:
        low, middle, high = numpy.frombuffer(wave.data, "u1").reshape(-1, 3).astype(numpy.int32).T
        samples = ((low << 8 | middle << 16 | high << 24) >> 8) / 2.0**23
    else:
        samples = numpy.frombuffer(wave.data, f"<i{bits // 8}") / 2.0 ** (bits - 1)
    mixed: NDArray[float64] = samples.reshape(-1, wave.channels).mean(axis=1)
    return mixed


def _pcm(samples: "NDArray[float64]", from_hz: int, to_hz: int) -> bytes:
    import numpy
    import soxr

    if from_hz != to_hz:
        samples = soxr.resample(samples, from_hz, to_hz)
    return bytes(numpy.clip(numpy.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())
