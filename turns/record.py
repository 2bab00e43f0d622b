"""One log line for each request."""

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec

from protocol.errors import Failure, Outcome
from protocol.redaction import quoted

log = logging.getLogger("custom_llm.requests")

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")


class Record:
    """What is known of one request when it has ended: what the log line says, and what `count` is told.

    `waited_s` is how long a turn has waited, None of what is no turn.
    """

    def __init__(self, endpoint: str, request_id: str, count: "Callable[[Record], None] | None" = None) -> None:
        self._count = count
        self.endpoint = endpoint
        self.request_id = request_id
        self.status = 0
        self.model = ""
        self.chunks = 0
        self.tokens: int | None = None
        self.tool_calls = 0
        self.failed_tool_calls = 0
        self.retries = 0
        self.passages: int | None = None
        self.knowledge_ms: float | None = None
        self.knowledge = ""
        self.late_chunks = 0
        self.synthesis_s = 0.0
        self.is_streamed = False
        self.waited_s: float | None = None
        self.outcome: Outcome = "ok"
        self.cause: Outcome | None = None
        self.detail = ""
        self.began = time.monotonic()
        self.first_byte: float | None = None
        self.first_sentence: float | None = None
        self.first_audio: float | None = None

    def fail(self, failure: Failure) -> None:
        """Note why the request failed."""
        self.outcome = failure.outcome
        self.detail = failure.detail or failure.message

    def note_usage(self, usage: Any) -> None:
        """Note how many tokens the upstream reports, if it does."""
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        if isinstance(total, int):
            self.tokens = total

    def write(self) -> None:
        """Write the line, and have the request counted."""
        if self._count:
            self._count(self)
        if log.isEnabledFor(logging.INFO):
            # straight to the handlers: finding out which line of code logs costs more than all the rest
            line = log.makeRecord(log.name, logging.INFO, "", 0, "request", (), None, extra={"fields": self.fields()})
            log.handle(line)

    def fields(self) -> dict[str, Any]:
        """Return what the line says, in its order; times in ms."""
        fields: dict[str, Any] = {
            "id": self.request_id,
            "endpoint": self.endpoint,
            "status": self.status,
            "outcome": self.outcome,
            "model": quoted(self.model),
            "first_byte_ms": _ms(self.since_began(self.first_byte)),
            "first_sentence_ms": _ms(self.since_began(self.first_sentence)),
            "first_audio_ms": _ms(self.since_began(self.first_audio)),
            "total_ms": _ms(self.total_s),
            "chunks": self.chunks,
            "late_chunks": self.late_chunks or None,
            "tokens": self.tokens,
            "tool_calls": self.tool_calls or None,
            "passages": self.passages,
            "knowledge_ms": self.knowledge_ms,
            "knowledge": self.knowledge,
            "cause": self.cause,
            "detail": self.detail,
        }
        return {key: value for key, value in fields.items() if value not in (None, "")}

    @property
    def total_s(self) -> float:
        """Return how long the request has taken up to now."""
        return time.monotonic() - self.began

    def since_began(self, moment: float | None) -> float | None:
        """Return how many seconds after the request's beginning that was, None for what has not been."""
        return None if moment is None else moment - self.began


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


class PlainLines(logging.Formatter):
    """Write a record as a line of words: `time level message key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = getattr(record, "fields", None)
        if fields is None:
            return super().format(record)
        said = " ".join(f"{key}={_word(value)}" for key, value in fields.items())
        return f"{self.formatTime(record)} {record.levelname} {record.msg} {said}"


class JsonLines(logging.Formatter):
    """Write a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {"time": self.formatTime(record), "level": record.levelname, "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _word(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else msgspec.json.encode(text).decode()


def configure_logging(level: str, as_json: bool) -> None:
    """Write our log lines to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else PlainLines("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("custom_llm")
    ours.handlers[:] = [handler]
    ours.propagate = False
    ours.setLevel(level)
    # the development server's own line for each request, which holds the query string
    logging.getLogger("werkzeug").addFilter(_is_no_access_line)


def _is_no_access_line(record: logging.LogRecord) -> bool:
    return '"%s" %s %s' not in str(record.msg)
