"""Settings: what each may be, where it comes from, and what is said of a wrong one."""

import os
from pathlib import Path
from typing import Any, get_type_hints

import certifi
import pytest

import environment
from audio.recording import BUNDLED_AUDIO, BUNDLED_TEXT
from environment import PLACEHOLDER, BadSetting
from settings import Settings

CANARY = "s3cret-canary"
OWN = {"LLM_BASE_URL": "https://llm.example/v1", "LLM_API_KEY": "k"}
UPSTREAM = "https://llm.example/v1"
PROXY = "http://proxy.example:3128"

# each setting: its default, texts that are taken with what they become, and texts that are refused
SECONDS: tuple[list[tuple[str, Any]], list[str]] = (
    [("0.01", 0.01), ("2", 2.0), ("86400", 86400.0)],
    ["0", "0.009", "86401", "-1", "nan", "inf", "2s", "1,5"],
)

TABLE: dict[str, tuple[Any, list[tuple[str, Any]], list[str]]] = {
    "LLM_API_KEY": (None, [("sk-1", "sk-1"), (" sk-1 ", "sk-1")], ["two words", "ключ", "a\x07b"]),
    "LLM_BASE_URL": (
        None,
        [(UPSTREAM, UPSTREAM), ("http://[::1]:11434/v1?a=b", "http://[::1]:11434/v1?a=b")],
        [
            "llm.example/v1",
            "ftp://llm.example",
            "http://",
            f"http://me:{CANARY}@llm.example",
            "http://[::1/v1",
            "http://llm.example:port/v1",
            "http://llm.example:99999/v1",
            "http://llm example/v1",
            "http://llm.example/v1 2",
        ],
    ),
    "LLM_MODEL": (None, [("gpt-4o", "gpt-4o")], []),
    "LLM_KEY_HEADER": ("Authorization", [("api-key", "api-key")], ["api key", "api:key", "clé"]),
    "LLM_HEADERS": (
        {},
        [('{"X-Team": "voice"}', {"X-Team": "voice"}), ("{}", {})],
        [
            "X-Team: voice",
            '["X-Team"]',
            '{"X-Team": 1}',
            '{"X-Team": "a\\nb"}',
            '{"X-Team": "ключ"}',
            '{"X Team": "voice"}',
            '{"X-Team:": "voice"}',
            '{"": "voice"}',
        ],
    ),
    "LLM_DROP_FIELDS": (
        frozenset({"call", "phoneNumber", "customer"}),
        [("a, b ,,", frozenset({"a", "b"})), (",", frozenset())],
        [],
    ),
    "LLM_PROXY": (
        None,
        [(PROXY, PROXY), (f"http://me:{CANARY}@proxy.example:3128", f"http://me:{CANARY}@proxy.example:3128")],
        ["proxy.example:3128", "socks5://proxy.example", f"https://me:{CANARY}@proxy.example", "http://proxy:port"],
    ),
    "LLM_CA_FILE": (None, [], ["/", "/no/such/file"]),  # a file that exists has tests of its own
    "SERVER_API_KEYS": ((), [("k1", ("k1",)), (" k1, k2,", ("k1", "k2"))], [",", " , ,", "a b", "ключ"]),
    "ALLOW_PASS_THROUGH": (False, [("1", True), ("0", False)], ["2", "maybe"]),
    "HOST": (None, [("127.0.0.1", "127.0.0.1"), ("::1", "::1")], []),
    "PORT": (8000, [("1", 1), ("65535", 65535)], ["0", "65536", "http", "8000 8001", "0x50"]),
    "WEB_CONCURRENCY": (1, [("1", 1), ("64", 64)], ["0", "65", "auto", "1.5"]),
    "MAX_CONNECTIONS": (4000, [("10", 10), ("1000000", 1000000)], ["9", "1000001", "many"]),
    "MAX_BODY_KB": (10240, [("1", 1), ("102400", 102400)], ["0", "102401", "10MB"]),
    "CONNECT_S": (3.0, *SECONDS),
    "FIRST_TOKEN_S": (10.0, *SECONDS),
    "STALL_S": (10.0, *SECONDS),
    "TOTAL_S": (300.0, *SECONDS),
    "KEEPALIVE_S": (5.0, [("0", 0.0), ("0.5", 0.5)], ["-1", "86401", "never"]),
    "WRITE_S": (10.0, *SECONDS),
    "THINK": (None, [("pass", "pass"), ("hide", "hide")], ["HIDE", "show"]),
    "ASSISTANT_LAST": ("say", [("say", "say"), ("forward", "forward")], ["ignore"]),
    "FALLBACK": (None, [("Sorry, say that again?", "Sorry, say that again?")], []),
    "KNOWLEDGE_DIR": (None, [(str(Path(__file__).parent), Path(__file__).parent)], ["no-such-folder", __file__]),
    "KNOWLEDGE_INDEX": (None, [("/tmp/index.sqlite", Path("/tmp/index.sqlite"))], ["/no-such-folder/index.sqlite"]),
    "KNOWLEDGE_PLACE": (
        "user",
        [(place, place) for place in ("user", "system_first", "system_before_last")],
        ["system", "USER"],
    ),
    "KNOWLEDGE_BUDGET": (3000, [("200", 200), ("100000", 100000)], ["199", "100001", "many", "1e3.5"]),
    "KNOWLEDGE_PASSAGES": (4, [("1", 1), ("20", 20)], ["0", "21", "x"]),
    "KNOWLEDGE_URL": (None, [("http://127.0.0.1:9380/api/v1/dify", "http://127.0.0.1:9380/api/v1/dify")], ["ragflow"]),
    "KNOWLEDGE_KEY": (None, [("kb-1", "kb-1")], ["two words", "ключ"]),
    "KNOWLEDGE_ID": ("default", [("kb", "kb")], []),
    "KNOWLEDGE_TIMEOUT_MS": (300, [("10", 10), ("10000", 10000)], ["9", "10001", "0.3s"]),
    "KNOWLEDGE_CITE": (False, [("1", True), ("0", False)], ["maybe"]),
    "RAG_WAITING_AFTER_MS": (0, [("-1", -1), ("800", 800), ("60000", 60000)], ["-2", "60001", "soon"]),
    "RAG_WAITING_EN": (
        ("Let me check that for you.", "One moment, please.", "Let me look that up."),
        [("Well, let me see. | Hm.", ("Well, let me see.", "Hm."))],
        ["|", " | "],
    ),
    "RAG_WAITING_ZH": (
        ("好的，我查一下。", "请稍等。", "我来看一下资料。"),
        [("稍等，我看看。", ("稍等，我看看。",))],
        ["|"],
    ),
    "AUDIO_SOURCE": (
        "auto",
        [(source, source) for source in ("auto", "speech", "simulated", "upstream")],  # a recording has a test below
        ["tone", "AUTO"],
    ),
    "AUDIO_TEXT_FILE": (None, [("/no/such/text", Path("/no/such/text"))], []),
    "AUDIO_FILE": (None, [("/no/such/sound.wav", Path("/no/such/sound.wav"))], []),
    "AUDIO_FILE_HZ": (16000, [("4000", 4000), ("192000", 192000)], ["3999", "192001", "16k"]),
    "AUDIO_HZ": (16000, [("8000", 8000), ("48000", 48000)], ["7999", "48001", "16k"]),
    "AUDIO_CHUNK_MS": (40, [("10", 10), ("1000", 1000)], ["9", "1001", "0.04s"]),
    "AUDIO_LEAD_MS": (1000, [("0", 0), ("60000", 60000)], ["-1", "60001", "1s"]),
    "AUDIO_ID": ("once", [("once", "once"), ("every", "every")], ["never", "1"]),
    "AUDIO_EARLY": (24, [("0", 0), ("1000", 1000)], ["-1", "1001", "early"]),
    "AUDIO_UPSTREAM_HZ": (24000, [("4000", 4000), ("192000", 192000)], ["3999", "192001", "24k"]),
    "AUDIO_WAITING_AFTER_MS": (-1, [("-1", -1), ("0", 0), ("60000", 60000)], ["-2", "60001", "soon"]),
    "VOICE": ("auto", [(voice, voice) for voice in ("auto", "espeak", "none")], ["server", "kokoro", "AUTO"]),
    "VOICE_URL": (None, [("http://127.0.0.1:8880/v1", "http://127.0.0.1:8880/v1")], ["kokoro", "ftp://x", "http://"]),
    "VOICE_KEY": (None, [("v-1", "v-1")], ["two words", "ключ"]),
    "VOICE_MODEL": ("tts-1", [("kokoro", "kokoro")], []),
    "VOICE_NAME": ("alloy", [("af_heart", "af_heart")], []),
    "VOICE_HZ": (24000, [("4000", 4000), ("192000", 192000)], ["3999", "192001", "24k"]),
    "VOICE_FIRST_S": (5.0, *SECONDS),
    "VOICE_STALL_S": (5.0, *SECONDS),
    "AGENTS_DIR": (None, [(str(Path(__file__).parent), Path(__file__).parent)], ["no-such-folder", __file__]),
    "TOOLS": (
        frozenset(),
        [("time", frozenset({"time"})), ("time, search,calculate", frozenset({"time", "search", "calculate"}))],
        ["weather", "time,weather", "Time"],
    ),
    "TOOL_DEADLINE_S": (10.0, *SECONDS),
    "TOOL_TEXT": ("pass", [("pass", "pass"), ("hold", "hold")], ["drop", "1"]),
    "TOOL_WAITING_AFTER_MS": (1000, [("-1", -1), ("0", 0), ("60000", 60000)], ["-2", "60001", "soon"]),
    "WAITING_EN": ("One moment, please.", [("Hold on.", "Hold on.")], []),
    "WAITING_ZH": ("请稍等。", [("马上。", "马上。")], []),
    "INTERRUPTION_NOTE": (True, [("0", False), ("1", True)], ["maybe"]),
    "SESSION_HEADER": ("X-Session-Id", [("X-Call", "X-Call")], ["x call", "x:call", "séance"]),
    "SESSION_CHANNEL_FIELD": (None, [("channel", "channel")], ["messages", "model", "session_id"]),
    "REDIS_URL": (
        None,
        [(url, url) for url in ("redis://127.0.0.1:6379/1", "rediss://:p%40@redis.example", "unix:///run/redis.sock")],
        ["redis.example:6379", "http://redis.example", "redis://", "redis://x/one", "redis://x?socket_timeout=9"],
    ),
    "MAX_STREAMS": (1000, [("1", 1), ("1000000", 1000000)], ["0", "1000001", "many"]),
    "HEAD_S": (10.0, *SECONDS),
    "BODY_S": (30.0, *SECONDS),
    "DRAIN_S": (5.0, [("0", 0.0), ("25", 25.0), ("0.5", 0.5)], ["-1", "25.1", "5s"]),
    "METRICS_PORT": (0, [("0", 0), ("1", 1), ("65535", 65535)], ["-1", "65536", "http", "8000"]),
    "METRICS_KEY": (None, [("m-1", "m-1")], ["two words", "ключ"]),
    "CORS_ORIGINS": (
        (),
        [("https://shop.example, http://localhost:3000", ("https://shop.example", "http://localhost:3000"))],
        [",", "shop.example", "*", "https://shop.example/"],
    ),
    "PLAYGROUND": (None, [("1", True), ("0", False)], ["maybe"]),
    "LOG_LEVEL": ("INFO", [("DEBUG", "DEBUG"), ("ERROR", "ERROR")], ["loud"]),
    "LOG_FORMAT": ("plain", [("plain", "plain"), ("json", "json")], ["xml"]),
}


