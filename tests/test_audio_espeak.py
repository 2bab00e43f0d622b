import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy
import pytest

from audio.espeak import ACCENTS, SPEAKERS, EspeakVoice, pieces
from audio.voice import Mark
from protocol.errors import CallerHungUp
from protocol.language import Language, language
from turns.caller import ThreadCaller
from upstream.waits import Waits

ROOT = Path(__file__).parents[1]
ENGLISH = """
Hello there, how can I help you today?
Your order was shipped on Tuesday, and it should arrive within two days.
The warranty lasts two years from the day of purchase.
Yes!
I'm sorry, I can't find an account with that number.
It costs $3.50, or 2,000 dollars (10% off).
Please hold the line while I look that up for you.
We're open from 9 a.m. to 5:30 p.m., Monday to Friday.
Dr. Smith will call you back at 1-800-555-0199.
Would you like me to send a copy to jane@example.com?
"Of course," she said, "that isn't a problem at all."
First, press the red button; then wait until the light turns green.
The XR-200 weighs 1.5 kg - less than the XR-300!
Is there anything else that you would like to know?
Thirty-three thousand thieves thought that they thrilled the throne throughout Thursday.
No.
Well… let me think about that for a moment.
You can return it within seven days, free of charge, at any of our shops in Europe, Asia or America.
The café is next to the station, on the left.
Thank you for calling, and goodbye.
""".strip().splitlines()
CHINESE = """
您好，请问有什么可以帮您？
您的订单已于星期二发货，预计两天内送达。
保修期为两年，从购买之日算起。
好的。
很抱歉，我没有找到这个号码对应的账户。
这款音箱的价格是399元，现在打八折。
请稍等，我马上为您查询。
我们的营业时间是周一至周五上午九点到下午五点半。
王医生会在今天下午给您回电话。
需要我把副本发到您的邮箱吗？
“当然可以”，她说，“这完全没有问题。”
首先按下红色按钮；然后等待指示灯变绿。
我的 iPhone 15 Pro Max 坏了，应该怎么办？
请问您还有什么想了解的吗？
四是四，十是十，十四是十四，四十是四十。
不行！
嗯……让我想一想。
商品签收后七天内可以无理由退货，运费由买家承担。
請問您的電話號碼是多少？
感谢您的来电，再见。
""".strip().splitlines()
SENTENCES: list[tuple[str, Language]] = [*((text, "en") for text in ENGLISH), *((text, "zh") for text in CHINESE)]


@pytest.fixture(scope="module")
def voice() -> EspeakVoice:
    return EspeakVoice()


def speak(
    voice: EspeakVoice, text: str, language: Language = "en", name: str | None = None
) -> tuple[bytes, list[Mark]]:
    sounds = list(voice.speak(text, language, name, Waits()))
    return b"".join(sound.pcm for sound in sounds), [mark for sound in sounds for mark in sound.marks]


def samples_of(pcm: bytes) -> "numpy.typing.NDArray[numpy.int32]":
    return numpy.frombuffer(pcm, "<i2").astype(numpy.int32)


def seconds(voice: EspeakVoice, text: str, language: Language = "en", name: str | None = None) -> float:
    return len(speak(voice, text, language, name)[0]) / 2 / voice.rate


