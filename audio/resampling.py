"""Bring samples from one rate to another, as a stream."""

from typing import Any

from turns.pool import beside_the_hub

# 0.3 ms of work for each second of sound: more than this goes beside the event loop
_POOL_ABOVE = 100_000  # bytes
# a stream keeps ten bytes for each sample of the largest piece that it was ever given: a megabyte for a sentence
_BLOCK = 4096  # samples


class Resampler:
    """Resample signed 16-bit little-endian mono samples, from `from_hz` to `to_hz`.

    What is fed may be cut anywhere, even inside a sample: the sound that comes out is the same. It comes a little
    later than it went in, by up to 60 ms of sound, which `end` gives. To load soxr takes about 0.1 s, once: `prepare`.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream: Any = None
        self._half = b""
        if from_hz != to_hz:
            import soxr

            # with int16 it would dither, and silence were noise
            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def feed(self, pcm: bytes) -> bytes:
        """Return the samples that are ready by now."""
        pcm = self._half + pcm
        whole = len(pcm) & ~1
        self._half = pcm[whole:]
        return self._resampled(pcm[:whole], last=False)

    def end(self) -> bytes:
        """Return the rest; half a sample at the end is dropped. A new stream begins with the next `feed`."""
        self._half = b""
        return self._resampled(b"", last=True)

    def _resampled(self, pcm: bytes, *, last: bool) -> bytes:
        if self._stream is None:
            return pcm
        if len(pcm) > _POOL_ABOVE:
            return beside_the_hub(_resample, self._stream, pcm, last)
        return _resample(self._stream, pcm, last)


def prepare(from_hz: int, to_hz: int) -> None:
    """Load what the first stream of these rates would otherwise wait for."""
    resampler = Resampler(from_hz, to_hz)
    resampler.feed(bytes(2))
    resampler.end()


def _resample(stream: Any, pcm: bytes, last: bool) -> bytes:
    import numpy

    samples = numpy.frombuffer(pcm, "<i2").astype(numpy.float32)
    parts = [stream.resample_chunk(samples[at : at + _BLOCK]) for at in range(0, len(samples), _BLOCK)]
    if last:
        parts.append(stream.resample_chunk(samples[:0], last=True))
        stream.clear()
    resampled = numpy.concatenate(parts) if parts else samples
    return bytes(numpy.clip(numpy.rint(resampled), -32768, 32767).astype("<i2").tobytes())
