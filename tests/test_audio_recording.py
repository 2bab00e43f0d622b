import os
import struct
import wave
from pathlib import Path

import numpy
import pytest

from audio.recording import BUNDLED_AUDIO, BUNDLED_TEXT, BadRecording, read_recording

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
TAIL = bytes.fromhex("000000001000800000aa00389b71")


def tone(rate: int, seconds: float = 0.5) -> "numpy.typing.NDArray[numpy.float64]":
    return 0.5 * numpy.sin(2 * numpy.pi * 500 * numpy.arange(round(rate * seconds)) / rate)


def encode(samples: "numpy.typing.NDArray[numpy.float64]", code: int, bits: int) -> bytes:
    if code == FLOAT:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return (numpy.rint(samples * 127) + 128).astype("u1").tobytes()
    whole = numpy.rint(samples * (2.0 ** (bits - 1) - 1)).astype("<i4")
    if bits == 24:
        return whole.view("u1").reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


def wav(
    data: bytes,
    code: int = PCM,
    bits: int = 16,
    rate: int = 16_000,
    channels: int = 1,
    *,
    size: int | None = None,
    before: bytes = b"",
    frame: int | None = None,
) -> bytes:
    frame = channels * bits // 8 if frame is None else frame
    form = struct.pack("<HHIIHH", code, channels, rate, rate * frame, frame, bits)
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extensible(data: bytes, code: int, bits: int, rate: int, channels: int) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHHHHI", EXTENSIBLE, channels, rate, rate * frame, frame, bits, 22, bits, 0)
    form += struct.pack("<H", code) + TAIL
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