def quiet_runs(pcm: bytes, level: int) -> list[tuple[int, int]]:
    """Where nothing is above a level: the first sample, and how many."""
    loud = numpy.flatnonzero(abs(samples_of(pcm)) > level)
    ends = [-1, *loud.tolist(), len(pcm) // 2]
    return [(a + 1, b - a - 1) for a, b in pairwise(ends) if b - a > 1]


def pitch(pcm: bytes, rate: int) -> float:
    """The most usual period of what is voiced, as Hz."""
    found = []
    samples = samples_of(pcm)
    for start in range(0, len(samples) - 2048, 1024):
        frame = samples[start : start + 2048] - samples[start : start + 2048].mean()
        same = numpy.correlate(frame, frame, "full")[2047:]
        lags = same[rate // 350 : rate // 60]
        if same[0] > 2048 * 1000**2 and lags.max() > 0.6 * same[0]:
            found.append(rate / (rate // 350 + int(lags.argmax())))
    return float(numpy.median(found))


def test_the_language_is_chosen_from_the_sentence() -> None:
    assert [language(text) for text, _ in SENTENCES] == ["en"] * 20 + ["zh"] * 20


@pytest.mark.parametrize(("text", "language"), SENTENCES)
def test_a_sentence_is_its_words_and_at_most_300_ms_more(voice: EspeakVoice, text: str, language: Language) -> None:
    pcm, marks = speak(voice, text, language)

    assert 0 <= 1000 * len(pcm) / 2 / voice.rate - marks[-1].end_ms <= 300
    assert re.sub(r"\s", "", "".join(text[mark.start : mark.end] for mark in marks)) == re.sub(r"\s", "", text)
    assert all(mark.start_ms < mark.end_ms for mark in marks)
    assert all(a.end_ms <= b.start_ms and a.end <= b.start for a, b in pairwise(marks))
    assert all(text[mark.start : mark.end] == text[mark.start : mark.end].strip() for mark in marks)


@pytest.mark.parametrize(("text", "language"), SENTENCES)
def test_a_sentence_is_not_clipped_and_has_no_silence_that_is_not_its_own(
    voice: EspeakVoice, text: str, language: Language
) -> None:
    pcm, marks = speak(voice, text, language)

    samples = samples_of(pcm)
    assert 6_000 < abs(samples).max() < 31_000
    flat = numpy.diff(samples) == 0
    assert not (flat[:-1] & flat[1:] & (abs(samples[:-2]) > 20_000)).any()
    runs = quiet_runs(pcm, 64)
    before = runs[0][1] if runs and runs[0][0] == 0 else 0
    assert 1000 * before / voice.rate <= 10
    inside = max(
        (length for start, length in runs if start and start + length < len(samples)),
        default=0,
    )
    assert 1000 * inside / voice.rate <= 400
    assert abs(samples[-20:]).max() <= 64


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("My dog has seven old shoes and nine yellow hats", "en"),
        ("Nobody will ever know how many of us were there", "en"),
        ("明天我们一起去北京大学看书", "zh"),
        ("请您再说一遍您的姓名和电话", "zh"),
    ],
)
def test_words_without_a_comma_between_them_have_no_pause(voice: EspeakVoice, text: str, language: Language) -> None:
    pcm, _ = speak(voice, text, language)

    end = len(pcm) // 2
    gaps = [1000 * length / voice.rate for start, length in quiet_runs(pcm, 64) if start and start + length < end]
    assert max(gaps, default=0) <= 130


def test_chinese_in_an_english_sentence_is_said_in_chinese(voice: EspeakVoice) -> None:
    text = "How do you say 谢谢 in English?"

    _, marks = speak(voice, text)

    # the English voice alone says "Chinese letter, Chinese letter", which takes 1,300 ms
    said = {text[mark.start : mark.end]: mark.end_ms - mark.start_ms for mark in marks}
    assert list(said) == ["How", "do", "you", "say", "谢谢", "in", "English?"]
    assert said["谢谢"] < 800


def test_english_in_a_chinese_sentence_is_said_as_words(voice: EspeakVoice) -> None:
    text = "请说 hello 吧，然后打开 WiFi。"

    _, marks = speak(voice, text, "zh")

    said = {text[mark.start : mark.end]: mark.end_ms - mark.start_ms for mark in marks}
    assert said.keys() >= {"请", "说", "hello", "吧，", "打", "开", "WiFi。"}
    assert 150 < said["hello"] < 700


def test_numbers_are_said_in_the_sentences_language(voice: EspeakVoice) -> None:
    english, chinese = seconds(voice, "15, 15, 15"), seconds(voice, "15、15、15", "zh")

    assert english == pytest.approx(seconds(voice, "fifteen, fifteen, fifteen"), rel=0.1)
    assert chinese == pytest.approx(seconds(voice, "十五、十五、十五", "zh"), rel=0.1)
    assert english > 1.25 * chinese


def test_a_call_leaves_nothing_to_the_next(voice: EspeakVoice) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    alone = seconds(voice, text)

    others: list[tuple[str, Language, str | None]] = [
        ("你好，世界。", "zh", None),
        ("Hello", "en", "en-gb+f3"),
        ("\x01900S\x0190P\x012A Hello", "en", None),
        ("<prosody rate='fast'>Hello", "en", "m8"),
        ("[[h@loU]] \x01V", "zh", "f1"),
    ]
    for other in others:
        speak(voice, *other)
        again, _ = speak(voice, text)

        assert len(again) / 2 / voice.rate == pytest.approx(alone, rel=0.02)
        assert pitch(again, voice.rate) < 130


@pytest.mark.parametrize("name", [None, "", "alloy", "F9", "../../../etc/passwd", "en-us\0", "f3/../x", "+" * 10_000])
def test_an_unknown_name_is_the_usual_voice(voice: EspeakVoice, name: str | None) -> None:
    pcm, marks = speak(voice, "My old friend was here on Monday.", "en", name)

    assert len(marks) == 7
    assert 80 < pitch(pcm, voice.rate) < 130


@pytest.mark.parametrize(("text", "language"), [("My old friend was here.", "en"), ("我的老朋友来了。", "zh")])
@pytest.mark.parametrize("name", ["f3", "en-gb+f3", "EN-GB+F3"])
def test_a_womans_voice_is_higher(voice: EspeakVoice, text: str, language: Language, name: str) -> None:
    usual, _ = speak(voice, text, language)

    higher, _ = speak(voice, text, language, name)

    assert pitch(higher, voice.rate) > 1.25 * pitch(usual, voice.rate)


@pytest.mark.parametrize("name", [*ACCENTS, *sorted(SPEAKERS)])
@pytest.mark.parametrize(("text", "language"), [(ENGLISH[0], "en"), (CHINESE[0], "zh")])
def test_every_name_of_the_list_speaks_both_languages_without_clipping(
    voice: EspeakVoice, name: str, text: str, language: Language
) -> None:
    pcm, marks = speak(voice, text, language, name)

    assert 1.5 < len(pcm) / 2 / voice.rate < 5
    assert abs(samples_of(pcm)).max() < 32_000
    assert 0 <= 1000 * len(pcm) / 2 / voice.rate - marks[-1].end_ms <= 300


@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "。", "\0", "\u200b", "—", "\x01\x02"])
def test_what_has_no_word_yields_nothing(voice: EspeakVoice, text: str) -> None:
    assert speak(voice, text, "en") == speak(voice, text, "zh") == (b"", [])


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("text", "most_s"),
    [
        ("before\0after", 2.5),
        ('<break time="20s"/>hello', 5),
        ("<speak><voice name='xx'>hello</voice></speak>", 8),
        ("[[h@'loU]] hello", 4),
        ("\x015000S hello", 4),
        ("hi 😀👨\u200d👩\u200d👧🇩🇪 there", 6),
        ("half a \ud83d pair", 3),
        ("Привет こんにちは مرحبا 안녕 🧪", 30),
        ("e\u0301te\u0301 \u202eabc\u202c \ufeffx", 4),
        ("a" * 5_000, 700),
        ("9" * 2_000, 1_500),
        ("(((((" * 500 + "ok", 3),
        ("ok " + "?!" * 500, 8),
        ("&amp; %s %n {0} $(ls) `x` ' \"", 12),
    ],
)
def test_odd_text_is_said_somehow(voice: EspeakVoice, text: str, most_s: float, language: Language) -> None:
    pcm, marks = speak(voice, text, language)

    assert marks
    assert 0.2 < len(pcm) / 2 / voice.rate < most_s
    assert 0 <= 1000 * len(pcm) / 2 / voice.rate - marks[-1].end_ms <= 300


