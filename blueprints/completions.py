"""The endpoints that answer a turn: each is a blueprint around a function `answer(turn)`."""

from collections.abc import Callable
from math import inf

from flask import Blueprint, Response, current_app, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from protocol.chunks import Answer
from protocol.errors import BadRequest
from protocol.request import read_request
from turns.caller import caller_of
from turns.failing import or_say
from turns.respond import respond
from turns.turn import Service, Turn, answered


def endpoint(name: str, path: str, answer: Callable[[Turn], Answer], *, hides_thinking: bool = True) -> Blueprint:
    """Return the blueprint that serves `answer` at this path, with and without `/v1`."""
    bp = Blueprint(name, __name__)

    def complete() -> Response:
        turn = open_turn(hides_thinking)
        return respond(turn, written(turn, answer))

    prefix = path.removesuffix("/chat/completions")
    for rule in dict.fromkeys([path, f"/v1{path}", f"{prefix}/v1/chat/completions"]):
        bp.add_url_rule(rule, endpoint="complete", view_func=complete, methods=["POST"])
    return bp


def written(turn: Turn, answer: Callable[[Turn], Answer]) -> Answer:
    """Return all that a turn says in writing: the answer, or what is set to be said where it fails."""
    pieces = answered(turn, answer)
    fallback = turn.service.fallback
    return or_say(turn, pieces, fallback) if fallback and turn.request.stream else pieces


def open_turn(hides_thinking: bool) -> Turn:
    """Return the turn that this HTTP request begins; raise BadRequest for one that can't be understood."""
    service: Service = current_app.extensions["service"]
    kind = request.mimetype
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise BadRequest(
            "The body must be JSON: send `Content-Type: application/json`.", code="unsupported_media_type", status=415
        )
    data = request.get_data(cache=False)
    if request.content_length is None and len(data) >= (request.max_content_length or inf):
        raise RequestEntityTooLarge  # of a body without a length, werkzeug reads up to the limit and says nothing
    chat = read_request(data, service.drop_fields)
    g.caller = caller_of(request.environ, service.write_s)
    return Turn(service, chat, g.caller, g.record, key=g.key, hides_thinking=hides_thinking)
