"""The settings of the upstream, of who may call, and of the server."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from settings.meaning import HEADER_NAME, LIST, URL, about, seconds


class UpstreamSettings(msgspec.Struct, frozen=True, rename="upper"):
    """What is relayed, and by which rules."""

    llm_api_key: Annotated[str | None, about("Key of the upstream.", "a key")] = None
    llm_base_url: Annotated[
        str | None,
        about("Upstream, up to `/v1`; a query such as `?api-version=…` is kept. OpenAI's if only a key is set.", URL),
    ] = None
    llm_model: Annotated[
        str | None,
        about("Model where the request names none (`gpt-4o-mini` for OpenAI's own).", "a model's name"),
    ] = None
    llm_key_header: Annotated[
        str,
        about(
            "Header that carries the key; any other than this, such as Azure's `api-key`, gets it without `Bearer`.",
            "a header's name",
            pattern=f"^{HEADER_NAME}$",
        ),
    ] = "Authorization"
    llm_headers: Annotated[
        dict[str, str], about("More headers for the upstream.", 'a JSON object such as {"X-Team":"voice"}')
    ] = msgspec.field(default_factory=dict)
    llm_drop_fields: Annotated[
        frozenset[str], about("Fields of a request's root that are not sent upstream.", LIST)
    ] = frozenset({"call", "phoneNumber", "customer"})
    llm_proxy: Annotated[
        str | None,
        about(
            "HTTP proxy to the upstream (`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are heeded else).", "an http:// URL"
        ),
    ] = None
    llm_ca_file: Annotated[
        Path | None,
        about("Certificates to trust (`REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE` are heeded else).", "a file that exists"),
    ] = None
    server_api_keys: Annotated[
        tuple[str, ...], about("Keys of which a caller must show one; never sent upstream.", LIST)
    ] = ()
    allow_pass_through: Annotated[
        bool, about("Let anyone who reaches this server use the upstream with a key of their own.", "1 or 0")
    ] = False
    host: Annotated[
        str | None, about("Address to listen on (`127.0.0.1` where no key is checked, else `0.0.0.0`).", "an address")
    ] = None
    port: Annotated[int, about("Port to listen on.", "a port, 1 to 65535", ge=1, le=65535)] = 8000
    web_concurrency: Annotated[int, about("Worker processes.", "a whole number, 1 to 64", ge=1, le=64)] = 1
    max_connections: Annotated[
        int, about("Connections that one worker holds at once.", "a whole number, 10 or more", ge=10, le=1000000)
    ] = 4000
    max_body_kb: Annotated[
        int, about("Size limit of a request, in KiB.", "a whole number, 1 to 102400", ge=1, le=102400)
    ] = 10240
    connect_s: Annotated[float, seconds("Wait for a connection to the upstream.")] = 3.0
    first_token_s: Annotated[float, seconds("Wait for the first token of a stream.")] = 10.0
    stall_s: Annotated[float, seconds("Wait between two events of a stream.")] = 10.0
    total_s: Annotated[float, seconds("Wait for the whole answer.")] = 300.0
    keepalive_s: Annotated[
        float,
        seconds("Silence after which a stream is opened and `: keepalive` is sent, again and again; 0: never.", 0),
    ] = 5.0
    write_s: Annotated[float, seconds("Wait for a caller who does not read.")] = 10.0
    think: Annotated[
        Literal["pass", "hide"] | None,
        about(
            "What becomes of a `<think>` block that opens an answer: `hide` makes it `reasoning_content` "
            "(`pass` on /chat, `hide` wherever an answer is spoken or grounded).",
            "pass or hide",
        ),
    ] = None
    assistant_last: Annotated[
        Literal["say", "forward"],
        about(
            "What becomes of a last message of role `assistant`: said as it stands, or sent upstream.", "say or forward"
        ),
    ] = "say"
    fallback: Annotated[
        str | None, about("Sentence a stream says where the upstream failed before it said anything.", "a sentence")
    ] = None
