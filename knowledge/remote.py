"""A customer's own retrieval service, over Dify's External Knowledge API, which RAGFlow and others speak too.

https://docs.dify.ai/en/self-host/use-dify/knowledge/external-knowledge-api
"""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import requests

from knowledge.passages import Passage
from knowledge.source import Knowledge, KnowledgeFailed
from protocol.errors import Failure
from upstream.adapter import Exchange, UpstreamAdapter
from upstream.waits import Waits

ANSWER_LIMIT = 1024 * 1024
"""Bytes that a service's answer may have."""


class _Record(msgspec.Struct):
    content: str
    score: float = 0.0
    title: str | None = ""
    metadata: dict[str, Any] | None = None


class _Records(msgspec.Struct):
    records: list[_Record]


class RetrievalService(Knowledge):
    """Ask the service at `url` (with or without its last part, `/retrieval`), and wait `timeout_s` in all."""

    is_remote = True

    def __init__(
        self, url: str, knowledge_id: str, key: str | None, timeout_s: float, ca_file: str | None = None
    ) -> None:
        self._url = url if url.rstrip("/").endswith("/retrieval") else f"{url.rstrip('/')}/retrieval"
        self._id = knowledge_id
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._session = requests.Session()
        self._session.trust_env = False
        adapter = UpstreamAdapter(ca_file=ca_file)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def search(self, question: str, limit: int, waits: Waits) -> Sequence[Passage]:
        """Return the service's passages, the best first; try once more while there is time; raise KnowledgeFailed."""
        until = time.monotonic() + self._timeout_s
        data = msgspec.json.encode(
            {
                "knowledge_id": self._id,
                "query": question,
                "retrieval_setting": {"top_k": limit, "score_threshold": 0.0},
            }
        )
        try:
            return self._ask(data, waits, until)[:limit]
        except KnowledgeFailed as failed:
            # more than half of the time must be left, or a second try would come to nothing
            if time.monotonic() > until - self._timeout_s / 2:
                raise
            try:
                return self._ask(data, waits, until)[:limit]
            except KnowledgeFailed:
                raise failed from None

    def _ask(self, data: bytes, waits: Waits, until: float) -> list[Passage]:
        waits.connect_s = waits.send_s = max(0.001, until - time.monotonic())
        timeout: Any = waits
        try:
            response = self._session.post(
                self._url, data, headers=self._headers, stream=True, timeout=timeout, allow_redirects=False
            )
            raw: Any = response.raw
            exchange: Exchange = raw
            try:
                return self._passages(exchange, response, until)
            finally:
                exchange.close()
        except Failure as failure:
            raise KnowledgeFailed(failure.detail or failure.message) from None

    def _passages(self, exchange: Exchange, response: requests.Response, until: float) -> list[Passage]:
        if not exchange.head(until):
            raise KnowledgeFailed("no answer came in time")
        body = b""
        while block := exchange.read1(until):
            body += block
            if len(body) > ANSWER_LIMIT:
                raise KnowledgeFailed("the answer has no end")
        if block is None:
            raise KnowledgeFailed("the answer did not end in time")
        if response.status_code != 200:
            raise KnowledgeFailed(f"it answered with status {response.status_code}")
        try:
            records = msgspec.json.decode(body, type=_Records).records
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KnowledgeFailed(f"the answer has not the form of Dify's: {error}") from None
        return [_passage(number, record) for number, record in enumerate(records, 1) if record.content.strip()]


def _passage(number: int, record: _Record) -> Passage:
    metadata = record.metadata or {}
    names = (str(metadata[key]) for key in ("path", "source", "file", "document_name") if metadata.get(key))
    file = next(names, "")
    return Passage(f"{file}#{number}", record.title or "", file, record.content, record.score)
