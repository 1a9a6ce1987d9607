"""What iptables-save shows of our chains is read back as it was written, and nothing that anybody writes stops us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from capture_cases import CASES, FOR_IPTABLES
from capture_strategies import SPECS
from capturing import spec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from namespaces import Namespace, namespace

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.compare import Condition, compare, differences
from meshdns.capture.dialects.iptables.arguments import arguments, understand
from meshdns.capture.dialects.iptables.entry import expand, join
from meshdns.capture.dialects.iptables.parse import parse, visible
from meshdns.capture.dialects.iptables.save import line_of, read_tables
from meshdns.capture.dialects.observed import NOTHING
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import LeaveAlone, Match, Protocol, Rule, among, among_networks, among_ports
from meshdns.capture.policy.spec import CaptureSpec, Family, Ports

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture(scope="module")
def there(request: pytest.FixtureRequest) -> Iterator[tuple[Namespace, str]]:
    """Give all tests one namespace: each replaces what the one before it loaded.

    The text is the same in both variants; what only one would say otherwise, `test_fates.py` finds.
    """
    with namespace() as made:
        yield made, getattr(request, "param", "legacy")


def _load(there: tuple[Namespace, str], wanted: CaptureSpec) -> None:
    pod, variant = there
    pod.call(lambda: BACKENDS[f"iptables-{variant}"]().replace(plan(wanted), ("YWJj", "ZGVm"), NOTHING, 0))


def _condition(there: tuple[Namespace, str], wanted: CaptureSpec) -> tuple[Condition, tuple[str, ...]]:
    pod, variant = there
    backend = BACKENDS[f"iptables-{variant}"]()
    held = pod.call(backend.read)
    return compare(visible(plan(wanted)), held), differences(plan(wanted), held, backend)


@ROOT
@pytest.mark.parametrize("case", FOR_IPTABLES)
def test_named_configurations_come_back(there: tuple[Namespace, str], case: str) -> None:
    """Reading gives the rules that were written, in order, with their ids, and the comments beside them."""
    _load(there, CASES[case])
    assert _condition(there, CASES[case]) == (Condition.SAME, ())
    pod, variant = there
    assert pod.call(BACKENDS[f"iptables-{variant}"]().read).about == ("YWJj", "ZGVm")


@pytest.mark.root  # ids of all sizes, see FOR_IPTABLES
@pytest.mark.timeout(300)
@pytest.mark.parametrize("there", ["legacy", "nft"], indirect=True)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(wanted=SPECS)
def test_any_configuration_comes_back(there: tuple[Namespace, str], wanted: CaptureSpec) -> None:
    """The law: parse(kernel(render(rules))) gives the rules back, whatever the configuration."""
    assume(wanted.heartbeat_timeout_s == int(wanted.heartbeat_timeout_s))
    _load(there, wanted)
    assert _condition(there, wanted) == (Condition.SAME, ())


IDS = st.lists(st.integers(0, 2**32 - 2) | st.integers(0, 9), min_size=1, max_size=40, unique=True)
PORTS = st.lists(
    st.tuples(st.integers(1, 65535), st.integers(0, 99)).map(lambda pair: Ports(pair[0], min(sum(pair), 65535))),
    min_size=1,
    max_size=40,
)
NETWORKS = st.lists(
    st.ip_addresses(v=4, network="10.0.0.0/8").map(lambda address: f"{address}/32"), min_size=1, max_size=5
)
MATCHES = st.builds(
    lambda uids, gids, marks, networks, ports, negated: Match(
        family=Family.IPV4,
        uid=among(uids, negated=negated[0]),
        gid=among(gids, negated=negated[1]),
        mark=among(marks, negated=negated[2]),
        destination=among_networks(map(ip_network, networks)),
        protocols=(Protocol.TCP, Protocol.UDP),
        destination_ports=among_ports(ports, negated=negated[3]),
    ),
    st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=3, unique=True),
    IDS,
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True),
    NETWORKS,
    PORTS,
    st.tuples(*[st.booleans()] * 4),
)


@settings(max_examples=60, deadline=None)
@given(match=MATCHES)
def test_a_rule_of_many_values_is_one_again(match: Match) -> None:
    """However many entries a rule becomes, printed and read they are that rule."""
    rule = Rule("x", "", match, LeaveAlone())
    assume(len(entries := expand(rule, Family.IPV4)) < 500)
    read = [understand(Family.IPV4, arguments(entry, "x", 3)) for entry in entries]
    assert join("x", [found.entry for found in read if found]) == rule


def test_no_entry_has_more_ports_than_it_can_hold() -> None:
    """A multiport match has 15 places, and a range takes two."""
    ports = among_ports(Ports(n, n + (n % 3 == 0)) for n in range(1, 200, 3))
    rule = Rule("x", "", Match(protocols=(Protocol.TCP,), destination_ports=ports), LeaveAlone())
    for entry in expand(rule, Family.IPV4):
        words = arguments(entry, "x", None)
        assert len(words[words.index("--dports") + 1].replace(":", ",").split(",")) <= 15


FOREIGN = {
    "a rule without a comment": "-A {nat} -j ACCEPT",
    "a rule of other words": "-A {nat} -p tcp -m tcp --tcp-flags SYN,ACK SYN -m comment --comment nat-x -j RETURN",
    "a rule with a limit": "-A {nat} -m limit --limit 1/sec -m comment --comment x -j RETURN",
    "a part of the connection's mark": "-A {nat} -m connmark --mark 0x1/0x7 -m comment --comment x -j RETURN",
    "a redirect with a flag": "-A {nat} -p tcp -m comment --comment x -j REDIRECT --to-ports 6 --random",
    "a redirect to two ports": "-A {nat} -p tcp -m comment --comment x -j REDIRECT --to-ports 6-7",
    "another list": "-A {nat} -m recent --name other --rcheck --seconds 3600 --rdest --mask 0.0.0.0 "
    "-m comment --comment x -j RETURN",
    "another list's side": "-A {nat} -m recent --name meshdns --rcheck --seconds 3600 --rsource --mask 0.0.0.0 "
    "-m comment --comment x -j RETURN",
    "a part of a mark": "-A {nat} -m mark --mark 1/3 -m comment --comment x -j RETURN",
    "a fragment": "-A {nat} -f -m comment --comment x -j RETURN",
    "a range of users": "-A {nat} -m owner --uid-owner 5-4000000000 -m comment --comment x -j RETURN",
    "a jump to a chain of others": ":OTHER - [0:0]\n-A {nat} -m comment --comment x -j OTHER",
    "a chain": ":MESHDNS_OTHER - [0:0]",
    "a chain of another generation": ":MESHDNS_NAT_9 - [0:0]",
    "a second jump": "-A OUTPUT -m comment --comment meshdns -j {nat}",
    "a jump from elsewhere": ":OTHER - [0:0]\n-A OTHER -j {nat}",
    "a jump that asks for more": "-I OUTPUT 1 -p udp -m comment --comment meshdns -j {nat}",
    "a rule above the jump": '-I OUTPUT 1 -m comment --comment "some \\"body\\" else\'s" -j ACCEPT',
}


@ROOT
@pytest.mark.parametrize("name", FOREIGN)
def test_what_somebody_else_wrote_is_foreign(there: tuple[Namespace, str], name: str) -> None:
    """Whatever is added by hand is seen, told, and gone (or below our jump) with the next replacement."""
    _load(there, spec())
    pod, variant = there
    nat = next(word for word in pod.run(f"iptables-{variant}-save").stdout.split() if word.startswith(":MESHDNS_NAT"))
    pod.run(
        f"iptables-{variant}-restore", "--noflush", stdin=f"*nat\n{FOREIGN[name].replace('{nat}', nat[1:])}\nCOMMIT\n"
    )
    condition, drift = _condition(there, spec())
    assert condition is Condition.FOREIGN
    assert drift
    _load(there, spec())
    assert _condition(there, spec()) == (Condition.SAME, ())
    pod.run(f"iptables-{variant}", "-t", "nat", "-F", "OUTPUT")


CHANGES = {
    "a rule less": "-D {nat} 1",
    "a rule twice": "-A {nat} -o lo -m comment --comment nat-local-4 -j RETURN",
    "a rule in another place": "-D {nat} -o lo -m comment --comment nat-local-4 -j RETURN\n"
    "-I {nat} 1 -o lo -m comment --comment nat-local-4 -j RETURN",
}


@ROOT
@pytest.mark.parametrize("name", CHANGES)
def test_rules_of_ours_that_are_other_ones_are_stale(there: tuple[Namespace, str], name: str) -> None:
    """A rule too few, too many or in another place is not the same, though each could be ours."""
    _load(there, spec())
    pod, variant = there
    nat = next(word for word in pod.run(f"iptables-{variant}-save").stdout.split() if word.startswith(":MESHDNS_NAT"))
    text = f"*nat\n{CHANGES[name].replace('{nat}', nat[1:])}\nCOMMIT\n"
    pod.run(f"iptables-{variant}-restore", "--noflush", stdin=text)
    condition, drift = _condition(there, spec())
    assert condition in {Condition.STALE, Condition.FOREIGN}
    assert drift


@ROOT
def test_a_family_without_its_rules_is_stale(there: tuple[Namespace, str]) -> None:
    """Rules that are gone in one family are missed, though the other has them."""
    _load(there, spec())
    pod, variant = there
    pod.run(f"ip6tables-{variant}", "-t", "raw", "-F")
    condition, drift = _condition(there, spec())
    assert condition is not Condition.SAME
    assert any("zone-dns-6" in line for line in drift)


WORDS = st.lists(
    st.sampled_from(["-j", "-m", "!", "-p", "tcp", "--dport", "53", "comment", "--comment", "x", "REDIRECT", "RETURN"])
    | st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=6),
    max_size=12,
)


@given(st.lists(st.tuples(st.sampled_from(["MESHDNS_NAT_1", "OUTPUT", "MESHDNS_ABOUT_1"]), WORDS), max_size=6))
def test_any_listing_is_read(rules: list[tuple[str, list[str]]]) -> None:
    """A listing of another version or another hand is read, whatever it says."""
    lines = [f"-A {chain} {' '.join(words)}" for chain, words in rules]
    text = "\n".join(["*nat", ":OUTPUT ACCEPT [0:0]", ":MESHDNS_NAT_1 - [0:0]", *lines, "COMMIT"])
    found = parse({Family.IPV4: read_tables(text)})
    assert found.present
    assert all(rule.rule is None or rule.rule.id for chain in found.chains for rule in chain.rules)


@given(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=9), max_size=5))
def test_words_survive_quoting(words: list[str]) -> None:
    """Whatever can be printed is one word again when it is read."""
    assume(all(word.isprintable() for word in words))
    text = f"*nat\n-A X {line_of(words)}\nCOMMIT"
    assert read_tables(text)["nat"].rules[0].words == tuple(words)


def test_what_no_line_can_hold_is_refused() -> None:
    """A line's end within a word would begin another command."""
    with pytest.raises(ValueError, match="no way to write"):
        line_of(["x\n-F"])


def test_nothing_of_ours_is_nothing() -> None:
    """Others' tables are not read as ours."""
    table = "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m comment --comment meshdns -j ACCEPT\nCOMMIT"
    assert parse(dict.fromkeys(Family, read_tables(table))) == NOTHING
