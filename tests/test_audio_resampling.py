import random
import re
import sys
from pathlib import Path

import numpy
import pytest

from audio.resampling import Resampler


def tone(hz: float, rate: int, seconds: float, level: float = 20_000) -> bytes:
    at = numpy.arange(round(rate * seconds)) / rate
    return numpy.rint(level * numpy.sin(2 * numpy.pi * hz * at)).astype("<i2").tobytes()


def noise(samples: int) -> bytes:
    return numpy.random.default_rng(1).integers(-20_000, 20_000, samples, dtype="<i2").tobytes()


def at_once(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    resampler = Resampler(from_hz, to_hz)
    return resampler.feed(pcm) + resampler.end()


def in_pieces(pcm: bytes, from_hz: int, to_hz: int, longest: int, seed: int = 1) -> bytes:
    chance = random.Random(seed)
    resampler = Resampler(from_hz, to_hz)
    out, at = [], 0
    while at < len(pcm):
        size = chance.randint(0, longest)
        out.append(resampler.feed(pcm[at : at + size]))
        at += size
    return b"".join([*out, resampler.end()])


def distance_db(pcm: bytes, hz: float, rate: int, begin_s: float = 0.0) -> float:
    """How far below a tone is all that is not this tone, of the same phase from the first sample on."""
    samples = numpy.frombuffer(pcm, "<i2").astype(numpy.float64)
    at = begin_s + numpy.arange(len(samples)) / rate
    pure = numpy.sin(2 * numpy.pi * hz * at)
    level = 2 * (samples * pure).mean()
    return float(20 * numpy.log10(level / numpy.sqrt(2) / numpy.sqrt(((samples - level * pure) ** 2).mean())))


@pytest.mark.parametrize(("from_hz", "to_hz"), [(22_050, 16_000), (8_000, 16_000), (24_000, 16_000), (16_000, 22_050)])
def test_every_cut_gives_the_same_sound(from_hz: int, to_hz: int) -> None:
    pcm = noise(300)
    whole = at_once(pcm, from_hz, to_hz)

    for cut in range(len(pcm) + 1):
        resampler = Resampler(from_hz, to_hz)

        pieces = resampler.feed(pcm[:cut]) + resampler.feed(pcm[cut:]) + resampler.end()

        assert pieces == whole


def test_a_byte_at_a_time_gives_the_same_sound() -> None:
    pcm = noise(2_000)

    assert in_pieces(pcm, 22_050, 16_000, longest=1) == at_once(pcm, 22_050, 16_000)


@pytest.mark.parametrize("from_hz", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("to_hz", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("samples", [0, 1, 2, 17, 1_000, 22_051])
def test_the_length_is_exact_to_a_sample(from_hz: int, to_hz: int, samples: int) -> None:
    resampled = in_pieces(noise(samples), from_hz, to_hz, longest=999)

    assert abs(len(resampled) // 2 - round(samples * to_hz / from_hz)) <= 1
    assert len(resampled) % 2 == 0


@pytest.mark.parametrize(("from_hz", "to_hz"), [(22_050, 16_000), (24_000, 16_000), (8_000, 16_000), (48_000, 16_000)])
@pytest.mark.parametrize("longest", [7, 1_281, 50_000])
def test_a_tone_stays_pure_across_borders(from_hz: int, to_hz: int, longest: int) -> None:
    resampled = in_pieces(tone(1_000, from_hz, 1.0), from_hz, to_hz, longest)

    # a click of one sample by 2% of the level would be 50 dB below; the first and last 20 ms ring
    edge = 2 * to_hz // 50
    assert distance_db(resampled[edge:-edge], 1_000, to_hz, 0.02) > 70


def test_ten_minutes_in_random_pieces_do_not_drift() -> None:
    second = tone(1_000, 22_050, 1.0)
    pcm = second * 600

    resampled = in_pieces(pcm, 22_050, 16_000, longest=60_001)

    assert len(resampled) == 2 * 600 * 16_000
    for begin_s in (1, 300, 598):
        begin = 2 * 16_000 * begin_s
        assert distance_db(resampled[begin : begin + 32_000], 1_000, 16_000) > 70


def test_what_is_held_back_is_short() -> None:
    resampler = Resampler(22_050, 16_000)

    early = resampler.feed(tone(440, 22_050, 0.2))

    assert len(early) >= 2 * 16_000 * 0.13


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_stream_keeps_little_of_a_long_piece() -> None:
    def kib() -> int:
        found = re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())
        assert found
        return int(found[1])

    pcm = noise(120_000)
    at_once(pcm, 22_050, 16_000)
    before = kib()

    streams = [Resampler(22_050, 16_000) for _ in range(60)]
    for stream in streams:
        stream.feed(pcm)

    assert (kib() - before) / len(streams) < 500


def test_silence_stays_silence() -> None:
    assert not any(at_once(bytes(44_100), 22_050, 16_000))


@pytest.mark.parametrize("size", [1, 2, 3, 999])
def test_equal_rates_pass_the_bytes_on(size: int) -> None:
    pcm = noise(5_000)

    assert in_pieces(pcm, 16_000, 16_000, longest=size) == pcm


def test_half_a_sample_at_the_end_is_dropped() -> None:
    assert at_once(noise(500) + b"\x7f", 16_000, 16_000) == noise(500)
    assert at_once(noise(500) + b"\x7f", 22_050, 16_000) == at_once(noise(500), 22_050, 16_000)


@pytest.mark.parametrize("from_hz", [16_000, 22_050])
def test_after_its_end_a_new_stream_begins(from_hz: int) -> None:
    resampler = Resampler(from_hz, 16_000)
    first = resampler.feed(noise(700) + b"\x01") + resampler.end()

    second = resampler.feed(noise(700)) + resampler.end()

    assert first == second == at_once(noise(700), from_hz, 16_000)