def load(env_file: Path | str = os.devnull, **environ: str) -> Settings:
    """Load the settings from this environment, and from no `.env` unless one is given."""
    return environment.load({"ENV_FILE": str(env_file), **environ})[0]


def warnings(env_file: Path | str = os.devnull, **environ: str) -> list[str]:
    return environment.load({"ENV_FILE": str(env_file), **environ})[1]


def value_of(settings: Settings, name: str) -> Any:
    return getattr(settings, name.lower())


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


class TestEach:
    def test_every_setting_is_in_the_table_of_this_test(self) -> None:
        assert list(TABLE) == [name.upper() for name in Settings.__struct_fields__]

    def test_every_setting_says_in_a_line_what_it_is_for(self) -> None:
        for name, hint in get_type_hints(Settings, include_extras=True).items():
            line = hint.__metadata__[0].description

            assert line.endswith((".", ")", "`")) and "\n" not in line, name

    @pytest.mark.parametrize("name", TABLE)
    def test_the_default_is_used_where_nothing_is_set(self, name: str) -> None:
        assert value_of(load(), name) == TABLE[name][0]

    @pytest.mark.parametrize("empty", ["", "   "])
    @pytest.mark.parametrize("name", TABLE)
    def test_empty_counts_as_unset(self, name: str, empty: str) -> None:
        assert load(**{name: empty}) == load()

    @pytest.mark.parametrize(("name", "text", "value"), [(n, *good) for n, row in TABLE.items() for good in row[1]])
    def test_a_good_value_is_taken(self, name: str, text: str, value: Any) -> None:
        found = value_of(load(**{name: text}), name)

        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(("name", "text"), [(name, bad) for name, row in TABLE.items() for bad in row[2]])
    def test_a_wrong_value_is_refused_with_the_name_and_what_it_must_be(self, name: str, text: str) -> None:
        with pytest.raises(BadSetting) as refused:
            load(**{**OWN, name: text})

        said = str(refused.value)
        assert said.startswith(name)
        assert " must " in said
        assert "\n" not in said

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("LLM_API_KEY", f"{CANARY} {CANARY}"),
            ("SERVER_API_KEYS", f"good,{CANARY}\x00"),
            ("LLM_HEADERS", f'{{"X-Key": "{CANARY}\\n"}}'),
            ("LLM_HEADERS", f'{{"X-Key": ["{CANARY}"]}}'),
            ("LLM_HEADERS", f'{{"X-Key": "{CANARY}"'),
            ("LLM_BASE_URL", f"https://me:{CANARY}@llm.example/v1"),
            ("LLM_BASE_URL", f"https://[me:{CANARY}@llm.example/v1"),
            ("LLM_PROXY", f"ftp://me:{CANARY}@proxy.example"),
            ("LLM_PROXY", f"http://me:{CANARY}@proxy.example:port"),
            ("HTTPS_PROXY", f"socks5://me:{CANARY}@proxy.example"),
            ("PORT", CANARY),
        ],
    )
    def test_a_wrong_value_is_never_repeated(self, name: str, text: str) -> None:
        with pytest.raises(BadSetting) as refused:
            load(**{**OWN, name: text})

        assert CANARY not in f"{refused.value!r}"
        assert refused.value.__suppress_context__ or refused.value.__context__ is None


