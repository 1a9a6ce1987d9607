"""The watch puts back what others remove, follows resolv.conf and `install`, and lets `uninstall` have its way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from capturing import LINKED, SPEC, TRIED, Probe, servers, spec, world
from namespaces import Namespace, namespace, veth
from other_meshdns import OTHER_OPTIONS, OTHER_RULES, other_meshdns
from proving import MESHDNS, capture, delete_rules

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import inspect, install, new_record, recorded
from meshdns.capture.apply.watch import Watch, _look, watch
from meshdns.capture.dialects.iptables.backend import Programs
from meshdns.capture.dialects.iptables.transaction import IptablesBackend
from meshdns.capture.dialects.nft.backend import NftBackend
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.errors import ApplyError
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Fate
from meshdns.capture.policy.spec import PoolRest, Server
from meshdns.capture.system import scope
from meshdns.capture.system.events import RoutingEvents
from meshdns.init.version import VERSION

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

BACKEND = NftBackend()
WITHIN_S = 5.0
"""Half of the time after which the watch would look without an event."""
LOOKS_S = 1.5
"""Time enough for a watch that has something to put back, or nameservers to follow: three looks at resolv.conf."""


@dataclass(frozen=True, slots=True)
class Place:
    """A pod with capture installed for what a resolv.conf of its own lists."""

    pod: Namespace
    resolv_conf: Path

    @property
    def options(self) -> tuple[str, ...]:
        return ("--resolv-conf", str(self.resolv_conf), "--family", "both")

    def install(self, *options: str) -> None:
        capture(self.pod, "install", *self.options, *options)

    def rules(self) -> str:
        """Return our table without what changes by itself."""
        done = self.pod.run("nft", "-s", "-t", "list", "table", "inet", "meshdns", check=False)
        return done.stdout

    def write(self, *addresses: str) -> None:
        """Replace resolv.conf by rename, as everybody who writes it does."""
        new = self.resolv_conf.with_suffix(".new")
        new.write_text("".join(f"nameserver {address}\n" for address in addresses), encoding="utf-8")
        new.replace(self.resolv_conf)

    @contextlib.contextmanager
    def watched(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the watch, from when it says that it watches."""
        with self.pod.running(MESHDNS, "capture", "watch") as process:
            assert process.stdout
            assert b"watching" in process.stdout.readline()
            yield process
            process.terminate()
            process.wait(WITHIN_S)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with namespace() as pod:
        made = Place(pod, tmp_path / "resolv.conf")
        made.write("10.96.0.10")
        made.install()
        yield made


def _eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def _lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield what a watch logs, line by line, and nothing of drift; the test's time limit ends a wait for nothing."""
    assert process.stdout
    return (line for raw in process.stdout if "drift: " not in (line := raw.decode()))


def _delete_a_rule(place: Place) -> None:
    delete_rules(place.pod, "nat-dns-4")


