"""`/openapi.json` and `/docs`: what is served, for programs and for people."""

from functools import lru_cache

import msgspec
from flask import Blueprint, Response, current_app, request

from protocol.language import Language
from protocol.openapi.document import document, routes
from protocol.openapi.page import CONTENT_SECURITY_POLICY, page
from turns.session_keys import SessionKeys

_HEADERS = {"Cache-Control": "no-cache", "Vary": "Accept-Language", "X-Content-Type-Options": "nosniff"}
_PAGE_HEADERS = {
    **_HEADERS,
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
}


def blueprint() -> Blueprint:
    """Return the blueprint that tells of all that its app serves."""
    bp = Blueprint("openapi", __name__)

    @lru_cache(maxsize=2)
    def told(language: Language) -> bytes:
        rules = [(rule.rule, rule.methods or ()) for rule in current_app.url_map.iter_rules()]
        keys: SessionKeys = current_app.extensions["session_keys"]
        needs_key = current_app.config["CALLER_NEEDS_KEY"]
        said = document(routes(rules), language, needs_key=needs_key, session_header=keys.header)
        return msgspec.json.encode(said)

    @bp.get("/openapi.json")
    def openapi() -> Response:
        return Response(told(_language()), mimetype="application/json", headers=_HEADERS)

    @bp.get("/docs")
    def docs() -> Response:
        language = _language()
        html = page(msgspec.json.decode(told(language)), language, request.host_url.removesuffix("/"))
        return Response(html, mimetype="text/html", headers=_PAGE_HEADERS)

    return bp


def _language() -> Language:
    # werkzeug's own choice would take "en-GB, zh;q=0.5" for Chinese
    accepted = [tag.lower().partition("-")[0] for tag, quality in request.accept_languages if quality > 0]
    asked = next((tag for tag in [request.args.get("lang"), *accepted] if tag in ("en", "zh")), "en")
    return "zh" if asked == "zh" else "en"