class TestSources:
    def test_settings_are_read_from_the_env_file(self, tmp_path: Path) -> None:
        file = write(tmp_path / ".env", "# mine", "PORT=9000", 'LLM_MODEL="gpt 5"', "export LOG_FORMAT=json")

        settings = load(file)

        assert (settings.port, settings.llm_model, settings.log_format) == (9000, "gpt 5", "json")

    def test_the_environment_wins_over_the_env_file(self, tmp_path: Path) -> None:
        file = write(tmp_path / ".env", "PORT=9000")

        assert load(file, PORT="9001").port == 9001

    def test_an_empty_variable_does_not_hide_the_env_file(self, tmp_path: Path) -> None:
        file = write(tmp_path / ".env", "PORT=9000")

        assert load(file, PORT="").port == 9000

    def test_a_wrong_value_in_the_env_file_is_refused_like_any(self, tmp_path: Path) -> None:
        with pytest.raises(BadSetting, match=r"^PORT must be"):
            load(write(tmp_path / ".env", "PORT=http"))

    def test_an_env_file_that_is_no_text_is_refused_by_its_name(self, tmp_path: Path) -> None:
        file = tmp_path / "broken.env"
        file.write_bytes(b"PORT=\xff\xfe")

        with pytest.raises(BadSetting, match="broken.env"):
            load(file)

    def test_an_env_file_that_is_named_and_missing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadSetting, match="ENV_FILE"):
            load(tmp_path / "typo.env")

    def test_the_environment_of_the_process_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENV_FILE", os.devnull)
        monkeypatch.setenv("PORT", "9002")

        assert environment.load()[0].port == 9002


