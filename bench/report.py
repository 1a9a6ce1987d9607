"""The table that is printed, and bench/RESULTS.md. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.finding import Finding, Verdict


@dataclass(frozen=True, slots=True)
class Section:
    """The findings of one row of the bench."""

    name: str
    title: str
    findings: tuple[Finding, ...]


def lines(section: Section) -> Iterable[str]:
    """Yield a section as aligned text: verdict, ratio, target, what; absolute figures below."""
    yield f"{section.name}: {section.title}"
    for one in section.findings:
        yield f"  {one.verdict:<12} {one.measured:>18}  {one.target:<9} {one.what}"
        if one.detail:
            yield f"  {'':<12} {'':>18}  {'':<9} {one.detail}"


def summary(sections: Sequence[Section]) -> str:
    """Return how many findings met their targets, and which did not."""
    found = [(section.name, one) for section in sections for one in section.findings]
    counts = Counter(one.verdict for _, one in found)
    told = [f"{counts[verdict]} {verdict}" for verdict in (Verdict.MET, Verdict.MISSED, Verdict.NOT_MEASURED)]
    missed = [f"  missed: {name}: {one.what}: {one.measured}" for name, one in found if one.verdict is Verdict.MISSED]
    return "\n".join([", ".join(told), *missed])


def markdown(sections: Sequence[Section], machine: Mapping[str, str], versions: Mapping[str, str], note: str) -> str:
    """Return bench/RESULTS.md."""
    parts = [
        "# Results of `make bench`",
        "",
        "Medians of ratios, taken inside each round; least and most of the rounds in brackets. Absolute figures say",
        "something about this machine only. `-` has no target.",
        "",
        note,
        "",
        *(f"- {what}: {value}" for what, value in machine.items()),
        f"- versions: {', '.join(f'{name} {value}' for name, value in versions.items())}",
        "",
    ]
    for section in sections:
        parts += [
            f"## {section.name}: {section.title}",
            "",
            "| what | target | measured | verdict | detail |",
            "|---|---|---|---|---|",
        ]
        parts += [
            f"| {_cell(one.what)} | {one.target} | {one.measured} | {one.verdict} | {_cell(one.detail)} |"
            for one in section.findings
        ]
        parts.append("")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
