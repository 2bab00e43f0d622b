"""The report of a visit: a table to read, or JSON for machines."""

import json
from collections import Counter
from typing import NamedTuple, get_args

from doctor.check import Check, Opinion, Verdict
from doctor.checks import CHECKS
from doctor.target import Target
from doctor.visit import Visit
from protocol.redaction import for_log

_SEEN_LIMIT = 200
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Finding(NamedTuple):
    """A check and what it said."""

    check: Check
    opinion: Opinion


class Report:
    """What all checks say of a visit. No word of it holds the key or a header."""

    def __init__(self, visit: Visit, *, audio: bool = True) -> None:
        self.target = visit.target
        checks = [check for check in CHECKS if audio or not is_about_audio(check)]
        self.findings = [Finding(check, _without_secrets(check.judge(visit), visit.target)) for check in checks]

    @property
    def counts(self) -> dict[Verdict, int]:
        """Return how many checks came to each verdict."""
        counted = Counter(opinion.verdict for _, opinion in self.findings)
        return {verdict: counted[verdict] for verdict in VERDICTS}

    @property
    def has_failed(self) -> bool:
        """Tell whether any check failed."""
        return self.counts["fail"] > 0

    def ids(self, verdict: Verdict) -> set[str]:
        """Return the ids of the checks that came to this verdict."""
        return {check.id for check, opinion in self.findings if opinion.verdict == verdict}

    def as_json(self) -> str:
        """Return the report as one JSON object."""
        checks = [
            {
                "id": check.id,
                "verdict": opinion.verdict,
                "seen": opinion.seen,
                "rule": check.rule,
                "change": check.change,
            }
            for check, opinion in self.findings
        ]
        url = _masked(self.target.place, self.target)
        return json.dumps({"url": url, "counts": self.counts, "checks": checks}, ensure_ascii=False, indent=2)

    def as_table(self) -> str:
        """Return the report as lines: verdict, check and rule; below, what was seen and what to change."""
        width = max(len(check.id) for check, _ in self.findings)
        indent = " " * (10 + width)
        lines = [_masked(self.target.place, self.target), ""]
        for check, (verdict, seen) in self.findings:
            lines.append(f"{verdict:8}  {check.id:{width}}  {check.rule}")
            if seen:
                lines.append(f"{indent}  seen: {seen}")
            if verdict in ("warn", "fail"):
                lines.append(f"{indent}  change: {check.change}")
        return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())])


def is_about_audio(check: Check) -> bool:
    """Tell whether a check looks at sound."""
    return check.id.startswith("audio.") or check.id == "latency.first_audio"


def _without_secrets(opinion: Opinion, target: Target) -> Opinion:
    return opinion._replace(seen=_masked(opinion.seen, target)[:_SEEN_LIMIT])


def _masked(text: str, target: Target) -> str:
    for secret in target.secrets:
        text = for_log(text, secret)
    return for_log(text)
