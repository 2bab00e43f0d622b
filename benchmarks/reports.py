"""Write what was measured as Markdown."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_RATIOS = ("CPU ms / 1k chunks", "CPU µs / request", "chunks / s", "requests / s")
_OWN_COST = ("CPU", "PSS", "server cores")  # figures that hold even where the measuring side was the limit
_FOREIGN = 0.25  # cores used by others: above it, tails are theirs


@dataclass(frozen=True)
class Result:
    """What one run of one scenario against one server gave."""

    server: str
    scenario: str
    figures: dict[str, float] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    limit: str | None = None  # what the measuring side used, where it was the bottleneck
    others: float | None = None  # cores used by the rest of the machine
    remark: str | None = None


def format_report(results: Sequence[Result], scenarios: Iterable[tuple[str, str]], baseline: str | None) -> str:
    """Return a table for each (name, meaning) of `scenarios`: medians, ranges, and ratios to the server `baseline`."""
    sections = []
    for name, meaning in scenarios:
        found = [result for result in results if result.scenario == name]
        if found:
            sections.append("\n".join([f"### {name}: {meaning}", "", *_table(found, baseline), *_notes(found)]))
    return "\n\n".join(sections)


def _table(results: Sequence[Result], baseline: str | None) -> list[str]:
    if all(result.remark for result in results):
        return []
    fullest = sorted(results, key=lambda result: -len(result.figures))
    columns = list(dict.fromkeys(column for result in fullest for column in result.figures))
    lines = [f"| | {' | '.join([*columns, 'failed', 'others, cores'])} |", "|---" * (len(columns) + 3) + "|"]
    for server in dict.fromkeys(result.server for result in results):
        own = [result for result in results if result.server == server]
        base = [result for result in results if result.server == baseline and server != baseline]
        cells = [_cell(own, base, column) for column in columns]
        failed = sum(result.failures.total() for result in own)
        others = [result.others for result in own if result.others is not None]
        lines.append(
            f"| {' | '.join([server, *cells, str(failed), _number(statistics.median(others)) if others else '–'])} |"
        )
    return lines


def _cell(own: Sequence[Result], base: Sequence[Result], column: str) -> str:
    values = [result.figures[column] for result in own if column in result.figures]
    if not values:
        return "–"
    median = statistics.median(values)
    cell = _number(median)
    if len(values) > 1:
        cell += f" ({_number(min(values))}..{_number(max(values))})"
    holds = column.startswith(_OWN_COST)
    if not holds and any(result.limit for result in own):
        cell += " †"
    reference = statistics.median([result.figures[column] for result in base if column in result.figures] or [0])
    if column in _RATIOS and reference and (holds or not any(result.limit for result in [*own, *base])):
        cell += f" **×{median / reference:.2f}**"
    return cell


def _notes(results: Sequence[Result]) -> list[str]:
    notes = []
    for server in dict.fromkeys(result.server for result in results):
        own = [result for result in results if result.server == server]
        failures = sum((result.failures for result in own), Counter[str]())
        notes += [f"- {server}: failed {count} ×: {reason}" for reason, count in failures.most_common(8)]
        notes += [f"- {server}: {result.remark}" for result in own if result.remark]
        limits = [result.limit for result in own if result.limit]
        if limits:
            notes.append(
                f"- † {server}: the measuring side was the limit, not the server ({limits[-1]}): "
                "rates and times are no figures of the server's; CPU and memory still tell."
            )
        others = max((result.others or 0 for result in own), default=0)
        if others > _FOREIGN:
            notes.append(f"- {server}: other programs used up to {others:.2f} cores meanwhile: trust CPU, not p99.")
    return ["", *dict.fromkeys(notes)] if notes else []


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
