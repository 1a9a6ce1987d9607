"""Door: python-iptables. A program of its own: reads a question on stdin, writes the answer where stdout was.

A process for each family, because the library can load targets of network translation for one only; and for each
question, because it leaves its mark on a process: it keeps the sockets of the namespace it began in, takes stdout away
to read parameters by, and after some hundred errors no call works. It takes no lock, so this takes iptables' own.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from meshdns.capture.dialects.iptables.change import Change
from meshdns.capture.dialects.iptables.place import PREFIX
from meshdns.capture.dialects.iptables.save import SavedRule, SavedTable
from meshdns.capture.dialects.libiptc.message import Answer, Question, read_question, write_answer
from meshdns.capture.dialects.libiptc.parameters import Extension, RuleParameters, to_parameters, to_words
from meshdns.capture.policy.spec import Family

Library = Any
"""The library has no types."""

IFNAMSIZ: Final = 16
"""linux/if.h"""
DEFAULT_LOCK: Final = "/run/xtables.lock"
LOCK_WAIT_S: Final = 5.0
LOCK_POLL_S: Final = 0.02
STANDARD_TARGETS: Final = frozenset({"ACCEPT", "DROP", "RETURN", "QUEUE"})


class RefusedError(Exception):
    """What was asked cannot be done; carries the answer that says so. Never leaves this process."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.refused)
        self.answer = answer


def main() -> None:
    """Answer one question."""
    # The library and what it loads write to stdout as they please.
    answer_to = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        answer = _answer(read_question(sys.stdin.read()))
    except RefusedError as refused:
        answer = refused.answer
    with os.fdopen(answer_to, "w") as out:
        out.write(write_answer(answer))


def _answer(question: Question) -> Answer:
    library = _load()
    if question.changes:
        with _locked():
            for change in question.changes:
                _make(library, question.family, change)
    return Answer(tuple(_read(library, question.family, name) for name in question.tables))


def _load() -> Library:
    try:
        with warnings.catch_warnings(action="ignore"):
            return importlib.import_module("iptc")
    except ImportError as error:
        cause = f"python-iptables is not installed ({error}): pip install 'meshdns[libiptc]'"
    except Exception as error:  # noqa: BLE001 - it looks for its libraries while it is imported, and fails in many ways
        cause = f"python-iptables does not load: {error}"
    raise RefusedError(Answer(refused=cause, unusable=True))


def _read(library: Library, family: Family, name: str) -> SavedTable:
    table = _table(library, family, name)
    chains = tuple(chain.name for chain in table.chains)
    ours = {chain for chain in chains if chain.startswith(PREFIX)}
    rules = tuple(
        SavedRule(chain.name, _words(rule, ours, whole=chain.name in ours), *rule.get_counters())
        for chain in table.chains
        for rule in chain.rules
    )
    return SavedTable(name, chains, rules)


def _table(library: Library, family: Family, name: str) -> Library:
    kind = library.Table if family is Family.IPV4 else library.Table6
    try:
        # Otherwise every call is a commit, and what the kernel refuses is not told.
        return kind(name, autocommit=False)
    except (
        Exception
    ) as error:  # XTablesError or IPTCError, which are no more than that, or what ctypes makes of a library
        raise RefusedError(Answer(refused=f"cannot open the table: {error}", table=name)) from error


def _words(rule: Library, ours: set[str], *, whole: bool) -> tuple[str, ...]:
    """Return a rule's words; of other people's rules only where they lead, unless that is to us."""
    target = rule.target.name if rule.target else ""
    if not whole and target not in ours:
        return ("-j", target) if target else ()
    header = {
        "src": rule.src,
        "dst": rule.dst,
        "in_interface": rule.in_interface or "",
        "out_interface": rule.out_interface or "",
        "protocol": str(rule.protocol),
    }
    matches = tuple(_extension(match) for match in rule.matches)
    if not target:
        return to_words(RuleParameters(header, matches, None))
    plain = target in STANDARD_TARGETS or target in ours
    return to_words(RuleParameters(header, matches, Extension(target, ()) if plain else _extension(rule.target)))


