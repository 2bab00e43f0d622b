"""`/`, `/health`, `/ready`: what this is, and whether it works."""

from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from knowledge.source import Knowledge
from turns.streams import Streams
from turns.turn import Service

health_bp = Blueprint("health", __name__)
bp = Blueprint("status", __name__)

WHAT = {
    "/chat/completions": "the language model, relayed",
    "/rag/chat/completions": "the language model, told what the documents say",
    "/audio/chat/completions": "the language model, spoken, or a recording",
    "/playground": "a page to talk to all of them",
    "/docs": "a page that describes them",
    "/openapi.json": "the same for machines",
    "/models": "the models that can be asked",
    "/health": "alive",
    "/ready": "can serve",
}


def _agents(served: set[str]) -> list[tuple[str, str]]:
    """Return the paths of customers' agents."""
    names = [path.split("/")[1] for path in served if path.count("/") == 3 and path.endswith("/chat/completions")]
    paths = [f"/{name}/chat/completions" for name in sorted(names) if name != "v1"]
    return [(path, "an agent") for path in paths if path not in WHAT]


@health_bp.get("/health")
def health() -> Response:
    """Say that this process is alive."""
    return jsonify(status="ok")


@bp.get("/ready")
def ready() -> Response:
    """Say that this worker can serve; how the upstream and the knowledge did is told, but does not decide.

    One that is about to end can't: 503, so that a balancer sends callers elsewhere.
    """
    service: Service = current_app.extensions["service"]
    streams: Streams = current_app.extensions["streams"]
    if streams.is_draining:
        return Response('{"status":"draining"}\n', 503, mimetype="application/json")
    told = {"status": "ready", "upstream": service.upstream.state}
    knowledge: Knowledge | None = current_app.extensions.get("knowledge")
    return jsonify(told | ({"knowledge_failures": knowledge.failures} if knowledge else {}))


@bp.get("/")
def index() -> Response:
    """Say what this is, which endpoints there are, and how to try them."""
    service: Service = current_app.extensions["service"]
    served = {rule.rule for rule in current_app.url_map.iter_rules()}
    key = "" if not current_app.config["CALLER_NEEDS_KEY"] else "-H 'Authorization: Bearer '\"$KEY\" "
    said: dict[str, Any] = {
        "name": "custom-llm-server",
        "what": "A custom LLM server for voice agents: OpenAI's chat completions, streamed.",
        "endpoints": {path: what for path, what in [*WHAT.items(), *_agents(served)] if path in served},
        "try": f"curl -N {key}-H 'Content-Type: application/json' "
        '-d \'{"stream":true,"messages":[{"role":"user","content":"Hello!"}]}\' '
        f"{request.host_url}chat/completions",
    }
    if service.upstream.is_demo:
        said["demo"] = "The built-in demo model answers. Set LLM_API_KEY or LLM_BASE_URL for a real one."
    return jsonify(said)
