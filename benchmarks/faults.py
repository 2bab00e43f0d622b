"""What can happen to a stream, at random, and what must come of it: the check of each stream, chunk by chunk."""

import base64
import json
import random
from dataclasses import dataclass
from typing import Any

from benchmarks.framing import Broken, Response
from benchmarks.models import WORDS

FALLBACK = "Sorry, one moment please."
"""What the server is set to say where an upstream failed before it said anything."""
_KINDS = {
    "none": 46,
    "slow": 6,
    "cut": 7,
    "stall": 4,
    "garbage": 7,
    "error": 7,
    "status": 7,
    "hang-up": 10,
    "superseded": 6,
}
KINDS = tuple(_KINDS)
ENDINGS = ("finished", "error", "fallback", "superseded", "status", "hang-up")
"""Those of a stream, a real status before it has begun, and the caller's own."""


@dataclass(frozen=True)
class Plan:
    """One stream: what the upstream does with it, and after how many chunks the caller does something.

    `says` is how many chunks the upstream says, `ending` how the stream must end.
    """

    kind: str
    model: str
    says: int
    ending: str
    spoken: bool
    acts_after: int | None = None

    @classmethod
    def draw(cls, chance: random.Random, spoken_share: float, longest: int) -> "Plan":
        """Draw one, of so many chunks at most."""
        (kind,) = chance.choices(KINDS, list(_KINDS.values()))
        spoken = chance.random() < spoken_share
        chunks = chance.randint(5, min(longest, 25) if spoken else longest)
        model = f"bench-{chunks}x{400 if kind == 'slow' else chance.choice((100, 150, 200, 300))}ms"
        model += "-words" if spoken else ""
        at = chance.choice((0, chance.randrange(1, chunks)))
        if kind in ("cut", "stall", "garbage", "error"):
            return cls(kind, f"{model}-{kind}{at}", at, "error" if at else "fallback", spoken)
        if kind == "status":
            return cls(kind, f"{model}-status{chance.choice((500, 502, 503, 529))}", 0, "fallback", spoken)
        if kind in ("hang-up", "superseded"):
            return cls(kind, model, chunks, kind, spoken, acts_after=min(at, chunks // 2))
        return cls(kind, model, chunks, "finished", spoken)


class Check:
    """One stream, as its bytes come; Broken as soon as it is not what was planned."""

    def __init__(self, plan: Plan) -> None:
        self.seen = 0
        """Chunks that have said something."""
        self.response = Response()
        self.ending = ""
        self._plan = plan
        self._body = b""
        self._text = ""
        self._transcript = ""
        self._sound = 0
        self._ids: set[str] = set()
        self._has_finish = self._has_error = self._is_done = False

    def feed(self, data: bytes) -> bool:
        """Take what came, and tell whether the stream is over."""
        self._body += self.response.feed(data)
        if self.response.status == 200:
            *events, self._body = self._body.split(b"\n\n")
            for event in events:
                self._take(event)
        if self.response.over:
            self.end()
        return self.response.over

    def end(self) -> None:
        """Look at the whole of it."""
        plan = self._plan
        if self.response.status != 200:
            self._end_with_status()
            return
        if not self._is_done or self._body:
            raise Broken("ended without [DONE]")
        self.ending = ending = self._ending()
        # one whose last words were out when it was to be superseded has finished: it was whole
        if ending != plan.ending and (plan.ending, ending) != ("superseded", "finished"):
            raise Broken(f"{plan.ending} was due, {ending} came")
        if ending in ("finished", "error") and not plan.spoken and self._text != self._expected(plan.says):
            raise Broken(f"not all that the upstream said: {self._text[-60:]!r}")
        if plan.spoken:
            self._end_of_sound(ending)

    def _end_with_status(self) -> None:
        """See that there was nothing to be heard yet: a voice needs a clause's end, and an upstream may fail before."""
        self.ending = "status"
        try:
            message = json.loads(self._body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = "in another form than our errors"
        if not (self._plan.spoken and self._plan.ending == "error" and self.response.status in (502, 504)):
            raise Broken(f"status {self.response.status}: {message}")

    def _end_of_sound(self, ending: str) -> None:
        expected = _letters(FALLBACK if ending == "fallback" else self._expected(self._plan.says))
        said = _letters(self._transcript)
        if said != expected if ending in ("finished", "fallback") else not expected.startswith(said):
            raise Broken(f"another transcript: {self._transcript[-60:]!r}")
        if said and not self._sound and ending != "superseded":
            raise Broken("a transcript without sound")

    def _ending(self) -> str:
        if self._has_error:
            return "error"
        if FALLBACK in (self._text, self._transcript.strip()):
            return "fallback"
        if self._plan.ending == "superseded":
            whole = self._text if not self._plan.spoken else self._transcript
            return "superseded" if _letters(whole) != _letters(self._expected(self._plan.says)) else "finished"
        return "finished"

    def _expected(self, chunks: int) -> str:
        if self._plan.spoken:
            return "".join(WORDS[number % len(WORDS)] for number in range(chunks))
        return "".join(f" {number}" for number in range(chunks))

    def _take(self, event: bytes) -> None:
        if event.startswith(b":"):
            return
        if not event.startswith(b"data: ") or b"\n" in event:
            raise Broken(f"not an event: {event[:60]!r}")
        if self._is_done:
            raise Broken("data after [DONE]")
        if event == b"data: [DONE]":
            if not (self._has_finish or self._has_error):
                raise Broken("[DONE] without an ending")
            self._is_done = True
            return
        try:
            self._take_chunk(json.loads(event[6:]))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Broken(f"not a chunk ({type(error).__name__}): {event[:80]!r}") from None

    def _take_chunk(self, chunk: dict[str, Any]) -> None:
        if self._has_finish or self._has_error:
            raise Broken("a chunk after the ending")
        if "error" in chunk:
            self._has_error = True
            return
        self._ids.add(chunk["id"])
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        if len(self._ids) > 1:
            raise Broken("an answer with two ids")
        if choice["finish_reason"]:
            self._has_finish = True
        if content := delta.get("content"):
            self._take_text(content)
        if audio := delta.get("audio"):
            self.seen += 1
            self._transcript += audio.get("transcript") or ""
            self._sound += len(base64.b64decode(audio.get("data") or "", validate=True))

    def _take_text(self, content: str) -> None:
        """Take a piece of text, whose mark must be the next one."""
        if "@@" in content:
            space, mark, rest = content.split("@@")
            content = space + mark.partition(":")[0] + rest
            if content != f" {self.seen}":
                raise Broken(f"chunk{content} in the place of {self.seen}")
        self.seen += 1
        self._text += content


def _letters(text: str) -> str:
    return "".join(text.split())