def _extension(extension: Library) -> Extension:
    """Return a match or target as the library reads it; a value that cannot be read stays out, and is missed."""
    try:
        parameters = extension.get_all_parameters()
    except Exception:  # noqa: BLE001 - it takes printed text to pieces, and fails as its code happens to: IndexError, …
        parameters = {}
    return Extension(extension.name, tuple((name, _value(values)) for name, values in parameters.items()))


def _value(values: list[str]) -> str:
    return f"!{' '.join(values[1:])}" if values[:1] == ["!"] else " ".join(values)


def _make(library: Library, family: Family, change: Change) -> None:
    table = _table(library, family, change.table)
    for new in change.new_chains:
        chain = table.create_chain(new.name)
        for rule in new.rules:
            chain.append_rule(_rule(library, family, rule.words, rule.rule_id, change.table))
    for jump in change.old_jumps:
        chain = library.Chain(table, jump.chain)
        ours = {jump.target}
        for rule in chain.rules:
            if _words(rule, ours, whole=False) == jump.words:
                chain.delete_rule(rule)
                break
    for jump in change.new_jumps:
        rule = _rule(library, family, jump.words, None, change.table)
        library.Chain(table, jump.chain).insert_rule(rule, position=jump.position - 1)
    for name in change.old_chains:
        library.Chain(table, name).flush()
    for name in change.old_chains:
        table.delete_chain(name)
    try:
        table.commit()
    except Exception as error:  # as where the table is opened
        cause = str(error).removeprefix("can't commit: ")
        raise RefusedError(Answer(refused=f"the kernel says: {cause}", table=change.table)) from error


def _rule(library: Library, family: Family, words: tuple[str, ...], rule_id: str | None, table: str) -> Library:
    wanted = to_parameters(words)
    rule = library.Rule() if family is Family.IPV4 else library.Rule6()
    try:
        for name, value in wanted.header.items():
            setattr(rule, name, value)
        if family is Family.IPV6:
            _compare_whole_names(rule, wanted.header)
        for match in wanted.matches:
            _fill(rule.create_match(match.name), match)
        # The kernel has a target in every rule; one without a name does nothing.
        target = wanted.target or Extension("", ())
        _fill(rule.create_target(target.name), target)
    except (
        Exception
    ) as error:  # ValueError, AttributeError, KeyError, XTablesError: what it does not know it says in many ways
        cause = f"python-iptables cannot say {' '.join(words)!r}: {error}"
        raise RefusedError(Answer(refused=cause, rule_id=rule_id, table=table, unusable=True)) from error
    return rule


def _compare_whole_names(rule: Library, header: Mapping[str, str]) -> None:
    """Mend the library's masks for interfaces in IPv6: they compare one bit of each character, so that eth8 is eth0."""
    for name, mask in (("in_interface", "iniface_mask"), ("out_interface", "outiface_mask")):
        if name in header:
            length = len(header[name].removeprefix("!")) + 1
            setattr(rule.entry.ipv6, mask, b"\xff" * length + bytes(IFNAMSIZ - length))


def _fill(extension: Library, wanted: Extension) -> None:
    for name, value in wanted.parameters:
        extension.set_parameter(name, value.split(" ") if " " in value else value)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock of legacy iptables, which the library ignores."""
    path = Path(os.environ.get("XTABLES_LOCKFILE", DEFAULT_LOCK))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        cause = f"cannot open the lock {path}: {error.strerror}: give XTABLES_LOCKFILE a writable place"
        raise RefusedError(Answer(refused=cause, unusable=True)) from error
    deadline = time.monotonic() + LOCK_WAIT_S
    try:
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                raise RefusedError(Answer(refused=f"another program held {path} for {LOCK_WAIT_S:.0f} s"))
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
