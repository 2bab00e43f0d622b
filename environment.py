"""Read and check the settings, from the environment and `.env`.

The environment wins over the file, and empty counts as unset.
"""

import difflib
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import SplitResult, urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta
from requests.utils import should_bypass_proxies

from audio.espeak_library import EspeakUnavailable, library
from audio.recording import BadRecording, read_recording
from protocol.address import is_loopback, is_origin
from settings import Settings
from settings.meaning import HEADER_NAME
from turns.redis_connections import check_redis_url
from turns.session_keys import SessionKeys

ROOT = Path(__file__).resolve().parent
PLACEHOLDER = "your-api-key-here"
_ROOMS = "LLM SERVER ALLOW KNOWLEDGE RAG AUDIO VOICE AGENTS TOOL TOOLS SESSION METRICS CORS"
_PREFIXES = tuple(f"{room}_" for room in _ROOMS.split())
_OUR_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type"})


class BadSetting(ValueError):
    """Say which setting is wrong and what it must be, never what it was."""


def load(environ: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    """Return the settings, and warnings about what was passed over; raise BadSetting.

    `.env` lies beside this file; ENV_FILE in the environment names another.
    """
    environ = os.environ if environ is None else environ
    given = _from_file(environ.get("ENV_FILE", "")) | {key: value for key, value in environ.items() if value.strip()}
    warnings = []
    found = {}
    for name, kind in get_type_hints(Settings, include_extras=True).items():
        value = given.get(name.upper(), "").strip()
        if PLACEHOLDER in value:
            warnings.append(f"{name.upper()} is still the placeholder and counts as unset")
            value = value.replace(PLACEHOLDER, "")
        if value:
            found[name] = _read(name.upper(), kind, value)
    settings = Settings(**found)
    if not settings.is_demo:
        settings = _with_well_known(settings, given)
        _check_upstream(settings)
    _check_callers(settings)
    _check_knowledge(settings)
    _check_abilities(settings)
    return settings, warnings + _check_sound(settings) + _unknown(given)


def load_or_exit() -> tuple[Settings, list[str]]:
    """Return the settings of a server that starts, and warnings; exit with one line if they are wrong."""
    try:
        return load()
    except BadSetting as wrong:
        sys.exit(f"custom-llm-server: {wrong}")


def announce(settings: Settings, warnings: list[str]) -> None:
    """Say what will be served, and to whom."""
    for line in [*warnings, settings.summary]:
        print(f"custom-llm-server: {line}", file=sys.stderr)


def _from_file(name: str) -> dict[str, str]:
    path = Path(name) if name else ROOT / ".env"
    if name and not path.exists():
        raise BadSetting("ENV_FILE must be a file that exists")
    try:
        return {key: value for key, value in dotenv_values(path).items() if value and value.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path.name} can't be read: {type(error).__name__}") from None


def _read(name: str, kind: Any, value: str) -> Any:
    meta: Meta = kind.__metadata__[0]
    plain = kind.__origin__
    wrong = BadSetting(f"{name} must be {(meta.extra or {})['must']}")
    try:
        if plain in (tuple[str, ...], frozenset[str]):
            separator = "|" if "|" in str((meta.extra or {})["must"]) else ","
            parts = [part.strip() for part in value.split(separator) if part.strip()]
            if not parts and plain == tuple[str, ...]:
                raise wrong  # keys were meant, and there are none: that must not open the server to all
            return plain(parts)
        if plain == dict[str, str]:
            return msgspec.json.decode(value, type=dict[str, str])
        if plain == Path | None:
            return Path(value)
        return msgspec.convert(value, kind, strict=False)
    except msgspec.MsgspecError:
        raise wrong from None


def _with_well_known(settings: Settings, given: Mapping[str, str]) -> Settings:
    """Fill in what other programs' variables say of proxies and certificates."""
    changes: dict[str, Any] = {}
    url = _url("LLM_BASE_URL", settings.upstream_url)
    if not settings.llm_proxy and not should_bypass_proxies(settings.upstream_url, _either(given, "no_proxy") or ""):
        changes["llm_proxy"] = _either(given, f"{url.scheme}_proxy")
    if not settings.llm_ca_file and (found := given.get("REQUESTS_CA_BUNDLE") or given.get("SSL_CERT_FILE")):
        changes["llm_ca_file"] = Path(found)
    return msgspec.structs.replace(settings, **changes)


def _either(given: Mapping[str, str], name: str) -> str | None:
    return given.get(name) or given.get(name.upper())


def _url(name: str, value: str, schemes: tuple[str, ...] = ("http", "https")) -> SplitResult:
    """Return the parts of a URL; raise BadSetting."""
    try:
        url = urlsplit(value)
        is_whole = url.scheme in schemes and url.hostname and url.port != 0 and value.isprintable()
        if is_whole and " " not in value:
            return url
    except ValueError:
        pass
    raise BadSetting(f"{name} must be an {' or '.join(f'{scheme}://' for scheme in schemes)} URL")


def _check_upstream(settings: Settings) -> None:
    if _url("LLM_BASE_URL", settings.upstream_url).username is not None:
        raise BadSetting("LLM_BASE_URL must be without a name or password; the key belongs into LLM_API_KEY")
    if settings.llm_proxy:
        _url("LLM_PROXY (or HTTPS_PROXY, HTTP_PROXY)", settings.llm_proxy, ("http",))
    for name, value in settings.llm_headers.items():
        if not re.fullmatch(HEADER_NAME, name) or name.lower() in _OUR_HEADERS or not _is_printable(value):
            raise BadSetting("LLM_HEADERS must hold names and values of headers, none of them Host or Content-Length")
    if settings.llm_ca_file:
        try:
            ssl.create_default_context(cafile=settings.llm_ca_file)
        except OSError:
            raise BadSetting(
                "LLM_CA_FILE (or REQUESTS_CA_BUNDLE, SSL_CERT_FILE) must be a file with certificates (PEM)"
            ) from None


def _check_callers(settings: Settings) -> None:
    for name, keys in {
        "LLM_API_KEY": [settings.llm_api_key or ""],
        "SERVER_API_KEYS": settings.server_api_keys,
        "KNOWLEDGE_KEY": [settings.knowledge_key or ""],
        "VOICE_KEY": [settings.voice_key or ""],
        "METRICS_KEY": [settings.metrics_key or ""],
    }.items():
        if not all(_is_printable(key) and " " not in key for key in keys):
            raise BadSetting(f"{name} must hold printable ASCII characters only, and no blanks")
    if settings.is_pass_through and not is_loopback(settings.listens_on) and not settings.allow_pass_through:
        raise BadSetting(
            "HOST lets others reach this server, which checks no key of its own: set LLM_API_KEY or SERVER_API_KEYS, "
            "or ALLOW_PASS_THROUGH=1"
        )


def _check_knowledge(settings: Settings) -> None:
    if settings.knowledge_url:
        _url("KNOWLEDGE_URL", settings.knowledge_url)
    elif settings.knowledge_dir and not settings.knowledge_dir.is_dir():
        raise BadSetting("KNOWLEDGE_DIR must be a folder that exists")
    if settings.knowledge_index and not settings.knowledge_index.absolute().parent.is_dir():
        raise BadSetting("KNOWLEDGE_INDEX must be a file's path in a folder that exists")


def _check_abilities(settings: Settings) -> None:
    if settings.agents_dir and not settings.agents_dir.is_dir():
        raise BadSetting("AGENTS_DIR must be a folder that exists")
    try:
        SessionKeys(settings.session_header, settings.session_channel_field)
    except ValueError:
        raise BadSetting("SESSION_CHANNEL_FIELD must be a field that names a channel, and nothing else") from None
    if settings.redis_url:
        try:
            check_redis_url(settings.redis_url)
        except ValueError as wrong:
            raise BadSetting(f"REDIS_URL {wrong}") from None
    if settings.metrics_port == settings.port:
        raise BadSetting("METRICS_PORT must be another port than PORT")
    if not all(map(is_origin, settings.cors_origins)):
        raise BadSetting("CORS_ORIGINS must be a list of origins such as https://shop.example, separated by commas")
    if not settings.tools <= {"time", "calculate", "search"}:
        raise BadSetting("TOOLS must be a list of time, calculate and search, separated by commas")


def _check_sound(settings: Settings) -> list[str]:
    """Refuse what would be noise or silence on a call, and return warnings."""
    if settings.voice_url:
        _url("VOICE_URL", settings.voice_url)
    elif settings.voice == "server":
        raise BadSetting("VOICE_URL must be set where VOICE is server")
    warnings = []
    has_voice = settings.voice != "none"
    if has_voice and not (settings.voice_url and settings.voice != "espeak"):
        try:
            library()
        except EspeakUnavailable as missing:
            if settings.voice == "espeak" or settings.audio_source == "speech":
                raise BadSetting(f"VOICE must be one that is there: {missing}") from None
            has_voice = False
            warnings.append(f"nothing is spoken: {missing}")
    if settings.audio_source == "speech" and not has_voice:
        raise BadSetting("VOICE must be espeak or server where AUDIO_SOURCE is speech")
    files = [settings.audio_file, settings.audio_text_file]
    if settings.audio_source == "recording" and not all(files):
        raise BadSetting("AUDIO_FILE and AUDIO_TEXT_FILE must be set where AUDIO_SOURCE is recording")
    if settings.audio_source in ("auto", "recording") and settings.audio_file and settings.audio_text_file:
        missing_files = [file.name for file in files if file and not file.is_file()]
        if missing_files and settings.audio_source == "auto":
            warnings.append(f"{' and '.join(missing_files)} can't be found: /audio plays simulated sound")
        else:
            try:
                read_recording(settings.audio_file, settings.audio_text_file, settings.audio_file_hz, settings.audio_hz)
            except BadRecording as wrong:
                raise BadSetting(f"AUDIO_FILE and AUDIO_TEXT_FILE must be a recording: {wrong}") from None
    return warnings


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _unknown(given: Mapping[str, str]) -> list[str]:
    known = [name.upper() for name in Settings.__struct_fields__]
    warnings = []
    for name in given:
        if name.startswith(_PREFIXES) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            warnings.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return warnings
