"""Every setting: its name, type, unit, default, and one line of meaning."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

OPENAI_URL = "https://api.openai.com/v1"


def _about(line: str, must: str, **bounds: Any) -> Meta:
    return Meta(description=line, extra={"must": must}, **bounds)


def _seconds(line: str, least: float = 0.01) -> Meta:
    return _about(line, f"a number of seconds, {least:g} or more", ge=least, le=86400)


HEADER_NAME = r"[A-Za-z0-9-]+"
_URL = "an http:// or https:// URL"
_LIST = "a list, separated by commas"
_PHRASES = "sentences, separated by |"


class Settings(msgspec.Struct, frozen=True, rename="upper"):
    """The settings of one server; seconds unless a name says otherwise."""

    llm_api_key: Annotated[str | None, _about("Key of the upstream.", "a key")] = None
    llm_base_url: Annotated[
        str | None,
        _about("Upstream, up to `/v1`; a query such as `?api-version=…` is kept. OpenAI's if only a key is set.", _URL),
    ] = None
    llm_model: Annotated[
        str | None,
        _about("Model where the request names none (`gpt-4o-mini` for OpenAI's own).", "a model's name"),
    ] = None
    llm_key_header: Annotated[
        str,
        _about(
            "Header that carries the key; any other than this, such as Azure's `api-key`, gets it without `Bearer`.",
            "a header's name",
            pattern=f"^{HEADER_NAME}$",
        ),
    ] = "Authorization"
    llm_headers: Annotated[
        dict[str, str], _about("More headers for the upstream.", 'a JSON object such as {"X-Team":"voice"}')
    ] = msgspec.field(default_factory=dict)
    llm_drop_fields: Annotated[
        frozenset[str], _about("Fields of a request's root that are not sent upstream.", _LIST)
    ] = frozenset({"call", "phoneNumber", "customer"})
    llm_proxy: Annotated[
        str | None,
        _about(
            "HTTP proxy to the upstream (`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are heeded else).", "an http:// URL"
        ),
    ] = None
    llm_ca_file: Annotated[
        Path | None,
        _about("Certificates to trust (`REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE` are heeded else).", "a file that exists"),
    ] = None
    server_api_keys: Annotated[
        tuple[str, ...], _about("Keys of which a caller must show one; never sent upstream.", _LIST)
    ] = ()
    allow_pass_through: Annotated[
        bool, _about("Let anyone who reaches this server use the upstream with a key of their own.", "1 or 0")
    ] = False
    host: Annotated[
        str | None, _about("Address to listen on (`127.0.0.1` where no key is checked, else `0.0.0.0`).", "an address")
    ] = None
    port: Annotated[int, _about("Port to listen on.", "a port, 1 to 65535", ge=1, le=65535)] = 8000
    web_concurrency: Annotated[int, _about("Worker processes.", "a whole number, 1 to 64", ge=1, le=64)] = 1
    max_connections: Annotated[
        int, _about("Connections that one worker holds at once.", "a whole number, 10 or more", ge=10, le=1000000)
    ] = 4000
    max_body_kb: Annotated[
        int, _about("Size limit of a request, in KiB.", "a whole number, 1 to 102400", ge=1, le=102400)
    ] = 10240
    connect_s: Annotated[float, _seconds("Wait for a connection to the upstream.")] = 3.0
    first_token_s: Annotated[float, _seconds("Wait for the first token of a stream.")] = 10.0
    stall_s: Annotated[float, _seconds("Wait between two events of a stream.")] = 10.0
    total_s: Annotated[float, _seconds("Wait for the whole answer.")] = 300.0
    keepalive_s: Annotated[
        float,
        _seconds("Silence after which a stream is opened and `: keepalive` is sent, again and again; 0: never.", 0),
    ] = 5.0
    write_s: Annotated[float, _seconds("Wait for a caller who does not read.")] = 10.0
    think: Annotated[
        Literal["pass", "hide"] | None,
        _about(
            "What becomes of a `<think>` block that opens an answer: `hide` makes it `reasoning_content` "
            "(`pass` on /chat, `hide` wherever an answer is spoken or grounded).",
            "pass or hide",
        ),
    ] = None
    assistant_last: Annotated[
        Literal["say", "forward"],
        _about(
            "What becomes of a last message of role `assistant`: said as it stands, or sent upstream.", "say or forward"
        ),
    ] = "say"
    fallback: Annotated[
        str | None, _about("Sentence a stream says where the upstream failed before it said anything.", "a sentence")
    ] = None
    knowledge_dir: Annotated[
        Path | None, _about("Folder with the documents that /rag answers from (a small bundled one).", "a folder")
    ] = None
    knowledge_index: Annotated[
        Path | None, _about("File that the index is kept in (one in a private temporary folder).", "a file's path")
    ] = None
    knowledge_place: Annotated[
        Literal["user", "system_first", "system_before_last"],
        _about(
            "Where what was found is put: in front of the last user message, into the first system message, or as a "
            "system message before the last user message.",
            "user, system_first or system_before_last",
        ),
    ] = "user"
    knowledge_budget: Annotated[
        int,
        _about("Characters that what was found may take.", "a whole number, 200 to 100000", ge=200, le=100000),
    ] = 3000
    knowledge_passages: Annotated[
        int, _about("Passages that are looked up for a question.", "a whole number, 1 to 20", ge=1, le=20)
    ] = 4
    knowledge_url: Annotated[
        str | None,
        _about("Retrieval service with Dify's External Knowledge API, asked in place of the folder.", _URL),
    ] = None
    knowledge_key: Annotated[str | None, _about("Key of the retrieval service.", "a key")] = None
    knowledge_id: Annotated[str, _about("Knowledge base to ask the retrieval service for.", "an id")] = "default"
    knowledge_timeout_ms: Annotated[
        int, _about("Wait for the retrieval service, in ms.", "a whole number, 10 to 10000", ge=10, le=10000)
    ] = 300
    knowledge_cite: Annotated[
        bool, _about("Name the sources in a field `sources` of the finish chunk and of plain JSON.", "1 or 0")
    ] = False
    rag_waiting_after_ms: Annotated[
        int,
        _about(
            "When /rag says a waiting phrase: 0 at once, else if nothing was said after so many ms; -1: never.",
            "a whole number, -1 to 60000",
            ge=-1,
            le=60000,
        ),
    ] = 0
    rag_waiting_en: Annotated[tuple[str, ...], _about("English waiting phrases.", _PHRASES)] = (
        "Let me check that for you.",
        "One moment, please.",
        "Let me look that up.",
    )
    rag_waiting_zh: Annotated[tuple[str, ...], _about("Chinese waiting phrases.", _PHRASES)] = (
        "好的，我查一下。",
        "请稍等。",
        "我来看一下资料。",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        _about("Least level that is logged.", "DEBUG, INFO, WARNING or ERROR"),
    ] = "INFO"
    log_format: Annotated[Literal["plain", "json"], _about("Form of a log line.", "plain or json")] = "plain"

    @property
    def is_demo(self) -> bool:
        """Tell whether the built-in demo model answers."""
        return not (self.llm_api_key or self.llm_base_url)

    @property
    def upstream_url(self) -> str:
        """Return the upstream's URL."""
        return self.llm_base_url or OPENAI_URL

    @property
    def default_model(self) -> str | None:
        """Return the model that is asked where a request names none."""
        is_openai = urlsplit(self.upstream_url).hostname == "api.openai.com"
        return self.llm_model or ("gpt-4o-mini" if is_openai else None)

    @property
    def caller_keys(self) -> tuple[str, ...]:
        """Return the keys of which a caller must show one; none where no key of ours is checked."""
        return self.server_api_keys or ((self.llm_api_key,) if self.llm_api_key else ())

    @property
    def is_pass_through(self) -> bool:
        """Tell whether the caller's own key is the one that the upstream gets."""
        return not self.is_demo and not self.caller_keys

    @property
    def listens_on(self) -> str:
        """Return the address to listen on."""
        return self.host or ("0.0.0.0" if self.caller_keys else "127.0.0.1")

    @property
    def summary(self) -> str:
        """Return the line that the server starts with: who answers, and who may call."""
        if self.is_demo:
            answers = "the built-in demo model answers (set LLM_API_KEY or LLM_BASE_URL for a real one)"
        else:
            answers = f"the language model at {urlsplit(self.upstream_url).hostname} answers"
        if self.server_api_keys:
            return f"{answers}; callers need one of SERVER_API_KEYS"
        if self.caller_keys:
            return f"{answers}; callers need LLM_API_KEY as their Bearer"
        return f"{answers}; " + (
            "each caller brings a key of their own" if self.is_pass_through else "no key is needed"
        )
