"""`/metrics`: the counts that Prometheus reads, for whoever has the key to them."""

import hmac
import logging
from threading import Lock
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response

from blueprints.gate import bearer
from protocol.errors import Unauthorized

if TYPE_CHECKING:
    from turns.metrics import Metrics

log = logging.getLogger("custom_llm")


def blueprint(metrics: "Metrics", key: str) -> Blueprint:
    """Return the blueprint."""
    bp = Blueprint("metrics", __name__)

    @bp.get("/metrics")
    def page() -> Response:
        if not hmac.compare_digest(bearer().encode(), key.encode()):
            raise Unauthorized(
                "The key is missing or wrong: send `Authorization: Bearer <key>`.", code="invalid_api_key"
            )
        return Response(metrics.page(), content_type=metrics.content_type)

    return bp


def serve_with(app: Flask, metrics: "Metrics", port: int) -> None:
    """Serve the counts on a port of their own from this app's first request on.

    That is for servers of one process; `flask`'s other commands make an app too, and leave the port alone.
    """
    first = Lock()

    @app.before_request
    def serve() -> None:
        if first.acquire(blocking=False):
            try:
                metrics.serve(port)
            except OSError as error:
                log.error("METRICS_PORT can't be listened on (%s)", error.strerror)