def test_what_follows_a_nul_is_said(voice: EspeakVoice) -> None:
    assert len(speak(voice, "one\0two")[1]) == 2


@pytest.mark.parametrize("text", ["word " * 20_000, "字" * 20_000, ", " * 20_000, "你 1" * 20_000, "a. B" * 20_000])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_long_text_is_cut_into_short_pieces(text: str, language: Language) -> None:
    cut = list(pieces(text, language))

    assert [piece.start for piece in cut[1:]] == [piece.end for piece in cut[:-1]]
    assert (cut[0].start, cut[-1].end) == (0, len(text))
    assert max(piece.end - piece.start for piece in cut) <= 241


def test_the_first_clause_of_a_long_sentence_comes_before_the_rest(voice: EspeakVoice) -> None:
    first, *rest = voice.speak(ENGLISH[17] + " " + ENGLISH[11], "en", None, Waits())

    assert rest
    assert len(first.pcm) / 2 / voice.rate < 5


def test_a_caller_who_hangs_up_hears_no_more(voice: EspeakVoice) -> None:
    ours, theirs = socket.socketpair()
    with ours, closing(ThreadCaller(ours, 1.0)) as caller:
        speaking = voice.speak("Well, " * 1_000, "en", None, caller)
        next(speaking)

        theirs.close()

        with pytest.raises(CallerHungUp):
            next(speaking)


