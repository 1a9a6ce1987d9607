"""The nft dialect at work: one run of `nft` to read, one to change. All of its knowledge of nft's messages is here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from meshdns.capture.dialects.nft.parse import NotOursError, parse, visible
from meshdns.capture.dialects.nft.render import (
    MAX_COMMENT_LENGTH,
    NAME,
    TABLE,
    Script,
    render,
    render_removal,
    rule_text,
)
from meshdns.capture.dialects.observed import NOTHING, Observed
from meshdns.capture.errors import ApplyError, PreflightError
from meshdns.capture.policy.ruleset import Rule, RuleSet
from meshdns.capture.system.nftables import has_table
from meshdns.capture.system.runner import Outcome, run

OLDEST: Final = (1, 0, 1)
"""The oldest nft whose language has everything that render.py writes."""
_PLACE: Final = r"(?m)^(?:/dev/stdin|-|<stdin>):(\d+):\d+(?:-\d+)?: Error: (.*)$"


class NftBackend:
    """Reads and replaces the table `inet meshdns` of the namespace that the calling thread is in."""

    name = "nft"
    comment_length = MAX_COMMENT_LENGTH

    def read(self) -> Observed:
        """Return what our table holds; creates nothing. Where the kernel says that there is none, no program is run."""
        if has_table(NAME) is False:
            return NOTHING
        done = run(["nft", "-j", "-n", "list", "table", *TABLE.split()])
        if done.exit_code:
            if "No such file or directory" in done.errors:
                return NOTHING  # gone since it was asked for
            raise PreflightError(f"cannot read the rules with nft: {_cause(done)}")
        try:
            return parse(done.output)
        except NotOursError as error:
            raise PreflightError(f"cannot read the rules with nft: {error}") from error

    def visible(self, rules: RuleSet) -> RuleSet:
        """Return `rules` as `read` would give them back."""
        return visible(rules)

    def text(self, rule: Rule) -> str:
        """Return a rule in nft's words."""
        return rule_text(rule)

    def replace(self, rules: RuleSet, about: Sequence[str], held: Observed, seed_s: float) -> None:
        """Put `rules` in the place of `held`, in one transaction; ApplyError names the rule that the kernel refused."""
        script = render(rules, about, held, seed_s)
        done = run(["nft", "-f", "-"], script.text)
        if done.exit_code:
            _refused(done, script)

    def remove(self) -> None:
        """Remove our table, whatever it holds."""
        done = run(["nft", "-f", "-"], render_removal().text)
        if done.exit_code:
            raise ApplyError(f"cannot remove the table {TABLE}: {_cause(done)}")


def _refused(done: Outcome, script: Script) -> None:
    if "Operation not permitted" in done.errors:
        raise PreflightError(f"cannot load the rules with nft: {_cause(done)}")
    found = re.search(_PLACE, done.errors)
    line = script.lines[int(found[1]) - 1] if found and int(found[1]) <= len(script.lines) else None
    cause = found[2].removeprefix("Could not process rule: ") if found else _cause(done)
    if "syntax error" in cause:
        _check_version()
    what = f"rule {line.rule_id}" if line and line.rule_id else "the rules"
    where = f" ({line.text})" if line else ""
    raise ApplyError(f"cannot load {what}: the kernel or nft says: {cause}{where}: nothing was changed")


def _cause(done: Outcome) -> str:
    text = " ".join(done.errors.split()) or f"exit code {done.exit_code}"
    if "Operation not permitted" in text:
        return "operation not permitted: CAP_NET_ADMIN is missing: run as root or grant it"
    if "cache initialization failed" in text or "Protocol not supported" in text:
        return f"{text}: does this kernel have nf_tables? (modprobe nf_tables)"
    if "JSON support not compiled-in" in text:
        return f"{text}: install a build of nft with JSON"
    return text


def _check_version() -> None:
    """Raise PreflightError where nft is too old: the likeliest cause of a syntax error in text of ours."""
    found = re.search(r"v(\d+)\.(\d+)(?:\.(\d+))?", run(["nft", "--version"]).output)
    if found and tuple(int(part or 0) for part in found.groups()) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise PreflightError(f"cannot use nft {found[0].removeprefix('v')}: it is too old: install {oldest} or later")
