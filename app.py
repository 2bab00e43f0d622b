"""The table of contents: who gets what."""

import atexit
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask

from agents.bundled import calculate, current_time, search_tool
from agents.loading import BadAgent, load_agents
from audio.espeak import EspeakVoice
from audio.espeak_library import EspeakUnavailable
from audio.recording import BUNDLED_AUDIO, BUNDLED_TEXT, Recording, read_recording
from audio.sounding import Sounding, Source
from audio.speech import Speech
from audio.speech_server import SpeechServer
from audio.track import Form
from audio.voice import Voice
from blueprints import agents, audio, chat, completions, gate, metrics, models, openapi, playground, rag, status
from doctor.command import command as doctor
from environment import announce, load_or_exit
from knowledge.commands import Look, knowledge_commands
from knowledge.grounding import reference
from knowledge.lookup import Lookup
from knowledge.phrases import Phrases
from knowledge.remote import RetrievalService
from knowledge.source import BUNDLED, Documents, Knowledge, private_index
from protocol.address import is_loopback
from protocol.language import Language
from settings import Settings
from turns.record import configure_logging
from turns.session_keys import SessionKeys
from turns.sessions import Sessions
from turns.shared_sessions import SharedSessions
from turns.streams import Streams
from turns.tools import ToolRules
from turns.turn import Model, Service
from upstream.call import Limits
from upstream.client import Upstream
from upstream.demo.model import DemoModel

if TYPE_CHECKING:
    from turns.metrics import Metrics

EXAMPLES = Path(__file__).parent / "examples" / "agents"
"""The agents that come with the demo, so that everything can be tried on one's own machine before anything is set."""


def main() -> None:
    """Serve, with a plain development server: this machine only, and no debugger, whatever FLASK_DEBUG says."""
    settings, warnings = load_or_exit()
    announce(settings, warnings)
    create_app(settings).run("127.0.0.1", settings.port, debug=False)


def create_app(settings: Settings | None = None, *, indexes: bool = True) -> Flask:
    """Build the server from its settings, or from those of the environment.

    With `indexes` it keeps the index of its documents, and serves METRICS_PORT, itself: under gunicorn that is done for
    all workers.
    """
    if settings is None:
        settings, warnings = load_or_exit()
        announce(settings, warnings)
    configure_logging(settings.log_level, settings.log_format == "json")
    app = gate.GatedFlask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a redirect would lose the request
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's default provider
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_kb * 1024
    app.config["CALLER_NEEDS_KEY"] = not settings.is_demo or bool(settings.server_api_keys)
    known = None if settings.is_pass_through else _knowledge(settings, indexes)
    library = Lookup(known, settings.knowledge_passages) if known else None
    tools = {"time": current_time, "calculate": calculate} | ({"search": search_tool(library.told)} if library else {})
    keys = SessionKeys(
        settings.session_header, settings.session_channel_field, secret=(settings.llm_api_key or "").encode()
    )
    app.extensions["service"] = Service(
        upstream=_model(settings),
        think=settings.think,
        assistant_last=settings.assistant_last,
        fallback=settings.fallback,
        first_token_s=settings.first_token_s,
        stall_s=settings.stall_s,
        total_s=settings.total_s,
        keepalive_s=settings.keepalive_s,
        write_s=settings.write_s,
        drop_fields=settings.llm_drop_fields | keys.fields,
        library=library,
        tools=[tools[name] for name in sorted(settings.tools & tools.keys())],
        tool_rules=_tool_rules(settings),
        traces=settings.has_playground,
        notes_interruptions=settings.interruption_note,
        repeats_audio_id=settings.audio_id == "every",
    )
    app.extensions["metrics"] = counts = _metrics(settings)
    app.extensions["streams"] = Streams(settings.max_streams, counts.note_open if counts else None)
    app.extensions["session_keys"] = keys
    app.extensions["sessions"] = sessions = _sessions(settings)
    atexit.register(sessions.close)
    access = gate.Access(settings.caller_keys, settings.is_pass_through, settings.allow_pass_through)
    gate.guard(app, access, gate.Origins(frozenset(settings.cors_origins)), counts.count if counts else None)
    app.after_request(completions.leave)  # it runs first of these, so that nothing keeps a turn from being counted out
    if counts and settings.metrics_key:
        app.register_blueprint(metrics.blueprint(counts, settings.metrics_key))
    if counts and settings.metrics_port and indexes:
        metrics.serve_with(app, counts, settings.metrics_port)
    app.register_blueprint(chat.bp)
    app.extensions["sounding"] = sounding = _sounding(settings)
    app.register_blueprint(audio.blueprint(sounding))
    if known and library:
        app.extensions["knowledge"] = known
        app.register_blueprint(rag.blueprint(_rag(settings, library)))
        look = Look(
            known,
            settings.knowledge_index,
            settings.knowledge_passages,
            settings.knowledge_budget,
            settings.knowledge_place,
        )
        app.cli.add_command(knowledge_commands(look))
    shows_examples = settings.is_demo and is_loopback(settings.listens_on)
    if agents_dir := settings.agents_dir or (EXAMPLES if shows_examples else None):
        app.extensions["agents_dir"] = agents_dir
        for name, agent in load_agents(agents_dir, agents.RESERVED).items():
            app.register_blueprint(agents.blueprint(name, agent))
    app.cli.add_command(doctor)
    app.register_blueprint(models.bp)
    if settings.has_playground:
        page = playground.blueprint(status.WHAT, model=settings.default_model, trace=True, audio_hz=settings.audio_hz)
        app.register_blueprint(page)
    app.register_blueprint(openapi.blueprint())
    app.register_blueprint(status.bp)
    app.register_blueprint(status.health_bp)
    if counts:
        counts.begin({rule.rule for rule in app.url_map.iter_rules()} | gate.NO_ENDPOINTS)
    return app


