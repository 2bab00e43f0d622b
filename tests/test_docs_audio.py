"""What docs/audio.md shows is run, and both languages show the same."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import Any, get_args, get_type_hints

import pytest
from heard import hear
from readme import Page, codes
from running_server import ROOT, RunningServer, clean_environment, running_server, turn
from test_docs import check_sequence, wordless

from audio.espeak import ACCENTS, SPEAKERS
from audio.track import Form
from audio.voice import Voice, VoiceFailed
from environment import load
from protocol.errors import CallerHungUp
from settings import Settings
from upstream.waits import Waits

ENGLISH, CHINESE = Page(ROOT / "docs/audio.md"), Page(ROOT / "docs/audio.zh-CN.md")
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    """The server that the reader has started, but that it need not be listened to at its pace."""
    with running_server(AUDIO_LEAD_MS=0) as running:
        yield running


def test_the_pages_have_the_same_headings_tables_and_blocks() -> None:
    assert [level for level, _ in ENGLISH.headings] == [level for level, _ in CHINESE.headings]
    assert [wordless(block) for block in ENGLISH.blocks] == [wordless(block) for block in CHINESE.blocks]
    for english, chinese in zip(ENGLISH.tables, CHINESE.tables, strict=True):
        assert [[sorted(codes(cell)) for cell in row] for row in english] == [
            [sorted(codes(cell)) for cell in row] for row in chinese
        ]


@PAGES
def test_links_lead_somewhere(page: Page) -> None:
    local = [link.partition("#")[0] for link in page.links if "://" not in link]

    assert local
    assert [link for link in local if not (page.path.parent / link).exists()] == []


@PAGES
def test_the_settings_of_sound_are_all_named_and_no_others(page: Page) -> None:
    named = set(re.findall(r"\b(?:AUDIO|VOICE)(?:_[A-Z]+)*\b", page.text)) - {"AUDIO"}

    known = {name.upper() for name in Settings.__struct_fields__ if re.match(r"audio_|voice", name)}
    assert named == known


@PAGES
def test_the_sources_the_voices_and_the_form_are_the_codes(page: Page) -> None:
    choices, said = get_type_hints(Settings), ("`AUDIO_SOURCE`", "`VOICE`")
    listed = {heads[0]: [codes(row[0])[0] for row in rows] for heads, *rows in page.tables if heads[0] in said}
    espeak = next(text for text in page.text.split("\n\n") if text.startswith("**espeak-ng**"))

    assert set(listed["`AUDIO_SOURCE`"]) == set(get_args(choices["audio_source"]))
    assert listed["`VOICE`"] == list(get_args(choices["voice"]))
    assert {name for name in codes(espeak) if name in ACCENTS} == ACCENTS.keys()
    for kind in ("f", "m"):
        last = max(int(name[1:]) for name in SPEAKERS if name[0] == kind)
        assert {f"{kind}1", f"{kind}{last}"} <= set(codes(espeak))
    assert f"{Form().chunk_bytes:,}" in page.text


@PAGES
def test_the_walk_of_a_spoken_answer_is_balanced(page: Page) -> None:
    (diagram,) = (block.text for block in page.blocks_in("mermaid"))

    check_sequence(diagram)


@PAGES
def test_each_voice_server_that_is_shown_can_be_set(page: Page, tmp_path: Path) -> None:
    for block in page.blocks_in("ini"):
        (tmp_path / ".env").write_text(block.text)

        settings, warnings = load({"ENV_FILE": str(tmp_path / ".env")})

        assert warnings == []
        assert settings.voice_url


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
def test_what_is_heard_is_a_file_that_can_be_played(demo: RunningServer, tmp_path: Path) -> None:
    (block,) = ENGLISH.blocks_in("sh")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    ended = subprocess.run(
        ["sh", "-ec", block.text.replace("http://localhost:8000", demo.url)],
        cwd=tmp_path,
        env=clean_environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ENGLISH.after(block).text
    with wave.open(str(tmp_path / "answer.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert 2 < file.getnframes() / 16000 < 20


def test_the_agents_request_calls_what_speaks(demo: RunningServer) -> None:
    (block,) = ENGLISH.blocks_in("json")
    properties: dict[str, Any] = json.loads(block.text)["properties"]
    llm = properties["llm"]
    path = re.sub(r"^https://[^/]+", "", llm["url"])
    greeting = {"role": "assistant", "content": llm["greeting_message"]}

    heard = hear(demo.ask(turn(messages=[*llm["system_messages"], greeting], **llm["params"]), path))

    assert heard.transcript == llm["greeting_message"]
    assert heard.ms > 500
    assert llm["output_modalities"] == ["audio"]
    assert "tts" not in properties


class TestOwnVoice:
    """The class that is shown, with a program in place of Piper."""

    @pytest.fixture
    def names(self) -> dict[str, Any]:
        (block,) = ENGLISH.blocks_in("python")
        names: dict[str, Any] = {}
        exec(block.text, names)
        return names

    @pytest.fixture
    def install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

        def install(*lines: str) -> None:
            program = tmp_path / "piper"
            program.write_text("\n".join([f"#!{sys.executable}", "import sys, time", *lines]))
            program.chmod(0o755)

        return install

    def test_it_has_what_every_voice_has(self, names: dict[str, Any]) -> None:
        assert inspect.signature(names["Piper"].speak) == inspect.signature(Voice.speak)
        assert isinstance(names["Piper"].rate, int)

    def test_it_says_what_the_program_says(self, names: dict[str, Any], install: Any) -> None:
        install("sys.stdout.buffer.write(b'%s %s' % (sys.argv[2].encode(), sys.stdin.buffer.read()) * 9999)")

        sounds = list(names["Piper"]({"en": "en.onnx", "zh": "zh.onnx"}).speak("你好", "zh", None, Waits()))

        assert b"".join(sound.pcm for sound in sounds) == b"zh.onnx \xe4\xbd\xa0\xe5\xa5\xbd" * 9999

    def test_a_program_that_fails_is_a_voice_that_failed(self, names: dict[str, Any], install: Any) -> None:
        install("sys.stdin.read()", "sys.exit(3)")

        with pytest.raises(VoiceFailed) as failed:
            list(names["Piper"]({"en": "en.onnx"}).speak("Hello", "en", None, Waits()))

        assert (failed.value.detail, failed.value.answered) == ("piper: 3", 502)

    def test_one_that_says_nothing_is_too_late(self, names: dict[str, Any], install: Any) -> None:
        install("time.sleep(60)")
        names["WAIT_S"] = 0.05

        with pytest.raises(VoiceFailed) as failed:
            list(names["Piper"]({"en": "en.onnx"}).speak("Hello", "en", None, Waits()))

        assert failed.value.answered == 504

    def test_a_hang_up_ends_the_program(self, names: dict[str, Any], install: Any, tmp_path: Path) -> None:
        install("print('ab', flush=True)", "time.sleep(5)", f"open({str(tmp_path / 'late')!r}, 'w')")
        said = names["Piper"]({"en": "en.onnx"}).speak("Hello", "en", None, HangsUp())
        next(said)
        began = time.monotonic()

        with pytest.raises(CallerHungUp):
            next(said)

        assert time.monotonic() - began < 4
        assert not (tmp_path / "late").exists()


class HangsUp(Waits):
    """The waits of a turn whose caller hangs up at the second."""

    has_waited = False

    def readable(self, sock: socket | None, until: float = 0) -> bool:
        """Wait once, and be over then."""
        if self.has_waited:
            raise CallerHungUp
        self.has_waited = True
        return super().readable(sock, until)
