"""The table of contents: who gets what."""

from flask import Flask

from blueprints import chat, gate, models, status
from environment import announce, load_or_exit
from settings import Settings
from turns.record import configure_logging
from turns.turn import Model, Service
from upstream.call import Limits
from upstream.client import Upstream
from upstream.demo.model import DemoModel


def create_app(settings: Settings | None = None) -> Flask:
    """Build the server from its settings, or from those of the environment."""
    if settings is None:
        settings, warnings = load_or_exit()
        announce(settings, warnings)
    configure_logging(settings.log_level, settings.log_format == "json")
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a redirect would lose the request
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's default provider
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_kb * 1024
    app.config["CALLER_NEEDS_KEY"] = not settings.is_demo or bool(settings.server_api_keys)
    app.extensions["service"] = Service(
        upstream=_model(settings),
        think=settings.think,
        assistant_last=settings.assistant_last,
        fallback=settings.fallback,
        total_s=settings.total_s,
        keepalive_s=settings.keepalive_s,
        write_s=settings.write_s,
        drop_fields=settings.llm_drop_fields,
    )
    gate.guard(app, gate.Access(settings.caller_keys, settings.is_pass_through, settings.allow_pass_through))
    app.register_blueprint(chat.bp)
    app.register_blueprint(models.bp)
    app.register_blueprint(status.bp)
    app.register_blueprint(status.health_bp)
    return app


def _model(settings: Settings) -> Model:
    if settings.is_demo:
        return DemoModel()
    proxy = settings.llm_proxy
    return Upstream(
        settings.upstream_url,
        key=settings.llm_api_key,
        key_header=settings.llm_key_header,
        headers=settings.llm_headers,
        model=settings.default_model,
        limits=Limits(settings.connect_s, settings.first_token_s, settings.stall_s, settings.total_s),
        proxies={"http": proxy, "https": proxy} if proxy else {},
        ca_file=str(settings.llm_ca_file) if settings.llm_ca_file else None,
    )


if __name__ == "__main__":
    # a plain development server: this machine only, and no debugger, whatever FLASK_DEBUG says
    loaded, warned = load_or_exit()
    announce(loaded, warned)
    create_app(loaded).run("127.0.0.1", loaded.port, debug=False)