class TestWarnings:
    def test_good_settings_bring_no_warning(self) -> None:
        assert warnings(**OWN, PORT="9000", PATH="/bin", HOME="/root") == []

    @pytest.mark.parametrize("name", ["LLM_API_KEY", "SERVER_API_KEYS", "LLM_MODEL"])
    def test_the_placeholder_counts_as_unset_with_a_warning(self, name: str) -> None:
        settings = load(**{name: PLACEHOLDER})

        assert settings == load()
        assert settings.is_demo
        assert warnings(**{name: PLACEHOLDER}) == [f"{name} is still the placeholder and counts as unset"]

    def test_the_placeholder_among_other_keys_opens_nothing(self) -> None:
        assert load(SERVER_API_KEYS=f"{PLACEHOLDER},k2").server_api_keys == ("k2",)

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("LLM_KEY", "LLM_API_KEY"),
            ("LLM_APIKEY", "LLM_API_KEY"),
            ("LLM_BASEURL", "LLM_BASE_URL"),
            ("SERVER_API_KEY", "SERVER_API_KEYS"),
            ("ALLOW_PASSTHROUGH", "ALLOW_PASS_THROUGH"),
        ],
    )
    def test_an_unknown_name_is_pointed_out_with_the_nearest(self, name: str, near: str) -> None:
        assert warnings(**{name: CANARY}) == [f"{name} is no setting; did you mean {near}?"]

    def test_an_unknown_name_that_is_like_none_is_pointed_out_alone(self) -> None:
        assert warnings(LLM_ZZZZZZZZZZ="1") == ["LLM_ZZZZZZZZZZ is no setting"]

    def test_an_unknown_name_in_the_env_file_is_pointed_out(self, tmp_path: Path) -> None:
        file = write(tmp_path / ".env", "LLM_BASE_URI=x")

        assert warnings(file) == ["LLM_BASE_URI is no setting; did you mean LLM_BASE_URL?"]

    @pytest.mark.parametrize("name", ["PATH", "LANG", "OPENAI_API_KEY", "HTTPS_PROXY", "WEB_ROOT"])
    def test_other_programs_variables_are_none_of_our_business(self, name: str) -> None:
        assert warnings(**{name: "http://x"}) == []


