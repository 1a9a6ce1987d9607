"""Watching what is installed: put back what somebody else removed or changed, follow the nameservers of resolv.conf.

Rules are put back, and the routing that they need: the kernel drops our routes with a link that goes down, and a link
that comes up may need one. `Watch` decides what to do at one look; `watch` waits for the kernel's events and for time.

What `uninstall` removes and what `install` puts in place is nobody else's doing: the one dismisses the watch, the other
is taken over, by whatever backend; what other backends hold beside it is removed (`others.py`). Only what another
version of meshdns recorded, and this one would plan otherwise, is left alone: else the watch would put back what an
upgrade has just replaced (docs/adr/0018).
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from meshdns.capture.apply import scopes, steering
from meshdns.capture.apply.backend import BACKENDS, Backend
from meshdns.capture.apply.choice import held_elsewhere, remove_elsewhere
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import Installation, inspect, install, new_record
from meshdns.capture.apply.others import Others
from meshdns.capture.apply.record import Record
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.errors import CaptureError
from meshdns.capture.policy.spec import CaptureSpec, Server
from meshdns.capture.system.events import RoutingEvents, RuleEvents
from meshdns.capture.system.namespace import locked
from meshdns.capture.system.notes import watching

logger = logging.getLogger("meshdns.capture")

TICK_S: Final = 0.5
"""How often resolv.conf is looked at; what is new there must be the same at two looks, or it is half written."""
POLL_S: Final = 0.5
"""How often rules are read that the kernel tells no events of, those of iptables-legacy: with reading and writing them
they are back within a second."""
NET_S: Final = 10.0
"""How often they are read where it does, should an event be lost."""
SETTLE_S: Final = 0.1
"""A reload of a firewall is many transactions, and a link that comes up many events."""
SHOWN: Final = 10
"""Lines of a difference that are logged."""
WITH_EVENTS: Final = frozenset({"nft", "iptables-nft"})


class Readable(Protocol):
    """What can be waited for."""

    def fileno(self) -> int:
        """Return its descriptor."""


Content = tuple[object, ...]
"""What a kernel holds of ours, to be compared with what it held before."""

Nameservers = Callable[[str], tuple[Server, ...] | None]
"""Reads the resolv.conf of that path; None where that cannot be done now."""


@dataclass(slots=True)
class Watch:
    """What is to be there, and how to see to it.

    `wanted` is what `known`, the last record seen in the kernel, and resolv.conf ask for. `known` None: whatever is
    there gives way to `wanted`.
    """

    backend: Backend
    wanted: Record
    nameservers: Nameservers
    version: str
    known: Record | None = None
    said: str = ""
    """The trouble that was logged last and lasts: once for as long as it is the same."""
    left_to: str | None = None
    """The version whose rules are left alone now."""
    _left_because: str = ""
    _in_order: Content | None = None
    """What was read when last all was as it should be: while it is read again, nothing needs to be compared."""
    _others: Others = field(default_factory=Others)
    _listed: tuple[Server, ...] | None = None
    _seen: tuple[Server, ...] | None = None

    def look(self, by: Sequence[str] = ()) -> None:
        """Read the rules; where they are not as they should be, put them back. `by`: who may have changed them."""
        held = self.backend.read()
        is_in_order = self.known == self.wanted and _content(held) == self._in_order and not self.lacks_routing()
        if (is_in_order or self._put_in_order(held, by)) and self._others.are_due(by):
            self._remove_others(by)

    def _put_in_order(self, held: Observed, by: Sequence[str]) -> bool:
        """Make the rules and routing what they should be; returns whether that is for this watch to do."""
        self._in_order = None
        found = self._found(held)
        if self.known and self._leaves_alone(found):
            return False
        if self.known and found.record:
            self._follow(found.record)
        if found.condition is not Condition.SAME and not self.said:
            self._tell(found, by)
        elsewhere = held_elsewhere(self.backend) if self.known is None else {}
        done = install(self.backend, self.wanted, found.held)
        remove_elsewhere(self.backend, elsewhere)
        if self.known is None and (done.changed or elsewhere):
            logger.info("installed by the options of this watch, in the place of what was there")
        elif done.changed and found.condition is Condition.SAME and self.known == self.wanted:
            logger.warning("routing was changed that the rules need: put back")  # between our look and our hand
        self.known = self.wanted
        if found.condition is Condition.SAME and not done.changed:
            self._in_order = _content(found.held)
        return True

    def _remove_others(self, by: Sequence[str]) -> None:
        """Remove what other backends hold beside what is followed, or follow it where it is a later install."""
        later = self._others.remove(self.backend, self.wanted, _by(by))
        if later:
            name, found = later
            self._go_over_to(name)
            if self._put_in_order(found.held, by):
                self._remove_others(by)

    def _go_over_to(self, name: str) -> None:
        logger.info("following the rules to backend %s", name)
        self.backend = BACKENDS[name]()

    def lacks_routing(self) -> bool:
        """Return whether routing is not as the rules need it; reads no rules."""
        spec = self.wanted.spec
        return not self.left_to and bool(scopes.differences(spec) or steering.differences(spec))

    def _tell(self, found: Installation, by: Sequence[str]) -> None:
        """Log what is not as it should be. Links come and go by themselves: that is nobody's mischief."""
        if found.drift and all(scopes.ROUTE in line for line in found.drift):
            logger.info("links have changed, and routes by them follow: %s", "; ".join(found.drift[:SHOWN]))
            return
        what = "the rules are gone" if found.condition is Condition.ABSENT else "the rules were changed"
        if found.drift and set(found.drift) <= set(steering.differences(self.wanted.spec)):
            what = "routing was changed that the rules need"
        logger.warning("%s%s: putting them back", what, _by(by))
        for line in found.drift[:SHOWN]:
            logger.warning("drift: %s", line)

    def _found(self, held: Observed) -> Installation:
        """Return what is installed, and go over to the backend that holds it instead of the one before."""
        found = inspect(self.backend, held)
        elsewhere = held_elsewhere(self.backend) if self.known and found.condition is Condition.ABSENT else {}
        for name, theirs in elsewhere.items():
            self._go_over_to(name)
            return inspect(self.backend, theirs)
        return found

    def _leaves_alone(self, found: Installation) -> bool:
        """Return whether the rules are another version's, or were until they lost their record; says so once."""
        version, because = self._planner(found), ""
        if version:
            own = self.version if self.version != version else f"another build of {self.version}"
            because = (
                f"the rules were planned by meshdns {version}, and this watch is {own}: leaving them alone"
                if found.record or found.planned_by
                else f"the rules of meshdns {version} are gone, and this watch, which is {own}, cannot put them back"
            )
            if because != self._left_because:
                logger.warning(
                    "%s: restart the watch with %s, or run `meshdns capture install` with %s", because, version, own
                )
        elif self.left_to and found.record:
            logger.info("no longer leaving the rules alone: installed by meshdns %s", found.record.version)
        self.left_to, self._left_because = version, because
        return version is not None

    def _planner(self, found: Installation) -> str | None:
        """Return the version whose rules these are, where this one cannot tell whether they are as they should be."""
        if found.planned_by or found.record is None:
            return found.planned_by or self.left_to
        # A version may also write the same rules down in another way: what is first seen in order can be kept in order.
        is_new = found.record.version != self.version and found.record != self.known
        return found.record.version if is_new and found.condition is not Condition.SAME else None

    def _follow(self, recorded: Record) -> None:
        """Want what is recorded in the kernel, where that is not what it was."""
        if self.known and recorded.spec != self.known.spec:
            logger.info("following another configuration: installed by meshdns %s", recorded.version)
            self.wanted, self._listed = recorded, None
        elif recorded.spec == self.wanted.spec:
            self.wanted = recorded
        self.known = recorded

    def follow_nameservers(self) -> bool:
        """Want the nameservers that resolv.conf lists now; returns whether they are others than before."""
        spec = self.wanted.spec
        path = spec.resolv_conf if spec.dns and not self.left_to else None
        listed = self.nameservers(path) if path else None
        settled, self._seen = listed == self._seen, listed
        if listed is None or not settled or listed == self._listed:
            return False
        named = self._named(listed)
        self._listed = listed
        servers = tuple(dict.fromkeys((*listed, *named)))
        return self._want(replace(spec, dns_servers=servers, named_servers=named))

    def _named(self, listed: tuple[Server, ...]) -> tuple[Server, ...]:
        """Return what was asked for by address besides what resolv.conf lists, and so stays."""
        spec = self.wanted.spec
        if spec.named_servers is not None:
            return spec.named_servers
        # An older version recorded no more than the sum: what is in it besides the listed ones was asked for by
        # address, which cannot be told where the file has changed since it was read for `install`.
        before = listed if self._listed is None else self._listed
        tellable = self._listed is not None or set(listed) <= set(spec.dns_servers)
        return tuple(server for server in spec.dns_servers if server not in before) if tellable else ()

    def _want(self, spec: CaptureSpec) -> bool:
        if set(spec.dns_servers) == set(self.wanted.spec.dns_servers):
            return False
        logger.info("%s lists other nameservers: capturing %s", spec.resolv_conf, ", ".join(map(str, spec.dns_servers)))
        for warning in spec.warnings():
            logger.warning("%s", warning)
        self.wanted = new_record(spec, self.backend, self.version, int(time.time()))
        return True


