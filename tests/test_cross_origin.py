"""Which pages a browser lets call: none, unless their origin is named."""

from collections.abc import Iterable

import pytest
from flask import Blueprint, Flask, Response
from flask.testing import FlaskClient

from blueprints import gate, status
from protocol.address import is_origin
from protocol.errors import BadRequest

SHOP, LOCAL = "https://shop.example", "http://localhost:3000"
KEY = "cross-origin-key"
ASKED_BY = {"Authorization": f"Bearer {KEY}"}


bp = Blueprint("answers", __name__)


@bp.post("/chat/completions")
def whole() -> dict[str, str]:
    """Answer in one piece."""
    return {"said": "Hello."}


@bp.post("/stream")
def stream() -> Response:
    """Answer piece by piece."""
    return Response((f"data: {number}\n\n" for number in range(3)), mimetype="text/event-stream")


@bp.post("/failure")
def failure() -> Response:
    """Fail."""
    raise BadRequest("No.", code="invalid_json")


@bp.post("/fault")
def fault() -> Response:
    """Break down."""
    raise RuntimeError("a fault")


def client(*origins: str) -> FlaskClient:
    """Return a client of a server that lets pages of these origins call."""
    app = Flask(__name__, static_folder=None)
    gate.guard(app, gate.Access((KEY,)), gate.Origins(frozenset(origins)))
    for blueprint in (bp, status.health_bp):
        app.register_blueprint(blueprint)
    return app.test_client()


def ask_leave(client: FlaskClient, origin: str, path: str = "/chat/completions", headers: str = "") -> dict[str, str]:
    """Ask as a browser does before a page's own request, and return the status and the headers about pages."""
    told = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    if headers:
        told["Access-Control-Request-Headers"] = headers
    answer = client.options(path, headers=told)
    return {"status": str(answer.status_code)} | about_pages(answer.headers.items())


def about_pages(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers that browsers read."""
    return {name: value for name, value in headers if name.startswith("Access-Control-") or name == "Vary"}


def test_a_named_origins_page_gets_leave_without_a_key() -> None:
    answer = ask_leave(client(SHOP, LOCAL), LOCAL, headers="authorization,content-type,x-stainless-lang")

    assert answer == {
        "status": "204",
        "Access-Control-Allow-Origin": LOCAL,
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "authorization,content-type,x-stainless-lang",
        "Access-Control-Expose-Headers": "X-Request-Id, Retry-After",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }


OTHERS = [
    "https://evil.example",
    "http://shop.example",
    "https://shop.example:8443",
    "https://shop.example/",
    "https://shop.example.evil.example",
    "https://www.shop.example",
    "https://evilshop.example",
    "HTTPS://SHOP.EXAMPLE",
    "null",
    "*",
    "",
]


@pytest.mark.parametrize("origin", OTHERS)
def test_any_other_page_gets_no_leave(origin: str) -> None:
    answer = ask_leave(client(SHOP), origin)

    assert answer == {"status": "401", "Vary": "Origin"}


@pytest.mark.parametrize("origin", [SHOP, "*", "null"])
def test_no_page_gets_leave_where_none_is_named(origin: str) -> None:
    nobody = client()

    asked = nobody.post("/chat/completions", headers={**ASKED_BY, "Origin": origin})

    assert ask_leave(nobody, origin) == {"status": "401"}
    assert asked.status_code == 200
    assert about_pages(asked.headers.items()) == {}


@pytest.mark.parametrize(
    ("path", "status_code"),
    [("/chat/completions", 200), ("/stream", 200), ("/failure", 400), ("/fault", 500), ("/nowhere", 404)],
)
def test_a_page_may_read_answers_streams_and_errors(path: str, status_code: int) -> None:
    shop = client(SHOP)

    own = shop.post(path, headers={**ASKED_BY, "Origin": SHOP})
    other = shop.post(path, headers={**ASKED_BY, "Origin": "https://evil.example"})

    assert own.headers["Access-Control-Allow-Origin"] == SHOP
    assert about_pages(other.headers.items()) == {"Vary": "Origin"}
    assert own.status_code == other.status_code == status_code


def test_a_page_needs_the_key_like_everyone_and_no_cookie_is_meant() -> None:
    shop = client(SHOP)

    answers = [shop.get(path, headers={"Origin": SHOP}) for path in ("/chat/completions", "/nowhere", "/")]

    assert {answer.status_code for answer in answers} == {401}
    assert all(answer.headers["Access-Control-Allow-Origin"] == SHOP for answer in answers)
    assert not any("Access-Control-Allow-Credentials" in answer.headers for answer in answers)
    assert not any("Set-Cookie" in answer.headers for answer in answers)


def test_options_that_ask_for_no_leave_are_no_preflight() -> None:
    answer = client(SHOP).options("/chat/completions", headers={**ASKED_BY, "Origin": SHOP})

    assert answer.status_code == 200
    assert "Access-Control-Allow-Methods" not in answer.headers


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *((origin, True) for origin in (SHOP, LOCAL, "http://[::1]:3000", "http://127.0.0.1:8000", "https://a-b.c.de")),
        *((text, False) for text in ("https://shop.example/", "HTTPS://SHOP.EXAMPLE", "null", "*", "")),
        *(
            (text, False)
            for text in (
                "https://*.example",
                "https://shop.example:443",
                "http://shop.example:80",
                "https://",
                "shop.example",
                "https://u@shop.example",
                "https://a b",
                "ftp://a",
            )
        ),
    ],
)
def test_an_origin_is_told_from_what_is_none(text: str, is_one: bool) -> None:
    assert is_origin(text) is is_one