class Files:
    """A recording's two files, in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.text = folder / "words.txt"
        self.text.write_text("What it says.\n")
        self.folder = folder

    def read(self, content: bytes, name: str = "sound.wav", raw_hz: int | None = None, to_hz: int = 16_000) -> bytes:
        audio = self.folder / name
        audio.write_bytes(content)
        recording = read_recording(audio, self.text, raw_hz, to_hz)
        assert recording.text == "What it says."
        return recording.pcm

    def refuse(self, content: bytes, name: str = "sound.wav", raw_hz: int | None = None) -> str:
        with pytest.raises(BadRecording) as refused:
            self.read(content, name, raw_hz)
        return str(refused.value).replace(str(self.folder) + "/", "")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def is_the_tone(pcm: bytes) -> bool:
    expected = tone(16_000)
    samples = numpy.frombuffer(pcm, "<i2") / 32768
    if len(samples) != len(expected):
        return False
    inside = slice(400, -400)  # at the edges the filter rings
    return bool(abs(samples[inside] - expected[inside]).max() < 0.01)


FORMATS = [(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)]


@pytest.mark.parametrize(("code", "bits"), FORMATS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_wav_of_any_kind_is_read(files: Files, code: int, bits: int, rate: int, channels: int) -> None:
    data = encode(numpy.repeat(tone(rate), channels), code, bits)

    assert is_the_tone(files.read(wav(data, code, bits, rate, channels)))
    assert is_the_tone(files.read(extensible(data, code, bits, rate, channels)))


def test_channels_are_mixed(files: Files) -> None:
    left, right = numpy.array([0.5, 0.5, -0.5]), numpy.array([0.25, -0.5, -0.5])

    pcm = files.read(wav(encode(numpy.stack([left, right], axis=1).ravel(), PCM, 16), channels=2))

    assert numpy.frombuffer(pcm, "<i2").tolist() == pytest.approx([12_288, 0, -16_384], abs=1)


def test_samples_that_need_no_change_are_not_changed(files: Files) -> None:
    samples = numpy.arange(-32_768, 32_768, dtype="<i2").tobytes()

    assert files.read(wav(samples)) == samples
    assert files.read(wav(samples), "SOUND.WAV") == samples
    assert files.read(samples, "sound.pcm", 16_000) == samples
    assert files.read(samples, "sound", 16_000) == samples


def test_a_stereo_mix_of_equal_channels_is_exact(files: Files) -> None:
    samples = numpy.arange(-32_768, 32_768, dtype="<i2")

    assert files.read(wav(numpy.repeat(samples, 2).tobytes(), channels=2)) == samples.tobytes()


def test_raw_pcm_is_brought_to_the_rate(files: Files) -> None:
    assert is_the_tone(files.read(encode(tone(24_000), PCM, 16), "sound.pcm", 24_000))


def test_what_is_too_loud_is_clipped_and_does_not_wrap(files: Files) -> None:
    pcm = files.read(wav(numpy.array([2.0, -2.0, 1.0, -1.0], "<f4").tobytes(), FLOAT, 32))

    assert numpy.frombuffer(pcm, "<i2").tolist() == [32_767, -32_768, 32_767, -32_768]


def test_what_python_writes_is_read(files: Files) -> None:
    with wave.open(str(files.folder / "python.wav"), "wb") as written:
        written.setparams((2, 3, 44_100, 0, "NONE", ""))
        written.writeframes(encode(numpy.repeat(tone(44_100), 2), PCM, 24))

    assert is_the_tone(files.read((files.folder / "python.wav").read_bytes()))


def test_other_chunks_are_passed_over(files: Files) -> None:
    data = encode(tone(16_000), PCM, 16)
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"

    assert files.read(wav(data, before=odd) + odd) == data


def test_a_size_that_was_not_known_means_until_the_end(files: Files) -> None:
    data = encode(tone(16_000), PCM, 16)

    assert files.read(wav(data, size=0xFFFFFFFF)) == data


GOOD = encode(tone(16_000, 0.01), PCM, 16)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "sound.wav is empty."),
        (GOOD, "sound.wav has no WAV header."),
        (b"RIFF", "sound.wav has no WAV header."),
        (b"RIFX" + wav(GOOD)[4:], "sound.wav has no WAV header."),
        (wav(GOOD)[:12], "sound.wav is cut short: its WAV header is missing."),
        (wav(GOOD)[:30], "sound.wav has a broken WAV header: its format is cut."),
        (wav(GOOD)[:36], "sound.wav is cut short: the sound is missing."),
        (wav(GOOD)[:-2], "sound.wav is cut short: 320 bytes of sound are announced, 318 are there."),
        (wav(GOOD[:-1]), "sound.wav is cut inside a sample: it has 319 bytes of sound."),
        (wav(GOOD[:-2], channels=2), "sound.wav is cut inside a sample: it has 318 bytes of sound."),
        (wav(b""), "sound.wav has no sound in it."),
        (wav(GOOD, 7, 8), "sound.wav has a format that is not supported (0x0007, 8 bits): use 16-bit PCM."),
        (wav(GOOD, 85, 0), "sound.wav has a format that is not supported (0x0055, 0 bits): use 16-bit PCM."),
        (wav(GOOD, PCM, 12), "sound.wav has a format that is not supported (0x0001, 12 bits): use 16-bit PCM."),
        (wav(GOOD, FLOAT, 16), "sound.wav has a format that is not supported (0x0003, 16 bits): use 16-bit PCM."),
        (
            wav(GOOD, rate=0),
            "sound.wav has a broken WAV header: 1 channels, 16 bits, 2 bytes a frame, 0 Hz.",
        ),
        (
            wav(GOOD, channels=0),
            "sound.wav has a broken WAV header: 0 channels, 16 bits, 0 bytes a frame, 16,000 Hz.",
        ),
        (
            wav(GOOD, frame=3),
            "sound.wav has a broken WAV header: 1 channels, 16 bits, 3 bytes a frame, 16,000 Hz.",
        ),
        (wav(b"data" * 4)[:12] + b"data\x04\0\0\0abcd", "sound.wav has a broken WAV header: its format is missing."),
        (
            wav(numpy.array([0.0, numpy.nan], "<f4").tobytes(), FLOAT, 32),
            "sound.wav has samples that are no numbers.",
        ),
    ],
)
def test_a_broken_wav_is_refused_in_one_sentence(files: Files, content: bytes, says: str) -> None:
    assert files.refuse(content) == says


def test_every_cut_of_a_wav_is_refused(files: Files) -> None:
    whole = wav(GOOD)

    for length in range(len(whole)):
        assert files.refuse(whole[:length]).startswith("sound.wav ")


def test_an_odd_number_of_bytes_is_no_pcm(files: Files) -> None:
    said = files.refuse(bytes(1_001), "sound.pcm", 16_000)

    assert said == "sound.pcm has an odd number of bytes (1,001): it is no 16-bit PCM, or cut."


@pytest.mark.parametrize(
    ("name", "content", "raw_hz", "says"),
    [
        ("sound.pcm", bytes(1_000), None, "sound.pcm is raw PCM, and its rate is not set."),
        ("sound.pcm", bytes(1_000), 0, "sound.pcm can't have 0 samples a second."),
        ("sound.pcm", b"", 16_000, "sound.pcm is empty."),
        ("sound.pcm", wav(GOOD), 16_000, "sound.pcm is not raw PCM: convert it to WAV, and name it .wav."),
        ("sound", b"OggS" + bytes(996), 16_000, "sound is not raw PCM: convert it to WAV, and name it .wav."),
        ("sound.mp3", bytes(1_000), 16_000, "sound.mp3 is not raw PCM: convert it to WAV, and name it .wav."),
    ],
)
def test_what_can_not_be_raw_pcm_is_refused(
    files: Files, name: str, content: bytes, raw_hz: int | None, says: str
) -> None:
    assert files.refuse(content, name, raw_hz) == says


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "words.txt is empty."),
        (b" \r\n\t", "words.txt has no text in it."),
        (b"\xef\xbb\xbf", "words.txt has no text in it."),
        (b"caf\xe9", "words.txt is not UTF-8: byte 3 can't be read."),
        ("text".encode("utf-16"), "words.txt is not UTF-8: byte 0 can't be read."),
        ("text".encode("utf-16-le"), "words.txt is no text."),
        (b"x" * 100_001, "words.txt is too large: at most 100,000 bytes are read."),
    ],
)
def test_a_text_that_can_not_be_read_is_refused(files: Files, content: bytes, says: str) -> None:
    files.text.write_bytes(content)

    assert files.refuse(wav(GOOD)) == says


def test_a_text_may_begin_with_a_byte_order_mark(files: Files) -> None:
    files.text.write_bytes("What it says.".encode("utf-8-sig"))

    assert files.read(wav(GOOD)) == GOOD


def test_a_missing_file_a_folder_and_a_pipe_are_refused(files: Files) -> None:
    os.mkfifo(files.folder / "pipe.wav")
    refused = []

    for name in ("none.wav", ".", "pipe.wav"):
        with pytest.raises(BadRecording) as error:
            read_recording(files.folder / name, files.text, None, 16_000)
        refused.append(str(error.value))

    assert refused == [
        f"{files.folder}/none.wav does not exist.",
        f"{files.folder} is no file.",
        f"{files.folder}/pipe.wav is no file.",
    ]


def test_a_file_that_is_too_large_is_refused_unread(files: Files) -> None:
    with (files.folder / "large.pcm").open("wb") as large:
        large.truncate(100_000_002)

    with pytest.raises(BadRecording, match=r"large\.pcm is too large"):
        read_recording(files.folder / "large.pcm", files.text, 16_000, 16_000)


def test_the_bundled_recording_speaks_both_languages() -> None:
    recording = read_recording(BUNDLED_AUDIO, BUNDLED_TEXT, None, 16_000)

    samples = numpy.frombuffer(recording.pcm, "<i2").astype(int)
    assert 4 < len(samples) / 16_000 < 8
    assert 8_000 < abs(samples).max() < 30_000
    assert "recording" in recording.text
    assert any("\u4e00" <= character <= "\u9fff" for character in recording.text)
    assert BUNDLED_AUDIO.stat().st_size < 100_000
