"""Look a turn's question up, and note how that went."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from knowledge.passages import Passage
from knowledge.source import Knowledge, KnowledgeFailed
from protocol.chunks import Batch
from protocol.redaction import for_log
from turns.aside import aside
from turns.turn import Turn
from upstream.waits import Waits


@dataclass(frozen=True)
class Lookup:
    """What turns ask: a kind of knowledge, and how many passages are looked up for a question."""

    knowledge: Knowledge
    limit: int = 4

    def look_up(self, turn: Turn, question: str) -> Generator[Batch, None, tuple[Sequence[Passage], bool]]:
        """Return what was found, and whether the knowledge could be consulted: if not, the answer goes on without."""
        began = time.monotonic()
        try:
            if self.knowledge.is_remote:
                passages = yield from aside(turn, lambda waits: self.knowledge.search(question, self.limit, waits))
            else:
                passages = self.knowledge.search(question, self.limit, turn.caller)
            turn.record.passages = len(passages)
            if turn.trace:
                turn.trace.note_passages(passages)
            return passages, True
        except KnowledgeFailed as failed:
            self.knowledge.failures += 1
            turn.record.knowledge = f"failed: {for_log(str(failed))}"
            return (), False
        finally:
            turn.record.knowledge_ms = round((time.monotonic() - began) * 1000, 1)

    def told(self, turn: Turn, question: str) -> str:
        """Return what was found as a text for the model; it is a tool's result, looked up beside the turn."""
        try:
            passages = self.knowledge.search(question, self.limit, Waits(send_s=turn.service.write_s))
        except KnowledgeFailed as failed:
            self.knowledge.failures += 1
            turn.record.knowledge = f"failed: {for_log(str(failed))}"
            return "The documents can't be consulted at the moment."
        turn.record.passages = (turn.record.passages or 0) + len(passages)
        if turn.trace:
            turn.trace.note_passages(passages)
        return "\n\n".join(f"{p.title}\n{p.text}".strip() for p in passages) or "The documents don't say."