def _metrics(settings: Settings) -> "Metrics | None":
    if not settings.has_metrics:
        return None
    from turns.metrics import Metrics  # which costs memory, and time at the start

    return Metrics(Path(folder) if (folder := os.environ.get("COUNTS_FOLDER")) else None)


def _model(settings: Settings) -> Model:
    if settings.is_demo:
        return DemoModel(reference)
    proxy = settings.llm_proxy
    return Upstream(
        settings.upstream_url,
        key=settings.llm_api_key,
        key_header=settings.llm_key_header,
        headers=settings.llm_headers,
        model=settings.default_model,
        limits=Limits(settings.connect_s, settings.first_token_s, settings.stall_s),
        proxies={"http": proxy, "https": proxy} if proxy else {},
        ca_file=str(settings.llm_ca_file) if settings.llm_ca_file else None,
    )


def _knowledge(settings: Settings, indexes: bool) -> Knowledge:
    if settings.knowledge_url:
        ca_file = str(settings.llm_ca_file) if settings.llm_ca_file else None
        timeout_s = settings.knowledge_timeout_ms / 1000
        return RetrievalService(
            settings.knowledge_url, settings.knowledge_id, settings.knowledge_key, timeout_s, ca_file
        )
    index = settings.knowledge_index or private_index()
    return Documents(settings.knowledge_dir or BUNDLED, index, indexes=indexes)


def _rag(settings: Settings, library: Lookup) -> rag.Rag:
    after_ms = settings.rag_waiting_after_ms
    return rag.Rag(
        library,
        Phrases({"en": settings.rag_waiting_en, "zh": settings.rag_waiting_zh}),
        budget=settings.knowledge_budget,
        place=settings.knowledge_place,
        waits_after_s=None if after_ms < 0 else after_ms / 1000,
        cites=settings.knowledge_cite,
    )


def _sessions(settings: Settings) -> Sessions | SharedSessions:
    expiry_s = settings.total_s + 60
    return SharedSessions(settings.redis_url, expiry_s=expiry_s) if settings.redis_url else Sessions(expiry_s=expiry_s)


def _sounding(settings: Settings) -> Sounding:
    form = Form(
        settings.audio_hz, settings.audio_chunk_ms, settings.audio_lead_ms, repeats_id=settings.audio_id == "every"
    )
    voice = _voice(settings)
    source, recording = _source(settings, voice)
    after_ms = settings.audio_waiting_after_ms
    return Sounding(
        Speech(voice, form, settings.audio_early),
        source,
        recording,
        upstream_hz=settings.audio_upstream_hz,
        waits_after_ms=None if after_ms < 0 else after_ms,
        phrases=_phrases(settings),
    )


def _phrases(settings: Settings) -> dict[Language, str]:
    return {"en": settings.waiting_en, "zh": settings.waiting_zh}


def _tool_rules(settings: Settings) -> ToolRules:
    after_ms = settings.tool_waiting_after_ms
    return ToolRules(
        deadline_s=settings.tool_deadline_s,
        holds_text=settings.tool_text == "hold",
        waits_after_ms=None if after_ms < 0 else after_ms,
        phrases=_phrases(settings),
    )


def _voice(settings: Settings) -> Voice | None:
    if settings.voice == "none":
        return None
    if settings.voice_url and settings.voice != "espeak":
        return SpeechServer(
            settings.voice_url,
            model=settings.voice_model,
            voice=settings.voice_name,
            key=settings.voice_key,
            rate=settings.voice_hz,
            first_s=settings.voice_first_s,
            stall_s=settings.voice_stall_s,
            ca_file=str(settings.llm_ca_file) if settings.llm_ca_file else None,
        )
    try:
        return EspeakVoice()
    except EspeakUnavailable:
        return None  # the settings were checked: it is not needed, and the start has said so


def _source(settings: Settings, voice: Voice | None) -> tuple[Source, Recording | None]:
    """Choose what /audio plays, and read the recording if it is that."""
    source = settings.audio_source
    audio_file, text_file = settings.audio_file, settings.audio_text_file
    if source == "auto":
        if audio_file and text_file:
            source = "recording" if audio_file.is_file() and text_file.is_file() else "simulated"
        elif voice:
            source = "speech"
        else:
            source, audio_file, text_file = "recording", BUNDLED_AUDIO, BUNDLED_TEXT
    if source == "recording" and audio_file and text_file:
        return source, read_recording(audio_file, text_file, settings.audio_file_hz, settings.audio_hz)
    return source, None


if __name__ == "__main__":
    try:
        main()
    except BadAgent as bad:
        sys.exit(f"custom-llm-server: {bad}")
