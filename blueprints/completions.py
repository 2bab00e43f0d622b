"""The endpoints that answer a turn: each is a blueprint around a function `answer(turn)`."""

from collections.abc import Callable
from functools import partial
from math import inf

from flask import Blueprint, Response, current_app, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from audio.sounding import Sounding
from blueprints.gate import bearer
from protocol.chunks import Answer
from protocol.errors import BadRequest, TurnOver
from protocol.request import read_request
from turns.caller import caller_of
from turns.failing import or_say
from turns.respond import respond
from turns.session_keys import SessionKeys
from turns.sessions import Sessions, standing
from turns.streams import Streams
from turns.trace import Trace, traced
from turns.turn import Service, Turn, answered

PATH = "/chat/completions"
SPOKEN_PATH = "/audio/chat/completions"


def endpoint(prefix: str, answer: Callable[[Turn], Answer], *, hides_thinking: bool = True) -> Blueprint:
    """Return the blueprint that serves `answer` at `/PREFIX/chat/completions`, with and without `/v1`.

    What has a prefix is served spoken, too, at `/PREFIX/audio/chat/completions`.
    """
    bp = Blueprint(prefix.strip("/") or "chat", __name__)

    def complete() -> Response:
        return _complete(hides_thinking, partial(_written, answer))

    def speak() -> Response:
        sounding: Sounding = current_app.extensions["sounding"]
        return _complete(True, partial(sounding.speak, written=partial(_written, answer)))

    _add_rules(bp, prefix, PATH, complete)
    if prefix:
        _add_rules(bp, prefix, SPOKEN_PATH, speak)
    return bp


def player(sounding: Sounding, answer: Callable[[Turn], Answer]) -> Blueprint:
    """Return the blueprint of `/audio/chat/completions`, which plays what is set to be played, or speaks `answer`."""
    bp = Blueprint("audio", __name__)

    def play() -> Response:
        return _complete(True, partial(sounding.play, written=partial(_written, answer)))

    _add_rules(bp, "", SPOKEN_PATH, play)
    return bp


def _add_rules(bp: Blueprint, prefix: str, path: str, view: Callable[[], Response]) -> None:
    for rule in dict.fromkeys([f"{prefix}{path}", f"/v1{prefix}{path}", f"{prefix}/v1{path}"]):
        bp.add_url_rule(rule, endpoint=view.__name__, view_func=view, methods=["POST"])


def _complete(hides_thinking: bool, compose: Callable[[Turn], Answer]) -> Response:
    try:
        turn = _open_turn(hides_thinking)
        pieces = compose(turn)
        _enter_session(turn)
        return respond(turn, traced(turn, turn.trace, pieces) if turn.trace else pieces)
    except (Exception, TurnOver):
        raise  # it becomes a response, at whose end the turn is counted out
    except BaseException:
        leave(Response()).close()
        raise


def _written(answer: Callable[[Turn], Answer], turn: Turn) -> Answer:
    """Return all that a turn says in writing: the answer, or what is set to be said where it fails."""
    pieces = answered(turn, answer)
    fallback = turn.service.fallback
    return or_say(turn, pieces, fallback) if fallback and turn.request.stream else pieces


def _open_turn(hides_thinking: bool) -> Turn:
    """Return the turn that this HTTP request begins; raise BadRequest for one that can't be understood."""
    service: Service = current_app.extensions["service"]
    streams: Streams = current_app.extensions["streams"]
    streams.admit()
    kind = request.mimetype
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise BadRequest(
            "The body must be JSON: send `Content-Type: application/json`.", code="unsupported_media_type", status=415
        )
    data = request.get_data(cache=False)
    if request.content_length is None and len(data) >= (request.max_content_length or inf):
        raise RequestEntityTooLarge  # of a body without a length, werkzeug reads up to the limit and says nothing
    chat = read_request(data, service.drop_fields, notes_interruptions=service.notes_interruptions)
    g.caller = caller_of(request.environ, service.write_s)
    streams.enter(g.caller)
    turn = Turn(service, chat, g.caller, g.record, key=g.key, hides_thinking=hides_thinking)
    if service.traces and request.headers.get("X-Trace") == "1":
        turn.trace = Trace()
    keys: SessionKeys = current_app.extensions["session_keys"]
    turn.session = keys.key_of(str(request.blueprint), bearer(), chat, request.headers, request.args)
    return turn


def _enter_session(turn: Turn) -> None:
    """Let a turn take the place of the older ones of its session, now that nothing is wrong with its request."""
    if turn.session is not None:
        g.turn = turn
        sessions: Sessions = current_app.extensions["sessions"]
        sessions.enter(turn.session, turn, *standing(turn.request))


def leave(response: Response) -> Response:
    """See to it that a turn is counted out when its response has been closed, however it ended."""
    if "caller" in g:
        response.call_on_close(g.caller.close)
        streams: Streams = current_app.extensions["streams"]
        response.call_on_close(partial(streams.leave, g.caller))
    if "turn" in g:
        sessions: Sessions = current_app.extensions["sessions"]
        response.call_on_close(partial(sessions.leave, g.turn.session, g.turn))
    return response
