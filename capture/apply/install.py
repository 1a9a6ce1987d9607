"""Making it so, and undoing it: read, compare, change only a difference, read back.

The caller is in the right network namespace, holds its lock, and says what version and what time it is.
"""

from __future__ import annotations

from meshdns.capture.apply import scopes, steering
from meshdns.capture.apply.backend import Backend
from meshdns.capture.apply.compare import Condition, compare, differences
from meshdns.capture.apply.record import Record, from_comments, recorded_version, to_comments
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.errors import ApplyError, CaptureError, PreflightError, RollbackError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import RuleSet
from meshdns.capture.policy.spec import CaptureSpec, Family
from meshdns.capture.system.uninterrupted import uninterrupted
from meshdns.capture.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed, as read from the kernel. `drift` holds the differences from what was recorded."""

    held: Observed
    record: Record | None
    condition: Condition
    drift: tuple[str, ...]
    planned_by: str | None = None
    """The version that recorded it, where this one cannot read the record or would plan other rules for it."""
    beside: tuple[str, ...] = ()
    """The part of the drift that other backends hold beside this one; known where it was asked for (`choice.py`)."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What `install` did: whether anything had to change, and what stood there before."""

    changed: bool
    before: Installation


def new_record(spec: CaptureSpec, backend: Backend, version: str, installed_at: int | None) -> Record:
    """Return the record of an installation of `spec`."""
    return Record(version, installed_at, backend.name, plan(spec).fingerprint(), spec)


def as_planned_by(record: Record, version: str) -> Record:
    """Return the record for putting the same configuration in place again, by this code, which is called `version`.

    What another version planned cannot be made again, so rules of ours are not recorded as that version's.
    """
    fingerprint = plan(record.spec).fingerprint()
    return record if fingerprint == record.fingerprint else replace(record, version=version, fingerprint=fingerprint)


def inspect(backend: Backend, held: Observed | None = None) -> Installation:
    """Return what is installed and how it stands to the configuration that was recorded with it.

    `held`: what was read already, where it was.
    """
    held = held or backend.read()
    record = from_comments(held.about)
    if not held.present:
        return Installation(held, None, Condition.ABSENT, ())
    if record is None:
        version = recorded_version(held.about)
        why = f"recorded by meshdns {version} in a form of its own" if version else "no record of who installed this"
        return Installation(held, None, Condition.FOREIGN, (why,), version)
    found = measure(backend, record.spec, held)
    if plan(record.spec).fingerprint() != record.fingerprint:
        other = f"recorded by meshdns {record.version}, which planned other rules"
        return Installation(held, record, _stale(found.condition), (*found.drift, other), record.version)
    return found


def recorded(backend: Backend, purpose: str) -> Record:
    """Return the record of what is installed; PreflightError, with the purpose in it, where there is none to go by."""
    found = inspect(backend)
    if found.record is None:
        cause = found.drift[0] if found.held.present else "nothing is installed"
        raise PreflightError(f"cannot {purpose}: {cause}: run `meshdns capture install` first")
    return found.record


def measure(backend: Backend, spec: CaptureSpec, held: Observed) -> Installation:
    """Return how what is there stands to `spec`, whatever was recorded."""
    rules, record = plan(spec), from_comments(held.about)
    condition = compare(backend.visible(rules), held)
    told = differences(rules, held, backend, plan(record.spec) if record else None)
    drift = (*told, *scopes.differences(spec), *steering.differences(spec))
    return Installation(held, record, _stale(condition) if drift else condition, drift)


def _stale(condition: Condition) -> Condition:
    return Condition.STALE if condition is Condition.SAME else condition


def install(
    backend: Backend, record: Record, held: Observed | None = None, *, shared: frozenset[Family] = frozenset()
) -> Applied:
    """Install what `record` says, in the place of what this backend holds. `held`: what was read already, if it was.

    `shared`: the families whose switch is open already because another backend's rules share it.

    ApplyError: the kernel refused it, or holds something else afterwards, or what it holds cannot be read; what was
    there before is there again. PreflightError: nothing was changed. RollbackError: what was there before is not there.
    """
    rules = plan(record.spec)
    before = inspect(backend, held)
    if _is_installed(backend, rules, record, before.held):
        return Applied(_settle(record.spec), before)
    record = replace(record, open_before=before.held.alive | shared)
    with uninterrupted():
        _replace(backend, record, before)
    return Applied(changed=True, before=before)


def _replace(backend: Backend, record: Record, before: Installation) -> None:
    rules = plan(record.spec)
    # Families that are alive now stay alive over a table made anew: the next heartbeat takes over from there.
    seed_s = record.spec.heartbeat_timeout_s
    try:
        steering.settle(record.spec)
        backend.replace(rules, to_comments(record, backend.comment_length), before.held, seed_s)
        after = backend.read()
        if not _is_installed(backend, rules, record, after):
            wrong = "; ".join(differences(rules, after, backend)[:3]) or "the record differs"
            raise ApplyError(f"cannot install the rules: the kernel holds others than were loaded ({wrong})")
        _settle(record.spec)
    except RollbackError:
        raise
    except CaptureError as error:
        if _roll_back(backend, before, record.version, error):
            raise ApplyError(f"{error}: rolled back") from error
        raise


def _settle(spec: CaptureSpec | None) -> bool:
    return any([steering.settle(spec), scopes.settle(spec)])


def uninstall(backend: Backend) -> bool:
    """Remove everything of ours, whatever configuration made it; returns whether there was anything."""
    present = backend.read().present
    with uninterrupted():
        if present:
            backend.remove()
        return _settle(None) or present


def _is_installed(backend: Backend, rules: RuleSet, record: Record, held: Observed) -> bool:
    recorded = from_comments(held.about)
    return (
        compare(backend.visible(rules), held) is Condition.SAME
        and recorded is not None
        and (recorded.fingerprint, recorded.spec) == (record.fingerprint, record.spec)
    )


def _roll_back(backend: Backend, before: Installation, version: str, cause: CaptureError) -> bool:
    """Load again what was recorded before; where nothing was, remove what is there. Returns whether rules had changed.

    RollbackError: it could not be done.
    """
    old = as_planned_by(before.record, version) if before.record else None
    try:
        now = _held_now(backend, before.held)
        if _rules_of(now) == _rules_of(before.held):
            steering.settle(old.spec if old else None)
            return False
        if old is None:
            backend.remove()
            _settle(None)
        else:
            _settle(old.spec)
            comments = to_comments(replace(old, open_before=now.alive), backend.comment_length)
            backend.replace(plan(old.spec), comments, now, old.spec.heartbeat_timeout_s)
    except CaptureError as error:
        left = "what was to be installed, or a part of it, is still there"
        raise RollbackError(f"cannot roll back: {error}: {left}, which had failed: {cause}") from error
    return True


def _held_now(backend: Backend, before: Observed) -> Observed:
    """Return what is held, as something that gives way to anything where it cannot be read."""
    try:
        return backend.read()
    except CaptureError:
        return Observed(present=True, alive=before.alive, strangers=("what cannot be read",))


def _rules_of(held: Observed) -> object:
    """Return what is held without what changes by itself."""
    chains = [(chain.name, chain.place, [rule.rule or rule.text for rule in chain.rules]) for chain in held.chains]
    return held.present, chains, held.about, held.strangers