class TestUpstream:
    def test_with_neither_key_nor_url_the_demo_answers(self) -> None:
        assert load().is_demo

    def test_a_key_alone_means_openai(self) -> None:
        settings = load(LLM_API_KEY="k")

        assert not settings.is_demo
        assert settings.upstream_url == "https://api.openai.com/v1"

    def test_a_url_names_any_other_upstream_and_keeps_its_query(self) -> None:
        url = "https://me.openai.azure.com/openai/deployments/x?api-version=2024-10-21"

        assert load(LLM_BASE_URL=url).upstream_url == url

    @pytest.mark.parametrize(
        ("environ", "model"),
        [
            ({"LLM_API_KEY": "k"}, "gpt-4o-mini"),
            ({"LLM_BASE_URL": "https://api.openai.com/v1"}, "gpt-4o-mini"),
            ({"LLM_BASE_URL": UPSTREAM}, None),
            ({"LLM_BASE_URL": "https://api.openai.com.evil.example/v1"}, None),
            ({"LLM_BASE_URL": UPSTREAM, "LLM_MODEL": "m"}, "m"),
            ({"LLM_API_KEY": "k", "LLM_MODEL": "m"}, "m"),
        ],
    )
    def test_only_openai_has_a_default_model(self, environ: dict[str, str], model: str | None) -> None:
        assert load(**environ).default_model == model


