"""The table of contents: who gets what."""

from flask import Flask

from blueprints import chat, gate, models, rag, status
from environment import announce, load_or_exit
from knowledge.commands import Look, knowledge_commands
from knowledge.grounding import reference
from knowledge.lookup import Lookup
from knowledge.phrases import Phrases
from knowledge.remote import RetrievalService
from knowledge.source import BUNDLED, Documents, Knowledge, private_index
from settings import Settings
from turns.record import configure_logging
from turns.turn import Model, Service
from upstream.call import Limits
from upstream.client import Upstream
from upstream.demo.model import DemoModel


def create_app(settings: Settings | None = None, *, indexes: bool = True) -> Flask:
    """Build the server from its settings, or from those of the environment.

    With `indexes` it keeps the index of its documents itself: under gunicorn the arbiter does, for all workers.
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
    app.extensions["service"] = Service(
        upstream=_model(settings),
        think=settings.think,
        assistant_last=settings.assistant_last,
        fallback=settings.fallback,
        total_s=settings.total_s,
        keepalive_s=settings.keepalive_s,
        write_s=settings.write_s,
        drop_fields=settings.llm_drop_fields,
        library=library,
    )
    gate.guard(app, gate.Access(settings.caller_keys, settings.is_pass_through, settings.allow_pass_through))
    app.register_blueprint(chat.bp)
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
    app.register_blueprint(models.bp)
    app.register_blueprint(status.bp)
    app.register_blueprint(status.health_bp)
    return app


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


if __name__ == "__main__":
    # a plain development server: this machine only, and no debugger, whatever FLASK_DEBUG says
    loaded, warned = load_or_exit()
    announce(loaded, warned)
    create_app(loaded).run("127.0.0.1", loaded.port, debug=False)
