"""`/models`: what can be asked."""

import time

from flask import Blueprint, Response, current_app, g, request

from turns.caller import caller_of
from turns.turn import Service
from upstream.call import Call

bp = Blueprint("models", __name__)

_WAIT_S = 10.0


@bp.get("/models")
@bp.get("/v1/models")
def models() -> Response:
    """Return the upstream's own list."""
    service: Service = current_app.extensions["service"]
    g.caller = caller_of(request.environ, service.write_s)
    call = Call(g.caller, time.monotonic() + min(_WAIT_S, service.total_s), stream=False, key=g.key)
    return Response(service.upstream.models(call), mimetype="application/json")