def _by(makers: Sequence[str]) -> str:
    return f", by {' or '.join(makers)}" if makers else ""


def _content(held: Observed) -> Content:
    """Return what was read without what changes by itself: counters and heartbeats."""
    rules = [(chain.name, chain.place, [(each.rule, each.text) for each in chain.rules]) for chain in held.chains]
    return held.about, held.strangers, rules


def watch(there: Watch, stop: Readable) -> None:
    """Keep the rules as they should be until `stop` is readable or `uninstall` removes them.

    PreflightError where another watch is at it, or where events are not ours to see.
    """
    with (
        watching() as dismissed,
        selectors.DefaultSelector() as selector,
        RuleEvents() as rules,
        RoutingEvents() as routing,
    ):
        for source in (stop, rules, routing):
            selector.register(source, selectors.EVENT_READ)
        next_look = 0.0
        logger.info("watching the rules of backend %s", there.backend.name)
        while not dismissed():
            ready = [key.fileobj for key, _ in selector.select(TICK_S)]
            if stop in ready:
                return
            if ready:
                time.sleep(SETTLE_S)
            by = rules.drain()
            is_due = (routing.drain() and there.lacks_routing()) or time.monotonic() >= next_look
            if there.follow_nameservers() or by or is_due:
                waits_for_events = _look(there, by, dismissed) and there.backend.name in WITH_EVENTS
                next_look = time.monotonic() + (NET_S if waits_for_events else POLL_S)


def _look(there: Watch, by: tuple[str, ...], dismissed: Callable[[], bool]) -> bool:
    """Look under the lock, so that nobody else's change is seen half done; returns whether all is well."""
    try:
        with locked():
            if not dismissed():
                there.look(by)
    except CaptureError as error:
        if str(error) != there.said:
            logger.error("%s: trying again until it works", error)  # noqa: TRY400 - its text is all there is to say
        there.said = str(error)
        return False
    if there.said:
        logger.info("it works again")
    there.said = ""
    return True
