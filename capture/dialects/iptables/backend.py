"""The iptables dialect at work: `iptables-save` to read, `iptables-restore` to change, in the legacy or nft variant.

All knowledge of these programs' messages is here (iptables 1.8.7 to 1.8.11).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from meshdns.capture.dialects.iptables.change import Change
from meshdns.capture.dialects.iptables.render import Script, render
from meshdns.capture.dialects.iptables.save import Tables, read_tables
from meshdns.capture.dialects.iptables.transaction import IptablesBackend, Refusal
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.spec import Family
from meshdns.capture.system.runner import Outcome, run
from meshdns.capture.system.xtables import legacy_tables, missing_capabilities

Variant = Literal["legacy", "nft"]

OLDEST: Final = (1, 8, 7)
"""The oldest iptables that is tried and has everything that render.py writes, in both variants."""
LOCK_WAIT_S: Final = 5
"""Without --wait, iptables-legacy may wait for ever for somebody else's lock."""
_PROGRAM: Final = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
_LINE: Final = re.compile(r"(?:line:? |line )(\d+)")
_NOISE: Final = re.compile(
    r"Error occurred at line: \d+|Try `[^']*' or '[^']*' for more information\.|^\S+ v[\d.]+ \(\w+\):"
)
_FORBIDDEN: Final = ("Permission denied", "Operation not permitted", "you must be root")


def iptables_backend(variant: Variant) -> IptablesBackend:
    """Return the backend that uses the programs of a variant."""
    return IptablesBackend(f"iptables-{variant}", Programs(variant))


@dataclass(frozen=True, slots=True)
class Programs:
    """The door through the programs of one variant."""

    variant: Variant

    def tables(self, family: Family) -> Tables:
        """Return the tables that exist; creates none."""
        if self.variant == "legacy" and not legacy_tables(family):
            return {}
        program = self._program(family, "save")
        done = run([program, "-c"])
        if done.exit_code:
            raise PreflightError(f"cannot read the rules with {program}: {self._forbidden(done) or _cause(done)}")
        return read_tables(done.output)

    def carry_out(self, family: Family, changes: Sequence[Change]) -> Refusal | None:
        """Make the changes in one run, one transaction for each table."""
        try:
            script = render(changes)
        except ValueError as error:
            return Refusal(str(error))
        done = self._restore(family, script)
        return self._refusal(family, script, done) if done.exit_code else None

    def _restore(self, family: Family, script: Script) -> Outcome:
        return run([self._program(family, "restore"), "--noflush", "--wait", str(LOCK_WAIT_S)], script.text)

    def _program(self, family: Family, what: str) -> str:
        return f"{_PROGRAM[family]}-{self.variant}-{what}"

    def _refusal(self, family: Family, script: Script, done: Outcome) -> Refusal:
        if forbidden := self._forbidden(done):
            return Refusal(forbidden, preflight=True)
        if too_old := self._too_old(family):
            return Refusal(too_old, preflight=True)
        numbers = [int(number) for number in _LINE.findall(done.errors)]
        line = script.lines[numbers[-1] - 1] if numbers and numbers[-1] <= len(script.lines) else None
        if line is None:
            return Refusal(_cause(done))
        where = f" ({line.text})" if line.rule_id else ""
        return Refusal(f"the kernel or iptables says: {_cause(done)}{where}", line.rule_id, line.table)

    def _forbidden(self, done: Outcome) -> str | None:
        """Return what to say where a privilege is missing: legacy iptables needs one more."""
        needed = {"CAP_NET_ADMIN", "CAP_NET_RAW"} if self.variant == "legacy" else {"CAP_NET_ADMIN"}
        missing = [capability for capability in missing_capabilities() if capability in needed]
        if missing:
            return f"{' and '.join(missing)} is missing: run as root or grant it"
        return _cause(done) if any(text in done.errors for text in _FORBIDDEN) else None

    def _too_old(self, family: Family) -> str | None:
        """Return what to say where iptables is too old: a likely cause of every complaint about text of ours."""
        program = self._program(family, "restore")
        found = re.search(r"v(\d+)\.(\d+)\.(\d+)", run([program, "--version"]).output)
        if not found or tuple(map(int, found.groups())) >= OLDEST:
            return None
        return f"{program} {found[0][1:]} is too old: install {'.'.join(map(str, OLDEST))} or later"


def _cause(done: Outcome) -> str:
    text = " ".join(line for line in done.errors.splitlines() if not line.startswith("#"))
    text = " ".join(_NOISE.sub(" ", text).split()) or f"exit code {done.exit_code}"
    if "do you need to insmod" in text or "Table does not exist" in text:
        return f"{text}: this kernel lacks the table"
    if "xtables lock" in text:
        return f"{text}: another program held it for {LOCK_WAIT_S} s"
    return text
