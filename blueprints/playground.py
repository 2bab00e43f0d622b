"""`/playground`: a page to talk to this server, to hear it, and to see what it does."""

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from turns.turn import Service
from upstream.demo.model import NAME

FOLDER = Path(__file__).resolve().parent.parent / "static" / "playground"
PAGE = "index.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_COMPLETIONS = "/chat/completions"


@dataclass(frozen=True)
class _File:
    """One file of the page, held in memory as it is and compressed."""

    type: str
    plain: bytes
    packed: bytes

    def response(self) -> Response:
        """Return it in the form that the caller takes, or 304 where the caller has it."""
        is_packed = request.accept_encodings["gzip"] > 0
        data = self.packed if is_packed else self.plain
        response = Response(data, mimetype=self.type, headers=_HEADERS)
        if is_packed:
            response.headers["Content-Encoding"] = "gzip"
        response.set_etag(sha256(data).hexdigest()[:16])
        response.make_conditional(request)
        return response


def blueprint(about: Mapping[str, str], *, model: str | None = None, trace: bool = False, audio_hz: int) -> Blueprint:
    """Return the blueprint that serves the page, and tells it what can be talked to.

    `about` says of a path what its endpoint is, `model` what answers where a request names none, `trace` whether
    requests with `X-Trace: 1` are told what they were answered from, and `audio_hz` the rate of an answer's PCM.
    """
    bp = Blueprint("playground", __name__)
    files = {path.name: _read(path) for path in FOLDER.iterdir() if path.suffix in _TYPES}

    @bp.get("/playground")
    def page() -> Response:
        return files[PAGE].response()

    @bp.get("/playground/<name>")
    def file(name: str) -> Response:
        # a look into a dict: no name can lead out of the folder
        if name not in files or name == PAGE:
            raise NotFound
        return files[name].response()

    @bp.get("/playground/endpoints")
    def endpoints() -> Response:
        service: Service = current_app.extensions["service"]
        is_demo = service.upstream.is_demo
        response = jsonify(
            endpoints=_endpoints(current_app.url_map.iter_rules(), about),
            model=NAME if is_demo else model,
            demo=is_demo,
            needs_key=current_app.config["CALLER_NEEDS_KEY"],
            trace=trace,
            audio_hz=audio_hz,
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    return bp


def _read(path: Path) -> _File:
    data = path.read_bytes()
    return _File(_TYPES[path.suffix], data, gzip.compress(data, 9, mtime=0))


def _endpoints(rules: Iterable[Rule], about: Mapping[str, str]) -> list[dict[str, str | bool]]:
    """Return what can be talked to: each endpoint once, without its other paths under `/v1`."""
    paths = [rule.rule for rule in rules if rule.rule.endswith(_COMPLETIONS) and "POST" in (rule.methods or ())]
    return [
        {
            "name": path.removesuffix(_COMPLETIONS).strip("/") or "chat",
            "path": path,
            "audio": "audio" in path.split("/"),
            "about": _about(path, about),
        }
        for path in paths
        if "v1" not in path.split("/") and "<" not in path
    ]


def _about(path: str, about: Mapping[str, str]) -> str:
    """Return what an endpoint is; what has no line of its own is a customer's agent, and may be spoken."""
    if path in about:
        return about[path]
    written = path.replace("/audio/", "/", 1)
    return f"{_about(written, about)}, spoken" if written != path else "an agent of your own"
