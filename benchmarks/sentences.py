"""Have sentences spoken, each as an answer of its own, and compare what came with the voice's own sound."""

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import Literal

from benchmarks.callers import Callers
from benchmarks.endpoints import Endpoint
from benchmarks.framing import Broken
from benchmarks.replies import HZ, Reply, Spoken, letters, loudest, samples, silences_ms, spoken
from benchmarks.reports import Result

SENTENCES = "sentences"
_MODEL = "echo-5ms"
_MOST_S = 60


def measure_sentences(name: str, language: Literal["en", "zh"], sentences: Sequence[str], endpoint: Endpoint) -> Result:
    """Ask for all of them at once, check every answer, and return the worst of each figure."""
    callers = Callers()
    replies = {sentence: Reply(time.monotonic_ns(), tag) for tag, sentence in enumerate(sentences)}
    for sentence, reply in replies.items():
        ask = partial(callers.ask, endpoint, endpoint.request(_MODEL, reply.tag, says=sentence), reply, lambda: None)
        callers.at(time.monotonic_ns(), ask)
    callers.run(time.monotonic_ns() + _MOST_S * 1_000_000_000, until_idle=True)
    if left := callers.close():
        callers.failures["not over in time"] += left
    heard: dict[str, Spoken] = {}
    failures: Counter[str] = callers.failures
    for sentence, reply in replies.items():
        try:
            found = spoken(reply)
            if letters(found.transcript) != letters(sentence):
                raise Broken(f"another transcript: {found.transcript[:40]!r}")
            heard[sentence] = found
        except Broken as error:
            failures[f"{sentence}: {error}"] += 1
    if not heard:
        return Result(name, SENTENCES, failures=failures)
    figures = {
        "sentences": len(heard),
        "sound, s": sum(found.ms for found in heard.values()) / 1000,
        "after the last word, ms": max(found.ms - found.words[-1]["end_ts"] for found in heard.values()),
        "loudest, of 32,767": max(loudest(samples(found.pcm)) for found in heard.values()),
        "silence added, ms": max(_added_ms(found, sentence, language) for sentence, found in heard.items()),
    }
    return Result(name, SENTENCES, figures=figures, failures=failures)


def _added_ms(found: Spoken, sentence: str, language: Literal["en", "zh"]) -> float:
    """Return by how much a silence inside a sentence is longer than that of the voice, longest by longest."""
    from audio.espeak import EspeakVoice
    from upstream.waits import Waits

    voice = EspeakVoice()
    pcm = b"".join(sound.pcm for sound in voice.speak(sentence, language, None, Waits()))
    own = silences_ms(samples(pcm), voice.rate)
    came = silences_ms(samples(found.pcm), HZ)
    added: list[float] = [longer - usual for longer, usual in zip_longest(came, own, fillvalue=0.0)]
    return max(added, default=0.0)
