"""Measure how answers are spoken, and say whether they are as quick and as whole as this project claims.

    python benchmarks/audio.py --serve                  this project's server with espeak-ng, before the mock upstream
    python benchmarks/audio.py http://127.0.0.1:8000 --upstream http://127.0.0.1:9100

The second is a server of this project that runs, with espeak-ng, before benchmarks/upstream.py. README.md says what
each column means. The exit status is 1 if a bar is missed, an answer failed or something could not be measured.
"""

import argparse
import contextlib
import gc
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # run as a script: the package is found from the project's root
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import calls, processes
from benchmarks.calls import SPEAKER, Calls
from benchmarks.endpoints import PATH, Endpoint
from benchmarks.framing import Broken
from benchmarks.hangups import Mock
from benchmarks.measurements import Meter
from benchmarks.relay import describe_machine
from benchmarks.replies import CHUNK_MS, Spoken, check, decoded
from benchmarks.reports import Result, format_report
from benchmarks.sayings import ANSWERS, CHINESE, ENGLISH
from benchmarks.sentences import SENTENCES, measure_sentences
from benchmarks.servers import Cores, NotStarted, Server, serve_mock, serve_project

SPOKEN_PATH = "/audio/chat/completions"
SDK = "the openai SDK"
PARTS = {
    calls.SCENARIO: "all of them spoken to all the time",
    SENTENCES: "each is the whole answer to a caller",
    SDK: "an answer in both forms",
}
_SETTINGS = {"VOICE": "espeak", "AUDIO_SOURCE": "speech", "AUDIO_LEAD_MS": "1000", "AUDIO_EARLY": "24"}
_WARM_S = 3
_MOST_CALLS = 1000
_MOST_APART_MS = 200


class Bar(NamedTuple):
    """What a figure of one row must not exceed."""

    scenario: str
    figure: str
    most: float

    def judge(self, results: Sequence[Result]) -> Iterator[tuple[bool, str]]:
        """Yield for each row that has the figure whether it is met, and a line that says so."""
        for result in results:
            value = result.figures.get(self.figure)
            if result.scenario == self.scenario and value is not None:
                is_met = value <= self.most
                verdict = "met" if is_met else "MISSED"
                yield is_met, f"- {verdict}: {result.server}: {self.figure}: {value:.4g} (at most {self.most:g})"


BARS = (
    Bar(calls.SCENARIO, "first sound p50, ms", 15),
    Bar(calls.SCENARIO, "late chunks", 0),
    Bar(calls.SCENARIO, "text p99, ms", 10),
    Bar(SENTENCES, "silence added, ms", 5),
    Bar(SENTENCES, "after the last word, ms", 300 + CHUNK_MS),  # the last chunk is filled up
)