def test_turns_in_many_threads_get_their_own_words(voice: EspeakVoice) -> None:
    alone = [(len(pcm), len(marks)) for pcm, marks in (speak(voice, *sentence) for sentence in SENTENCES)]
    together: dict[int, tuple[int, int]] = {}

    def run(number: int) -> None:
        for index in range(number, len(SENTENCES), 4):
            pcm, marks = speak(voice, *SENTENCES[index])
            together[index] = (len(pcm), len(marks))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for index, (length, marks) in enumerate(alone):
        assert together[index][0] == pytest.approx(length, rel=0.05)
        assert together[index][1] == marks


def run_python(code: str, *, path: str = "") -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT), *sys.path]))}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_under_gevent_the_event_loop_goes_on_beside_it() -> None:
    told = json.loads(
        run_python("""
import gevent.monkey
gevent.monkey.patch_all()
import json, time, gevent
from audio.espeak import EspeakVoice
from audio.resampling import Resampler
from upstream.waits import Waits

voice = EspeakVoice()
late = []
def tick():
    while True:
        began = time.perf_counter()
        gevent.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
def turn(number):
    text = f"This is turn {number}, and it says so in a sentence of some length, with a comma or two."
    sounds = list(voice.speak(text, "en", None, Waits()))
    pcm = b"".join(sound.pcm for sound in sounds)
    words = [text[mark.start : mark.end] for sound in sounds for mark in sound.marks]
    resampler = Resampler(voice.rate, 16000)
    resampled = resampler.feed(pcm) + resampler.end()
    return " ".join(words) == text and abs(len(resampled) - len(pcm) * 16000 / voice.rate) <= 2
Resampler(voice.rate, 16000).end()
ticks = gevent.spawn(tick)
turns = [gevent.spawn(turn, number) for number in range(20)]
killed = gevent.spawn(turn, 99)
gevent.sleep(0.002)
killed.kill()
gevent.joinall(turns)
print(json.dumps({"right": [one.value for one in turns], "late_ms": sorted(late)[len(late) // 2] * 1000}))
""")
    )

    assert told["right"] == [True] * 20
    assert told["late_ms"] < 20


def test_a_forked_process_can_speak() -> None:
    told = run_python("""
import os
from audio.espeak import EspeakVoice
from upstream.waits import Waits

voice = EspeakVoice()
list(voice.speak("Hello", "en", None, Waits()))
child = os.fork()
if not child:
    os._exit(0 if list(voice.speak("Hello", "en", None, Waits())) else 3)
print(os.waitpid(child, 0)[1])
""")

    assert told == "0\n"


REFUSED = """
from audio.espeak import EspeakVoice
from audio.espeak_library import EspeakUnavailable
try:
    EspeakVoice()
except EspeakUnavailable as error:
    print(error)
"""


def test_without_the_wheel_one_sentence_says_so() -> None:
    told = run_python("import sys; sys.modules['espeakng_loader'] = None\n" + REFUSED)

    assert told == "espeak-ng is not installed: pip install espeakng-loader.\n"


def test_with_a_broken_wheel_one_sentence_says_so(tmp_path: Path) -> None:
    (tmp_path / "espeakng_loader.py").write_text(
        "def get_library_path(): return '/nowhere/libespeak-ng.so'\ndef get_data_path(): return '/nowhere'\n"
    )

    told = run_python(REFUSED, path=str(tmp_path))

    assert told.startswith("espeak-ng's library can't be loaded: ")
    assert told.count("\n") == 1


def test_without_its_data_one_sentence_says_so(tmp_path: Path) -> None:
    import espeakng_loader

    (tmp_path / "espeakng_loader.py").write_text(
        f"def get_library_path(): return {espeakng_loader.get_library_path()!r}\n"
        f"def get_data_path(): return {str(tmp_path)!r}\n"
    )

    told = run_python(REFUSED, path=str(tmp_path))

    assert told == f"espeak-ng can't read its data in {tmp_path}.\n"