class TestHost:
    @pytest.mark.parametrize(
        ("environ", "host"),
        [
            ({}, "127.0.0.1"),
            ({"SERVER_API_KEYS": "k"}, "0.0.0.0"),
            ({"LLM_API_KEY": "k"}, "0.0.0.0"),
            ({"LLM_BASE_URL": UPSTREAM}, "127.0.0.1"),
            ({"LLM_BASE_URL": UPSTREAM, "ALLOW_PASS_THROUGH": "1"}, "127.0.0.1"),
            ({"LLM_BASE_URL": UPSTREAM, "SERVER_API_KEYS": "k"}, "0.0.0.0"),
            ({"LLM_API_KEY": "k", "HOST": "127.0.0.1"}, "127.0.0.1"),
            ({"HOST": "0.0.0.0"}, "0.0.0.0"),
        ],
    )
    def test_others_reach_the_server_by_default_only_where_a_key_is_checked(
        self, environ: dict[str, str], host: str
    ) -> None:
        assert load(**environ).listens_on == host

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "llm.example", "127.0.0.1.example"])
    def test_pass_through_that_others_reach_must_be_allowed(self, host: str) -> None:
        with pytest.raises(BadSetting, match="ALLOW_PASS_THROUGH"):
            load(LLM_BASE_URL=UPSTREAM, HOST=host)

        assert load(LLM_BASE_URL=UPSTREAM, HOST=host, ALLOW_PASS_THROUGH="1").is_pass_through
        assert not load(LLM_BASE_URL=UPSTREAM, HOST=host, SERVER_API_KEYS="k").is_pass_through

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
    def test_pass_through_that_this_machine_alone_reaches_is_allowed(self, host: str) -> None:
        assert load(LLM_BASE_URL=UPSTREAM, HOST=host).is_pass_through


class TestSound:
    def test_a_recording_is_two_files_that_can_be_read(self) -> None:
        files = {"AUDIO_FILE": str(BUNDLED_AUDIO), "AUDIO_TEXT_FILE": str(BUNDLED_TEXT)}

        settings = load(AUDIO_SOURCE="recording", **files)

        assert (settings.audio_file, settings.audio_text_file) == (BUNDLED_AUDIO, BUNDLED_TEXT)
        with pytest.raises(BadSetting, match="^AUDIO_FILE and AUDIO_TEXT_FILE must be set"):
            load(AUDIO_SOURCE="recording")
        with pytest.raises(BadSetting, match="AUDIO_FILE and AUDIO_TEXT_FILE must be a recording"):
            load(**{**files, "AUDIO_TEXT_FILE": str(BUNDLED_AUDIO)})

    def test_a_recording_that_is_not_there_is_simulated_with_a_warning(self) -> None:
        files = {"AUDIO_FILE": "/no/such/hello.wav", "AUDIO_TEXT_FILE": str(BUNDLED_TEXT)}

        assert warnings(**files) == ["hello.wav can't be found: /audio plays simulated sound"]
        with pytest.raises(BadSetting, match="hello.wav"):
            load(AUDIO_SOURCE="recording", **files)

    def test_a_server_that_speaks_has_an_address(self) -> None:
        assert load(VOICE="server", VOICE_URL=UPSTREAM).voice == "server"
        with pytest.raises(BadSetting, match="^VOICE_URL must be set"):
            load(VOICE="server")

    def test_speech_needs_a_voice(self) -> None:
        with pytest.raises(BadSetting, match="^VOICE must be"):
            load(AUDIO_SOURCE="speech", VOICE="none")