def main() -> None:
    """Run what the command line asks for; Markdown goes to stdout, progress to stderr."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("audio: stopped"))  # what was started is stopped on the way out
    gc.disable()  # nothing here makes cycles, and a collection would be measured as the server's latency
    processes.raise_file_limit()
    results: list[Result] = []
    cores = Cores.choose() if arguments.serve else Cores()
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
            upstream = stack.enter_context(serve_mock(folder, cores.mock)) if arguments.serve else arguments.upstream
            server = _server(arguments, upstream, folder, cores)
            if cores.client is not None and sys.platform == "linux":
                os.sched_setaffinity(0, {cores.client})
            writing, pid = stack.enter_context(server.running())
            for result in _measure(arguments, server, writing, Mock(upstream), pid, cores.one_for_both):
                print(f"# {result.server}{': ' + result.remark if result.remark else ''}", file=sys.stderr)
                results.append(result)
    except (NotStarted, ValueError, ConnectionError) as error:
        sys.exit(f"audio: {error}")
    verdicts = [verdict for bar in BARS for verdict in bar.judge(results)]
    print(describe_machine(cores), end="\n\n")
    print(format_report(results, list(PARTS.items()), None), end="\n\n")
    print("\n".join(line for _, line in verdicts))
    is_good = all(is_met for is_met, _ in verdicts) and not any(each.failures or each.remark for each in results)
    sys.exit(not is_good)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="this project's server, without a path")
    add("--serve", action="store_true", help="start (and stop) the mock upstream and this project's server")
    add("--upstream", default="http://127.0.0.1:9100", metavar="URL", help="the mock upstream (default %(default)s)")
    add("--key", default="", help="the key that opens the server")
    add("--calls", default="0,1,10,100", metavar="N,…", help="calls at once, row by row (default %(default)s)")
    add("--seconds", type=float, default=15, help="for which each row is measured (default %(default)s)")
    arguments = parser.parse_args()
    if bool(arguments.url) == arguments.serve:
        parser.error("either URL or --serve")
    try:
        arguments.calls = [int(number) for number in arguments.calls.split(",")]
    except ValueError:
        parser.error("--calls: numbers, separated by commas")
    if not all(0 <= number <= _MOST_CALLS for number in arguments.calls):
        parser.error(f"--calls: 0 to {_MOST_CALLS}")
    if not 1 <= arguments.seconds <= 300:
        parser.error("--seconds: 1 to 300")
    return arguments


def _server(arguments: argparse.Namespace, upstream: str, folder: Path, cores: Cores) -> Server:
    if arguments.serve:
        return serve_project(upstream, folder, cores.server, **_SETTINGS)
    return Server("ours", arguments.url.rstrip("/") + PATH, arguments.key)


def _measure(
    arguments: argparse.Namespace, server: Server, writing: Endpoint, mock: Mock, pid: int | None, one_core: bool
) -> Iterator[Result]:
    speaking = Endpoint.resolve(server.url.removesuffix(PATH) + SPOKEN_PATH, server.key)
    meter = Meter(pid, mock.find_process())
    Calls(speaking, writing, mock, 4).warm_up(min(_WARM_S, arguments.seconds))
    for number in arguments.calls:
        yield Calls(speaking, writing, mock, number).run(meter, arguments.seconds, one_core)
    yield measure_sentences("English", "en", ENGLISH, speaking)
    yield measure_sentences("Chinese", "zh", CHINESE, speaking)
    yield _listen_with_the_sdk(server)


def _listen_with_the_sdk(server: Server) -> Result:
    """Have OpenAI's own client read an answer, streamed and whole."""
    try:
        from openai import OpenAI
    except ImportError:
        return Result("read", SDK, remark="not measured: openai is not installed (requirements-dev.txt)")
    streamed, whole = Spoken(), Spoken()
    question: Any = {
        "model": SPEAKER,
        "messages": [{"role": "user", "content": ANSWERS[0]}],
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "pcm16"},
    }
    base = server.url.removesuffix(PATH) + "/audio"
    try:
        with OpenAI(base_url=base, api_key=server.key or "none", max_retries=0, timeout=60) as client:
            for chunk in client.chat.completions.create(stream=True, **question):
                for choice in chunk.choices:
                    _take(streamed, choice.delta.to_dict().get("audio") or {})
            audio = client.chat.completions.create(**question).choices[0].message.audio
        if audio is None or audio.expires_at < time.time():
            raise Broken("the whole answer has no sound")
        _take(whole, audio.to_dict())
        check(streamed)
        check(whole)
        # espeak-ng does not say a sentence twice the same, sample by sample
        if streamed.transcript != whole.transcript or abs(streamed.ms - whole.ms) > _MOST_APART_MS:
            raise Broken("the whole answer and the streamed one differ")
    except Exception as error:  # the SDK raises whatever it likes
        return Result("read", SDK, failures=Counter([f"{type(error).__name__}: {error}"[:200]]))
    return Result("read", SDK, figures={"streamed, ms": streamed.ms, "whole, ms": whole.ms})


def _take(heard: Spoken, audio: dict[str, Any]) -> None:
    heard.pcm += decoded(audio.get("data", ""))
    heard.transcript += audio.get("transcript", "")
    heard.words += audio.get("words", ())


if __name__ == "__main__":
    main()