DAMAGES: dict[str, Callable[[Place], object]] = {
    "everything flushed": lambda place: place.pod.run("nft", "flush", "ruleset"),
    "table deleted": lambda place: place.pod.run("nft", "delete", "table", "inet", "meshdns"),
    "table flushed": lambda place: place.pod.run("nft", "flush", "table", "inet", "meshdns"),
    "a rule deleted": _delete_a_rule,
    "a rule above ours": lambda place: place.pod.run("nft", "insert", "rule", "inet", "meshdns", "nat", "accept"),
    "a stranger in our table": lambda place: place.pod.run("nft", "add", "chain", "inet", "meshdns", "other"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_puts_back_what_somebody_else_did(place: Place, damage: str) -> None:
    """Whatever is done to our rules: they are as they were, and the log says by whom and what."""
    before = place.rules()
    with place.watched() as process:
        DAMAGES[damage](place)
        assert _eventually(lambda: place.rules() == before)
        process.send_signal(signal.SIGTERM)
        log = process.communicate()[0].decode()
    assert "putting them back" in log
    assert "by nft (pid " in log


def test_puts_back_what_a_firewall_reload_flushes_again_and_again(place: Place, tmp_path: Path) -> None:
    """A reload that begins with `flush ruleset` keeps its own rules, and ours are there beside them, each time."""
    saved = tmp_path / "nftables.conf"
    saved.write_text(
        "flush ruleset\ntable inet firewall {\n chain input {\n type filter hook input priority 0\n }\n }\n"
    )
    before = place.rules()
    with place.watched():
        for _ in range(3):
            place.pod.run("nft", "-f", str(saved))
            assert _eventually(lambda: place.rules() == before)
            assert "table inet firewall" in place.pod.ruleset()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_puts_back_rules_of_iptables(variant: str) -> None:
    """What is flushed of iptables is put back too: seen by an event, or in legacy tables by looking twice a second."""
    program, backend = f"iptables-{variant}", BACKENDS[f"iptables-{variant}"]()
    with namespace() as pod:
        capture(pod, "install", "--backend", backend.name, "--dns-servers", "10.96.0.10", "--family", "ipv4")
        with pod.running(MESHDNS, "capture", "watch") as process:
            assert process.stdout
            assert f"backend {backend.name}".encode() in process.stdout.readline()
            pod.run(program, "-w", "5", "-t", "nat", "-F")
            assert b"putting them back" in process.stdout.readline()
            assert _eventually(lambda: pod.call(lambda: inspect(backend)).condition is Condition.SAME)
            process.terminate()
            process.wait(WITHIN_S)


class Timed(IptablesBackend):
    """The backend of legacy tables, which notes when it was read, and asks to be stopped after a few times."""

    def __init__(self, stop: int) -> None:
        super().__init__("iptables-legacy", Programs("legacy"))
        self._stop = stop
        self.readings: list[tuple[float, float]] = []

    def read(self) -> Observed:
        began = time.monotonic()
        held = super().read()
        self.readings.append((began, time.monotonic()))
        if len(self.readings) == READINGS:
            os.write(self._stop, b".")
        return held


READINGS = 6


def test_legacy_tables_are_read_twice_a_second() -> None:
    """What waits between two readings leaves half of the second for reading what was flushed and writing it anew."""
    options = ("--backend", "iptables-legacy", "--dns-servers", "10.96.0.10", "--family", "ipv4")
    reader, writer = os.pipe()
    with namespace() as pod, os.fdopen(reader) as stop, os.fdopen(writer, "w"):
        capture(pod, "install", *options)
        backend = Timed(writer)
        known = pod.call(lambda: recorded(backend, "watch"))
        backend.readings.clear()
        pod.call(lambda: watch(Watch(backend, known, lambda _: None, known.version, known=known), stop))
    waits = [began - ended for (_, ended), (began, _) in itertools.pairwise(backend.readings)]
    assert len(waits) == READINGS - 1
    assert min(waits) < 0.6  # the kernel's timer, and 0.1 s to spare; what this machine is busy with makes it longer


ON_A_LINK = ("--family", "both", "--dns-servers", "fe80::53%eth0")
BY_ANY_LINK = ("--family", "both", "--dns-servers", "all")
STEERED = ("--family", "both", "--dns-servers", "all", "--inbound-ports", "*", "--inbound-mode", "tproxy")
REROUTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "the link flaps": (ON_A_LINK, ("link set eth0 down", "link set eth0 up")),
    "any link flaps": (BY_ANY_LINK, ("link set eth1 down", "link set eth1 up")),
    "the route is deleted": (ON_A_LINK, ("-6 route delete local ::1 dev eth0 table local",)),
    "IPv6 is off for a while": (ON_A_LINK, ("link set eth0 mtu 1200", "link set eth0 mtu 1500")),
    "rules of TPROXY are deleted": (STEERED, ("rule delete table 133", "-6 rule delete table 133")),
    "its IPv4 routes are flushed": (STEERED, ("route flush table 133",)),
    "its IPv6 routes are flushed": (STEERED, ("-6 route flush table 133",)),
    "its address is deleted": (STEERED, ("address delete ::6/128 dev lo",)),
}


@pytest.fixture
def linked() -> Iterator[Namespace]:
    """Give a pod with two links."""
    with namespace() as pod, namespace() as outside:
        for name in ("eth0", "eth1"):
            veth(pod, name, [], outside, name, [])
        yield pod


@contextlib.contextmanager
def _watched(pod: Namespace) -> Iterator[Iterator[str]]:
    """Run a watch that has just put everything back: but for an event it will not look again before long."""
    with pod.running(MESHDNS, "capture", "watch") as process:
        lines = _lines_of(process)
        assert "watching" in next(lines)
        pod.run("nft", "delete", "table", "inet", "meshdns")
        assert "the rules are gone" in next(lines)
        assert _eventually(lambda: _is_in_order(pod))
        yield lines
        process.terminate()
        process.wait(WITHIN_S)


def _is_in_order(pod: Namespace) -> bool:
    return capture(pod, "status", "--check", check=False).returncode == 0


def _routing(pod: Namespace) -> list[str]:
    """Return all that routing holds in the pod; where lines stand in a list depends on when they came."""
    shown = [("rule",), ("-6", "rule"), ("route", "show", "table", "all"), ("-6", "route", "show", "table", "all")]
    return sorted(line for words in shown for line in pod.run("ip", *words).stdout.splitlines())


@pytest.mark.parametrize("name", REROUTED)
def test_puts_back_what_routing_has_lost(linked: Namespace, name: str) -> None:
    """What the kernel drops with a link, or somebody removes by hand, is back long before the watch would look."""
    options, damages = REROUTED[name]
    capture(linked, "install", *options)
    before = _routing(linked)
    with _watched(linked) as lines:
        for damage in damages:
            linked.run("ip", *damage.split())
        assert _eventually(lambda: _routing(linked) == before)
        assert _is_in_order(linked)
        told = next(lines)
        # Links are told as such, but for a change that falls between a look and what is done about it.
        assert "routing was changed" in told or ("links have changed" in told and options is not STEERED)


@pytest.mark.parametrize("name", REROUTED)
def test_without_a_watch_what_is_lost_is_told(linked: Namespace, name: str) -> None:
    """Where nobody watches, `diff` has it, and another `install` puts it back."""
    options, damages = REROUTED[name]
    capture(linked, "install", *options)
    before = _routing(linked)
    for damage in damages:
        linked.run("ip", *damage.split())
    assert _eventually(lambda: capture(linked, "diff", check=False).returncode == 10)
    capture(linked, "install", *options)
    assert _eventually(lambda: _routing(linked) == before)


def test_follows_links_that_come_and_go(linked: Namespace) -> None:
    """A link that appears while every server is captured gets a route to ::1; one that goes takes its own along."""
    capture(linked, "install", *BY_ANY_LINK)
    with _watched(linked):
        linked.run("ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1")
        for name in ("late0", "late1"):
            linked.run("ip", "link", "set", name, "up")
        assert _eventually(lambda: linked.call(scope.reachable) == {"eth0", "eth1", "late0", "late1"})
        linked.run("ip", "link", "delete", "late0")
        assert _eventually(lambda: linked.call(scope.reachable) == {"eth0", "eth1"})
        assert _is_in_order(linked)


@pytest.mark.parametrize("backend", TRIED)
def test_lookups_by_a_link_that_flapped_are_captured_again(backend: str) -> None:
    """What a connected socket sends to a nameserver on the link reaches the resolver again, by any backend."""
    lookups = [Probe(protocol.value, LINKED, 53, protocol) for protocol in (Protocol.UDP, Protocol.TCP)]
    with world(backend=backend) as there:
        there.install(spec(dns_servers=servers(LINKED)))
        there.beat()

        def are_captured() -> bool:
            with contextlib.suppress(OSError):  # no address yet, or no route
                return [there.send(probe) for probe in lookups] == [(Fate.REDIRECT, there.dns_port)] * len(lookups)
            return False

        assert are_captured()
        with there.pod.running(MESHDNS, "capture", "watch") as process:
            assert "watching" in next(_lines_of(process))
            there.pod.run("ip", "link", "set", "eth0", "down")
            assert not are_captured()
            there.pod.run("ip", "link", "set", "eth0", "up")
            assert _eventually(are_captured)


IRRELEVANT = ("route add 192.0.2.0/24 dev eth0", "-6 route add 2001:db8::/32 dev eth0", "-6 route delete 2001:db8::/32")
RELEVANT = (
    "route delete local 192.0.2.1 dev eth0 table 7",
    "-6 rule add fwmark 7 lookup 7",
    "-6 rule delete fwmark 7",
    "link set eth0 down",
    "address add 2001:db8::1/64 dev lo nodad",
    "address delete 2001:db8::1/64 dev lo",
)


def test_only_what_may_be_ours_is_an_event(linked: Namespace) -> None:
    """Routes of others come and go in a router, thousands of them: they make nobody look."""
    linked.run("ip", "route", "add", "local", "192.0.2.1", "dev", "eth0", "table", "7")
    with linked.call(RoutingEvents) as events:
        for command in IRRELEVANT:
            linked.run("ip", *command.split())
            assert not events.drain(), command
        for command in RELEVANT:
            linked.run("ip", *command.split())
            assert events.drain() == (" rule add " not in command), command


def test_what_is_lost_of_events_may_be_ours(linked: Namespace) -> None:
    """When more was told than the socket holds, that counts as an event of ours."""
    with linked.call(RoutingEvents) as events:
        command = "".join(f"route add blackhole 10.{n // 256}.{n % 256}.0/24\n" for n in range(10_000))
        linked.run("ip", "-batch", "-", stdin=command)
        assert events.drain()
        assert not events.drain()


def test_follows_resolv_conf(place: Place) -> None:
    """When resolv.conf lists other nameservers, those are captured instead, and the record says so."""
    with place.watched():
        place.write("10.96.0.99", "fd00::99")
        assert _eventually(lambda: "10.96.0.99" in place.rules() and "fd00::99" in place.rules())
        assert "10.96.0.10 " not in place.rules()
    assert capture(place.pod, "status", "--check").returncode == 0


CHANGED_BEFORE: dict[str, tuple[tuple[str, ...], tuple[str, ...], set[str]]] = {
    "it lists fewer": ((), ("10.96.0.10",), {"10.96.0.10"}),
    "it lists others": ((), ("10.96.0.12",), {"10.96.0.12"}),
    "fewer, and one is named": (("10.9.9.9",), ("10.96.0.10",), {"10.96.0.10", "10.9.9.9"}),
    "others, and one is named": (("10.9.9.9",), ("10.96.0.12",), {"10.96.0.12", "10.9.9.9"}),
    "one is listed and named, then only named": (("10.96.0.11",), ("10.96.0.10",), {"10.96.0.10", "10.96.0.11"}),
}


@pytest.mark.parametrize("name", CHANGED_BEFORE)
def test_follows_a_resolv_conf_that_changed_before_it_began(place: Place, name: str) -> None:
    """What resolv.conf no longer lists is let go, and what was asked for by address stays, also after a restart."""
    named, now, captured = CHANGED_BEFORE[name]
    place.write("10.96.0.10", "10.96.0.11")
    place.install("--dns-servers", ",".join(("resolv-conf", *named)))
    place.write(*now)
    for _ in range(2):
        with place.watched():
            assert _eventually(lambda: _captured(place) == captured)
            assert _is_in_order(place.pod)
    place.write("10.96.0.13")
    with place.watched():
        assert _eventually(lambda: _captured(place) == {"10.96.0.13", *named})


def _captured(place: Place) -> set[str]:
    return set(json.loads(capture(place.pod, "status", "--json").stdout)["spec"]["dns_servers"])


def test_follows_another_install(place: Place) -> None:
    """What `install` puts in place while the watch runs is what the watch keeps from then on."""
    with place.watched():
        place.install("--on-resolver-down", "closed")
        closed = place.rules()
        time.sleep(0.5)
        place.pod.run("nft", "flush", "ruleset")
        assert _eventually(lambda: place.rules() == closed)


VERSIONS = {"other rules": OTHER_RULES, "other options": OTHER_OPTIONS}


@pytest.mark.parametrize("difference", VERSIONS)
def test_leaves_an_upgrade_alone(place: Place, tmp_path: Path, difference: str) -> None:
    """What another version installs beside the watch stays as it is, gone or not; that is told once, with the fix."""
    newer = other_meshdns(tmp_path / "newer", "9.9.9", *VERSIONS[difference])
    with place.watched() as process:
        lines = _lines_of(process)
        newer.capture(place.pod, "install", *place.options, "--pool-rest", "direct")
        upgraded = place.rules()
        told = next(lines)
        assert "planned by meshdns 9.9.9" in told
        assert "restart the watch with 9.9.9, or run `meshdns capture install` with " in told
        # Every change of anybody's makes the watch look again; it has looked when it tells the next thing.
        place.pod.run("nft", "add", "table", "inet", "others")
        place.write("10.96.0.99")
        time.sleep(LOOKS_S)
        assert place.rules() == upgraded
        place.pod.run("nft", "delete", "table", "inet", "meshdns")
        assert "the rules of meshdns 9.9.9 are gone" in next(lines)
        assert place.rules() == ""
        place.install()
        ours = place.rules()
        assert f"no longer leaving the rules alone: installed by meshdns {VERSION}" in next(lines)
        assert "following another configuration" in next(lines)
        place.pod.run("nft", "delete", "table", "inet", "meshdns")
        assert "the rules are gone" in next(lines)
        assert _eventually(lambda: place.rules() == ours)


def test_leaves_alone_what_it_finds_of_another_version(place: Place, tmp_path: Path) -> None:
    """A watch that begins over rules that it would plan otherwise touches none, and says what to do."""
    other_meshdns(tmp_path / "older", "0.0.1", *OTHER_RULES).capture(place.pod, "install", *place.options)
    old = place.rules()
    with place.watched() as process:
        assert "planned by meshdns 0.0.1" in next(_lines_of(process))
        assert place.rules() == old


def test_unreadable_is_not_absent(place: Place, tmp_path: Path) -> None:
    """Where only another version can read what is installed, the watch says so and does not begin."""
    other_meshdns(tmp_path / "newer", "9.9.9", *OTHER_OPTIONS).capture(place.pod, "install", *place.options)
    done = capture(place.pod, "watch", check=False)
    assert (done.returncode, "recorded by meshdns 9.9.9" in done.stderr) == (3, True)


def test_keeps_what_another_version_plans_alike(place: Place, tmp_path: Path) -> None:
    """Rules and record of a version that plans as this one does are followed and put back as they were."""
    newer = other_meshdns(tmp_path / "newer", "9.9.9")
    with place.watched() as process:
        lines = _lines_of(process)
        newer.capture(place.pod, "install", *place.options, "--pool-rest", "direct")
        upgraded = place.rules()
        assert "following another configuration: installed by meshdns 9.9.9" in next(lines)
        place.pod.run("nft", "flush", "ruleset")
        assert _eventually(lambda: place.rules() == upgraded)


def test_another_version_is_followed_only_from_good_order(place: Place) -> None:
    """What differs where another version's record is first seen may be its own way; once in order it is kept so."""
    known = place.pod.call(lambda: inspect(BACKEND)).record
    assert known
    there = Watch(BACKEND, known, lambda _: None, known.version, known=known)
    newer = new_record(replace(known.spec, pool_rest=PoolRest.DIRECT), BACKEND, "9.9.9", 1)

    place.pod.call(lambda: install(BACKEND, newer))
    delete_rules(place.pod, "nat-dns-4")
    place.pod.call(there.look)
    assert _left_to(there) == "9.9.9"
    assert place.pod.call(lambda: inspect(BACKEND)).condition is Condition.STALE

    place.pod.call(lambda: install(BACKEND, newer))
    place.pod.call(there.look)
    assert (_left_to(there), there.wanted) == (None, newer)
    delete_rules(place.pod, "nat-dns-4")
    place.pod.call(there.look)
    assert place.pod.call(lambda: inspect(BACKEND)).condition is Condition.SAME


def test_follows_another_install_that_was_damaged_at_once(place: Place) -> None:
    """Of an install and a damage that are seen together, the install counts: its rules are put back, not older ones."""
    known = place.pod.call(lambda: inspect(BACKEND)).record
    assert known
    there = Watch(BACKEND, known, lambda _: None, known.version, known=known)
    place.install("--pool-rest", "direct")
    delete_rules(place.pod, "nat-dns-4")
    place.pod.call(there.look)
    found = place.pod.call(lambda: inspect(BACKEND))
    assert found.record
    assert (found.condition, found.record.spec.pool_rest) == (Condition.SAME, PoolRest.DIRECT)


def _left_to(there: Watch) -> str | None:
    """Return it as it is now: a type checker believes that what was asserted of an attribute stays so."""
    return there.left_to


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
def test_follows_to_another_backend(place: Place, backend: str) -> None:
    """An install with another backend beside the watch is kept there, and nothing comes back where it was before."""
    with place.watched() as process:
        lines = _lines_of(process)
        place.install("--backend", backend)
        assert f"following the rules to backend {backend}" in next(lines)
        place.pod.run(backend, "-w", "5", "-t", "nat", "-F")
        assert "putting them back" in next(lines)
        assert _eventually(lambda: place.pod.call(lambda: inspect(BACKENDS[backend]())).condition is Condition.SAME)
        assert place.rules() == ""


BESIDE = [
    ("iptables-nft", "nft"),
    ("iptables-legacy", "nft"),
    ("iptables-legacy", "iptables-nft"),
    ("nft", "iptables-nft"),
]
"""What holds the last install, and what holds an older one again: by a transaction that the kernel tells of."""


@pytest.mark.parametrize(("last", "restored"), BESIDE)
def test_what_is_restored_beside_the_rules_is_removed(place: Place, last: str, restored: str) -> None:
    """An older install of ours that a saved ruleset brings back in another dialect goes, and the last one stays."""
    place.install("--backend", restored, "--pool-rest", "direct")
    saved = _Saved.of(place.pod, restored)
    place.install("--backend", last)
    with place.watched() as process:
        lines = _lines_of(process)
        for _ in range(2):
            saved.restore()
            assert f"also installed with {restored}, by " in next(lines)
            assert _eventually(lambda: _is_in_order(place.pod))
            assert place.pod.call(lambda: inspect(BACKENDS[restored]())).condition is Condition.ABSENT
    record = place.pod.call(lambda: inspect(BACKENDS[last]())).record
    assert record
    assert record.spec.pool_rest is PoolRest.REJECT


def test_what_another_version_holds_beside_the_rules_is_left_alone(place: Place, tmp_path: Path) -> None:
    """It may be an upgrade under way: that is told once, with the way out, and each keeps its own."""
    other = other_meshdns(tmp_path / "newer", "9.9.9", *OTHER_RULES)
    other.capture(place.pod, "install", *place.options)
    saved, rules = _Saved.of(place.pod, "nft"), place.rules()
    place.install("--backend", "iptables-nft")
    with place.watched() as process:
        lines = _lines_of(process)
        saved.restore()
        told = next(lines)
        assert "nft holds rules of meshdns 9.9.9 beside those of iptables-nft: leaving them alone" in told
        assert "`meshdns capture install`, with the options that are to stay, removes them" in told
        place.pod.run("iptables-nft", "-w", "5", "-t", "nat", "-F")
        assert "putting them back" in next(lines)
        iptables = BACKENDS["iptables-nft"]()
        assert _eventually(lambda: place.pod.call(lambda: inspect(iptables)).condition is Condition.SAME)
        assert place.rules() == rules
        place.install("--backend", "iptables-nft")
        assert place.rules() == ""


@pytest.mark.parametrize("last", ["nft", "iptables-legacy"])
@pytest.mark.parametrize("begins_with", ["nft", "iptables-legacy"])
def test_of_two_installs_the_later_is_followed(last: str, begins_with: str) -> None:
    """Whichever a watch begins with: an `install` that was killed before it removed the former is completed."""
    records = {
        name: new_record(spec(pool_rest=rest), BACKENDS[name](), VERSION, 2 if name == last else 1)
        for name, rest in (("nft", PoolRest.REJECT), ("iptables-legacy", PoolRest.DIRECT))
    }
    record = records[begins_with]
    there = Watch(BACKENDS[begins_with](), record, lambda _: None, VERSION, known=record)
    with namespace() as pod:
        for name, each in records.items():
            pod.call(lambda name=name, each=each: install(BACKENDS[name](), each))  # type: ignore[misc]
        pod.call(there.look)
        held = {name: pod.call(lambda name=name: inspect(BACKENDS[name]())) for name in records}  # type: ignore[misc]
    assert (there.backend.name, there.wanted.spec) == (last, records[last].spec)
    assert [name for name, found in held.items() if found.condition is not Condition.ABSENT] == [last]
    assert held[last].condition is Condition.SAME


def test_other_backends_are_not_read_at_every_look(place: Place) -> None:
    """Legacy tables are read twice a second, but what else there might be only where somebody changed something."""
    saved = _Saved.of(place.pod, "nft")
    place.install("--backend", "iptables-legacy")
    legacy = BACKENDS["iptables-legacy"]()
    known = place.pod.call(lambda: recorded(legacy, "watch"))
    there = Watch(legacy, known, lambda _: None, VERSION, known=known)
    place.pod.call(there.look)
    saved.restore()
    place.pod.call(there.look)
    assert place.rules() != ""
    place.pod.call(lambda: there.look(["nft (pid 17)"]))
    assert place.rules() == ""


@dataclass(frozen=True, slots=True)
class _Saved:
    """Rules as the programs of an operating system save them, and load them again at its start."""

    pod: Namespace
    texts: dict[tuple[str, ...], str]
    """What to give to which program."""

    @classmethod
    def of(cls, pod: Namespace, backend: str) -> _Saved:
        """Save what a backend holds."""
        if backend == "nft":
            return cls(pod, {("nft", "-f", "-"): pod.run("nft", "list", "ruleset").stdout})
        variant = backend.removeprefix("iptables-")
        programs = (f"iptables-{variant}", f"ip6tables-{variant}")
        return cls(pod, {(f"{name}-restore", "--noflush"): pod.run(f"{name}-save").stdout for name in programs})

    def restore(self) -> None:
        for command, text in self.texts.items():
            self.pod.run(*command, stdin=text)


def test_what_it_may_not_read_is_not_absent(place: Place) -> None:
    """Rules that an install put elsewhere, where this watch may not look, are no reason to put older ones back."""
    few = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all")  # legacy tables need CAP_NET_RAW as well
    with place.pod.running(*few, MESHDNS, "capture", "watch") as process:
        lines = _lines_of(process)
        assert "watching" in next(lines)
        place.install("--backend", "iptables-legacy")
        assert "cannot read what iptables holds beside nft: " in next(lines)
        time.sleep(LOOKS_S)
        assert place.rules() == ""


def test_options_of_the_watch_replace_what_another_backend_holds(place: Place) -> None:
    """With options of its own the watch installs with the backend named, and what another one held is removed."""
    legacy = BACKENDS["iptables-legacy"]()
    command = (MESHDNS, "capture", "watch", "--backend", legacy.name, *place.options)
    with place.pod.running(*command) as process:
        lines = _lines_of(process)
        assert "watching" in next(lines)
        assert "the rules are gone" in next(lines)
        assert "installed by the options of this watch" in next(lines)
        assert place.rules() == ""
        assert place.pod.call(lambda: inspect(legacy)).condition is Condition.SAME


def test_follows_the_resolv_conf_of_another_install(place: Place, tmp_path: Path) -> None:
    """An install that names another resolv.conf makes the watch follow that one."""
    other = Place(place.pod, tmp_path / "other.conf")
    other.write("10.96.0.20")
    with place.watched():
        other.install()
        other.write("10.96.0.21")
        assert _eventually(lambda: "10.96.0.21" in place.rules())
        place.write("10.96.0.99")
        time.sleep(LOOKS_S)
        assert "10.96.0.99" not in place.rules()


def test_uninstall_ends_it(place: Place) -> None:
    """What `uninstall` removes stays away, and the watch ends by itself with 0."""
    with place.watched() as process:
        capture(place.pod, "uninstall")
        assert process.wait(WITHIN_S) == 0
    assert place.pod.ruleset() == ""


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_ends_when_asked_to(place: Place, number: signal.Signals, exit_code: int) -> None:
    """A signal ends the watch and leaves the rules."""
    before = place.rules()
    with place.watched() as process:
        process.send_signal(number)
        assert process.wait(WITHIN_S) == exit_code
    assert place.rules() == before


def test_one_watch_is_enough(place: Place) -> None:
    """A second watch of a namespace says so and leaves with 3; after a SIGKILL of the first another may run."""
    with place.watched():
        second = capture(place.pod, "watch", check=False)
        assert (second.returncode, "another" in second.stderr) == (3, True)
    with place.watched():
        pass


def test_nothing_to_watch() -> None:
    """Where nothing is installed there is nothing to put back: exit 3 and how to begin."""
    with namespace() as pod:
        done = capture(pod, "watch", check=False)
    assert (done.returncode, done.stderr.count("meshdns capture install")) == (3, 1)


def _after(there: Watch, listed: tuple[Server, ...]) -> tuple[Server, ...]:
    there.nameservers = lambda _: listed
    there.follow_nameservers()
    there.follow_nameservers()
    return there.wanted.spec.dns_servers


def test_servers_given_by_address_stay() -> None:
    """A server that a record without their origin has besides the listed ones stays, and is recorded as asked for."""
    wanted = spec(dns_servers=servers("10.0.0.1", "10.9.9.9"), resolv_conf="/etc/resolv.conf")
    there = Watch(BACKEND, new_record(wanted, BACKEND, "1", 1), lambda _: None, "1")
    assert _after(there, servers("10.0.0.1")) == servers("10.0.0.1", "10.9.9.9")
    assert _after(there, servers("10.0.0.2")) == servers("10.0.0.2", "10.9.9.9")
    assert there.wanted.spec.named_servers == servers("10.9.9.9")


def test_a_file_that_changed_before_the_watch_began_is_believed() -> None:
    """Where the record does not say what was listed, and resolv.conf lists what was never captured, it says all."""
    wanted = spec(dns_servers=servers("10.0.0.1"), resolv_conf="/etc/resolv.conf")
    there = Watch(BACKEND, new_record(wanted, BACKEND, "1", 1), lambda _: None, "1")
    assert _after(there, servers("10.0.0.2")) == servers("10.0.0.2")


def test_a_file_that_cannot_be_read_or_changes_between_looks_changes_nothing() -> None:
    """Only what two looks in a row find is believed: a file is empty while it is being written."""
    wanted = spec(dns_servers=servers("10.0.0.1"), resolv_conf="/etc/resolv.conf")
    there = Watch(BACKEND, new_record(wanted, BACKEND, "1", 1), lambda _: None, "1")
    for listed in (None, servers("127.0.0.1"), None, servers("10.0.0.7"), servers("127.0.0.1")):
        there.nameservers = lambda _, listed=listed: listed  # type: ignore[misc]
        assert not there.follow_nameservers()
    assert there.wanted.spec == wanted


def test_servers_that_were_listed_by_address_alone_are_not_followed() -> None:
    """Without a resolv.conf in the configuration no file changes what is captured."""
    there = Watch(BACKEND, new_record(SPEC, BACKEND, "1", 1), lambda _: None, "1")
    assert _after(there, servers("10.0.0.7")) == SPEC.dns_servers


class Refusing(NftBackend):
    """The nft backend of a kernel that takes no rules."""

    def replace(self, *_: object) -> None:
        raise ApplyError("cannot load the rules: refused")


def test_a_lasting_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """What keeps rules from being put back is said when it begins and when it is over, not at every try."""
    caplog.set_level("INFO", "meshdns.capture")
    record = new_record(spec(), BACKEND, "1", 1)
    there = Watch(Refusing(), record, lambda _: None, "1", known=record)
    with namespace() as pod:
        assert [pod.call(lambda: _look(there, (), lambda: False)) for _ in range(3)] == [False] * 3
        there.backend = BACKEND
        assert [pod.call(lambda: _look(there, (), lambda: False)) for _ in range(2)] == [True] * 2
    assert [entry.getMessage() for entry in caplog.records] == [
        "the rules are gone: putting them back",
        "cannot load the rules: refused: trying again until it works",
        "it works again",
    ]