class TestProxy:
    @pytest.mark.parametrize(
        ("url", "environ", "proxy"),
        [
            (UPSTREAM, {}, None),
            (UPSTREAM, {"HTTPS_PROXY": PROXY}, PROXY),
            (UPSTREAM, {"https_proxy": PROXY}, PROXY),
            (UPSTREAM, {"HTTP_PROXY": PROXY}, None),
            ("http://llm.example/v1", {"HTTP_PROXY": PROXY}, PROXY),
            ("http://llm.example/v1", {"http_proxy": PROXY}, PROXY),
            ("http://llm.example/v1", {"HTTPS_PROXY": PROXY}, None),
            (UPSTREAM, {"HTTPS_PROXY": "http://other:1", "LLM_PROXY": PROXY}, PROXY),
            (UPSTREAM, {"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}, PROXY),
            (UPSTREAM, {"HTTPS_PROXY": ""}, None),
        ],
    )
    def test_the_proxy_is_the_one_for_the_upstreams_scheme(
        self, url: str, environ: dict[str, str], proxy: str | None
    ) -> None:
        assert load(LLM_BASE_URL=url, **environ).llm_proxy == proxy

    @pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
    @pytest.mark.parametrize(
        ("host", "exceptions"),
        [
            ("llm.example", "llm.example"),
            ("llm.example", "example"),
            ("llm.example", ".example"),
            ("llm.example", "a.b, LLM.Example ,c.d"),
            ("llm.example", "*"),
            ("llm.example:8080", "llm.example:8080"),
            ("127.0.0.1:11434", "localhost,127.0.0.1"),
            ("10.1.2.3", "10.0.0.0/8"),
            ("[::1]:11434", "::1"),
        ],
    )
    def test_no_proxy_excepts_a_host(self, name: str, host: str, exceptions: str) -> None:
        environ = {"LLM_BASE_URL": f"http://{host}/v1", "HTTP_PROXY": PROXY, name: exceptions}

        assert load(**environ).llm_proxy is None

    @pytest.mark.parametrize(
        "exceptions", ["other.example", "lm.example", "llm.example.org", "ample", ",", "10.0.0.0/8"]
    )
    def test_no_proxy_excepts_no_other_host(self, exceptions: str) -> None:
        environ = {"LLM_BASE_URL": UPSTREAM, "HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}

        assert load(**environ).llm_proxy == PROXY

    def test_a_proxy_that_the_demo_does_not_use_does_not_stop_it(self) -> None:
        assert load(HTTPS_PROXY="socks5://proxy.example").is_demo


class TestCertificates:
    @pytest.fixture
    def pem(self) -> str:
        return certifi.where()

    @pytest.mark.parametrize("name", ["LLM_CA_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_the_ca_file_has_two_fallbacks(self, name: str, pem: str) -> None:
        assert load(**OWN, **{name: pem}).llm_ca_file == Path(pem)

    def test_the_ca_file_is_the_first_that_is_named(self, pem: str, tmp_path: Path) -> None:
        other = write(tmp_path / "other.pem", Path(pem).read_text())

        assert load(**OWN, LLM_CA_FILE=pem, REQUESTS_CA_BUNDLE=str(other)).llm_ca_file == Path(pem)
        assert load(**OWN, REQUESTS_CA_BUNDLE=pem, SSL_CERT_FILE=str(other)).llm_ca_file == Path(pem)

    @pytest.mark.parametrize("name", ["LLM_CA_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_a_file_without_certificates_is_refused(self, name: str, tmp_path: Path) -> None:
        file = write(tmp_path / "ca.pem", "no certificate")

        with pytest.raises(BadSetting, match=name):
            load(**OWN, **{name: str(file)})

    def test_certificates_that_the_demo_does_not_use_do_not_stop_it(self) -> None:
        assert load(SSL_CERT_FILE="/no/such/file").is_demo
