"""`meshdns capture` as operators meet it: exit codes, one line for an error, what is printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from namespaces import Namespace, namespace
from other_meshdns import OTHER_OPTIONS, OTHER_RULES, other_meshdns

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import install as apply_install
from meshdns.capture.apply.install import new_record
from meshdns.capture.policy.settings import from_settings
from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.system import runner
from meshdns.capture.system.namespace import locked
from meshdns.init.cli import run
from meshdns.init.version import VERSION

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

MESHDNS = str(Path(sys.executable).with_name("meshdns"))


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str


class Pod:
    """A namespace and the capture commands in it, with a resolv.conf of its own."""

    def __init__(self, place: Namespace, resolv_conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self.resolv_conf = resolv_conf
        self._capsys = capsys

    def capture(self, command: str, *arguments: str) -> Outcome:
        """Run a command of the group in the pod, within this process."""
        options = ["--resolv-conf", str(self.resolv_conf)] if command in {"plan", "install"} else []
        code = self.place.call(lambda: run(["capture", command, *options, *arguments]))
        return Outcome(code, *self._capsys.readouterr())


@pytest.fixture(scope="module", autouse=True)
def the_machine_itself() -> Iterator[None]:
    """Whatever is done here in namespaces, the one that the tests run in keeps its rules."""
    before = _own_rules()
    yield
    assert _own_rules() == before


def _own_rules() -> str:
    return subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def pod(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Pod]:
    for variable in [name for name in os.environ if name.startswith("MESHDNS_")]:
        monkeypatch.delenv(variable)
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 10.96.0.10\nnameserver 10.96.0.11\nsearch a b\n")
    with namespace() as place:
        yield Pod(place, resolv_conf, capsys)


def test_the_life_of_an_installation(pod: Pod) -> None:
    """Installed, installed again, drifted, mended, removed: each command says so, and by its exit code."""
    assert pod.capture("status").out == "nothing is installed\n"
    assert pod.capture("status", "--check").code == 10
    assert pod.capture("diff").code == 10
    assert "installed for ipv4" in pod.capture("install").out
    assert "nothing to change" in pod.capture("install").out
    assert pod.capture("status", "--check").code == 0
    assert pod.capture("diff") == Outcome(0, "", "")
    pod.place.run("nft", "flush", "table", "inet", "meshdns")
    emptied = pod.capture("status", "--check")
    assert (emptied.code, emptied.out.splitlines()[0][:19]) == (10, "emptied by somebody")
    assert json.loads(pod.capture("status", "--json").out)["installed"] is False
    assert pod.capture("install").code == 0
    assert pod.capture("status", "--check").code == 0
    assert "removed" in pod.capture("uninstall").out
    assert pod.capture("uninstall").out == "nothing was installed\n"
    assert pod.place.ruleset() == ""


def _replacing(outcome: Outcome) -> list[str]:
    return [line for line in outcome.out.splitlines() if line.startswith(("changed", "nothing to change", "removed"))]


def test_a_second_install_says_what_it_changes(pod: Pod) -> None:
    """Against what it replaces, in the words of the options; what is installed first, or once more, changes nothing."""
    assert _replacing(pod.capture("install", "--proxy-uid", "995")) == []
    assert _replacing(pod.capture("install", "--proxy-uid", "995")) == ["nothing to change: it is installed already"]
    assert _replacing(pod.capture("install", "--backend", "nft")) == ["changed: proxy-uid 995 -> 1337"]
    pod.resolv_conf.write_text("nameserver 10.96.0.10\n")
    assert _replacing(pod.capture("install")) == ["changed: dns-servers 10.96.0.10,10.96.0.11 -> 10.96.0.10"]
    named = ("install", "--dns-servers", "resolv-conf,10.96.0.10")
    assert _replacing(pod.capture(*named)) == ["changed: dns-servers asked for by address none -> 10.96.0.10"]
    assert _replacing(pod.capture(*named)) == ["nothing to change: it is installed already"]
    assert _replacing(pod.capture("install")) == ["changed: dns-servers asked for by address 10.96.0.10 -> none"]
    pod.place.run("nft", "flush", "chain", "inet", "meshdns", "nat")
    assert _replacing(pod.capture("install")) == ["changed: no option; rules or routes were not as they should be"]
    pod.place.run("nft", "flush", "table", "inet", "meshdns")
    assert _replacing(pod.capture("install")) == [
        "changed: it cannot be told what, because what was there had no record"
    ]


@pytest.mark.parametrize(("old", "new"), [("nft", "iptables-legacy"), ("iptables-nft", "nft")])
def test_what_another_backend_held_is_replaced_too(pod: Pod, old: str, new: str) -> None:
    """An install with another backend says so, and what else is different from what the other one held."""
    pod.capture("install", "--backend", old)
    assert _replacing(pod.capture("install", "--backend", new, "--pool-rest", "direct")) == [
        f"changed: pool-rest reject -> direct, backend {old} -> {new}",
        f"removed what was installed with {old}",
    ]


def test_what_another_version_installed_is_named(pod: Pod, tmp_path: Path) -> None:
    """The version is named where it planned other rules, planned these, or recorded what this one cannot read."""
    options = ("install", "--resolv-conf", str(pod.resolv_conf))
    same = other_meshdns(tmp_path / "same", "0.0.8")
    older = other_meshdns(tmp_path / "older", "0.0.9", *OTHER_RULES)
    newer = other_meshdns(tmp_path / "newer", "9.9.9", *OTHER_OPTIONS)
    same.capture(pod.place, *options)
    assert _replacing(pod.capture("install")) == ["nothing to change: it is installed already by meshdns 0.0.8"]
    older.capture(pod.place, *options)
    explained = pod.capture("explain", "--uid", "1000", "--proto", "udp", "--dst", "10.96.0.10", "--dport", "53")
    assert f"planned by meshdns 0.0.9: going by those of {VERSION}" in explained.err
    assert _replacing(pod.capture("install")) == [f"changed: meshdns 0.0.9 -> {VERSION}"]
    newer.capture(pod.place, *options)
    assert "installed by meshdns 9.9.9, whose record this version cannot read" in pod.capture("status").out
    assert json.loads(pod.capture("status", "--json").out)["version"] == "9.9.9"
    traced = pod.place.run(MESHDNS, "capture", "trace", check=False)
    assert (traced.returncode, "recorded by meshdns 9.9.9 in a form of its own: run " in traced.stderr) == (3, True)
    explained = pod.capture("explain", "--uid", "1000", "--proto", "udp", "--dst", "10.96.0.10", "--dport", "53")
    assert "recorded by meshdns 9.9.9 in a form of its own: going by options and defaults" in explained.err
    assert pod.capture("diff").out == "recorded by meshdns 9.9.9 in a form of its own\n"
    assert _replacing(pod.capture("install")) == [
        f"changed: meshdns 9.9.9 -> {VERSION}, and options that only the former can read"
    ]
    assert pod.capture("status", "--check").code == 0


def test_diff_shows_what_is_missing_and_what_is_too_much(pod: Pod) -> None:
    """`diff` prints expected rules with a minus and live ones with a plus, by chain and id."""
    pod.capture("install")
    pod.place.run("nft", "flush", "chain", "inet", "meshdns", "zone")
    pod.place.run("nft", "insert", "rule", "inet", "meshdns", "nat", "counter", "accept")
    shown = pod.capture("diff")
    assert shown.code == 10
    assert "- zone: zone-dns-4: " in shown.out
    assert '+ nat: {"comment":null,"expr":[{"counter":null},{"accept":null}]}' in shown.out


def test_options_replace_what_was_recorded(pod: Pod) -> None:
    """`status` and `diff` measure against the recorded configuration, or against the one given."""
    pod.capture("install", "--dns-port", "5300")
    assert pod.capture("diff").code == 0
    assert pod.capture("diff", "--dns-port", "5301", "--dns-servers", "10.96.0.10").code == 10


TIMEOUTS = {
    "less than a second": ("nft", "0.5", "3", "timeout 500ms", "timeout 3s"),
    "less than a second asked for": ("nft", "3", "0.1", "timeout 3s", "timeout 100ms"),
    "within the same second": ("nft", "1.5", "1.25", "timeout 1s500ms", "timeout 1s250ms"),
    "by iptables": ("iptables-nft", "3", "5", "(for 3 s)", "(for 5 s)"),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_timeout_is_told_in_full(pod: Pod, name: str) -> None:
    """A timeout other than that of the options is drift, and both are told in full, though nft lists no fraction."""
    backend, installed, asked, live, expected = TIMEOUTS[name]
    pod.capture("install", "--backend", backend, "--heartbeat-timeout", installed)
    assert pod.capture("diff").out == ""
    options = ("--heartbeat-timeout", asked, "--resolv-conf", str(pod.resolv_conf))
    shown = pod.capture("diff", *options)
    assert shown.code == 10
    assert [(line[0], expected in line, live in line) for line in shown.out.splitlines()] == [
        ("-", True, False),
        ("+", False, True),
    ]
    failed = pod.capture("verify", "--rules-only", *options)
    assert failed.code == 126
    assert expected in failed.out
    assert live in failed.out


def test_a_fraction_is_no_difference_of_its_own(pod: Pod) -> None:
    """What else is different is told without the rule whose time the listing cuts short."""
    pod.capture("install", "--heartbeat-timeout", "1.5")
    pod.place.run("nft", "flush", "chain", "inet", "meshdns", "zone")
    shown = pod.capture("diff").out
    assert "- zone: zone-dns-4: " in shown
    assert "timeout" not in shown


def test_status_for_programs(pod: Pod) -> None:
    """`status --json` is one JSON document with the installation, its heartbeat and its counters."""
    assert json.loads(pod.capture("status", "--json").out)["installed"] is False
    pod.capture("install")
    document = json.loads(pod.capture("status", "--json").out)
    assert document["installed"] is True
    assert document["drift"] == []
    assert document["heartbeat"] == {"ipv4": {"alive": False, "closed": 0}}
    assert document["spec"]["dns_servers"] == ["10.96.0.10", "10.96.0.11"]
    assert {"chain": "nat", "id": "nat-dns-4", "packets": 0, "bytes": 0} in document["rules"]


@pytest.mark.parametrize("form", ["text", "json", "nft"])
def test_plan_changes_nothing(pod: Pod, form: str) -> None:
    """`plan` prints in each form and leaves the kernel as it was; so does `install --dry-run`."""
    assert "nat-dns-4" in pod.capture("plan", "--format", form).out
    assert "nat-dns-4" in pod.capture("install", "--dry-run").out
    assert pod.place.ruleset() == ""


def test_a_plan_for_nft_is_an_installation(pod: Pod) -> None:
    """What `plan --format nft` prints, `nft -f` loads, and `status` recognises."""
    pod.place.run("nft", "-f", "-", stdin=pod.capture("plan", "--format", "nft", "--pool-rest", "direct").out)
    assert pod.capture("status", "--check").code == 0
    assert "loaded by hand" in pod.capture("status").out


def test_plan_and_explain_need_no_privilege(pod: Pod) -> None:
    """Without any capability `plan` works, and `explain` goes by options and defaults and says so."""
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", MESHDNS, "capture"]
    options = ["--resolv-conf", str(pod.resolv_conf)]
    assert "nat-dns-4" in pod.place.run(*without, "plan", *options).stdout
    pod.capture("install", "--exclude-uid", "1000")
    explained = pod.place.run(*without, "explain", *LEASE, "--family", "ipv4")
    assert explained.stdout.startswith("redirect 15001\nnat-out-4\n")
    unread = pod.place.run(*without, "explain", *LEASE)
    assert unread.stdout.startswith("redirect 15001\nnat-out-4\n")
    assert "going by options and defaults" in unread.stderr


LOOKUP = ["--proto", "udp", "--dst", "10.96.0.10", "--dport", "53"]
LEASE = ["--uid", "1000", "--proto", "tcp", "--dst", "240.240.0.1", "--dport", "80"]
EXPLAINED = {
    "a lookup": (["--uid", "1000", *LOOKUP], "redirect 15053\nnat-dns-4\n"),
    "without a resolver": (["--uid", "1000", *LOOKUP, "--resolver", "down"], "direct\n-\n"),
    "another server": (["--uid", "1000", "--proto", "tcp", "--dst", "9.9.9.9", "--dport", "53"], "direct\n-\n"),
    "the proxy": (["--uid", "1337", *LOOKUP], "direct\nnat-proxy-uid\n"),
    "its group": (["--uid", "9", "--gid", "1337", *LOOKUP], "direct\nnat-proxy-gid\n"),
    "a lease": (LEASE, "redirect 15001\nnat-out-4\n"),
    "a ping": (["--uid", "1000", "--proto", "icmp", "--dst", "240.240.0.1", "--dport", "1"], "reject\nrest-pool-4\n"),
    "loopback": (["--uid", "1000", "--proto", "tcp", "--dst", "127.0.0.1", "--dport", "80"], "direct\nnat-local-4\n"),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_explain(pod: Pod, name: str) -> None:
    """`explain` prints verdict, rule and reason of one packet, by the installed configuration."""
    arguments, expected = EXPLAINED[name]
    pod.capture("install")
    shown = pod.capture("explain", *arguments)
    assert shown.code == 0
    assert shown.out.startswith(expected)
    document = json.loads(pod.capture("explain", *arguments, "--json").out)
    assert list(document) == ["verdict", "port", "rule", "reason"]
    assert expected.startswith(document["verdict"])


STUB = ["--proto", "tcp", "--dst", "127.0.0.53", "--dport", "53"]
PASSED_BY = {
    "a lookup": (LOOKUP, "direct\n-\n", "nat-dns-4"),
    "a lookup at a server on this machine": (STUB, "direct\nnat-local-4\n", "nat-dns-4"),
    "a connection to a pool that is left alone": (LEASE[2:], "direct\n-\n", "nat-out-4"),
}


@pytest.mark.parametrize("name", PASSED_BY)
def test_explain_names_the_rule_that_waits_for_the_resolver(pod: Pod, name: str) -> None:
    """What a rule would redirect but for a resolver that is down goes direct for that reason, and for no other."""
    packet, expected, rule_id = PASSED_BY[name]
    pod.capture("install", "--dns-servers", "10.96.0.10,127.0.0.53", "--pool-rest", "direct")
    shown = pod.capture("explain", "--uid", "1000", *packet, "--resolver", "down").out
    reason = f"the resolver is down: while it is up, {rule_id} redirects this"
    assert shown == f"{expected}{reason}\n"
    told = json.loads(pod.capture("explain", "--uid", "1000", *packet, "--resolver", "down", "--json").out)
    assert (told["verdict"], told["reason"]) == ("direct", reason)
    for other in (["--uid", "1337", *packet], ["--uid", "1000", "--proto", "tcp", "--dst", "9.9.9.9", "--dport", "53"]):
        assert "resolver is down" not in pod.capture("explain", *other, "--resolver", "down").out


def test_explain_tells_what_it_assumes(pod: Pod) -> None:
    """Where the fate hangs on the resolver and nobody said how it is, the text says what was assumed."""
    pod.capture("install")
    assumed = "assumed: the resolver is up"
    assert assumed in pod.capture("explain", "--uid", "1000", *LOOKUP).out
    assert assumed not in pod.capture("explain", "--uid", "1000", *LOOKUP, "--resolver", "up").out
    assert assumed not in pod.capture("explain", "--uid", "1337", *LOOKUP).out
    assert assumed not in pod.capture("explain", "--uid", "1000", *LOOKUP, "--json").out


def test_explain_names_the_servers_that_are_captured(pod: Pod) -> None:
    """A lookup at a server that no rule captures is told with those that are."""
    pod.capture("install")
    elsewhere = ("--proto", "udp", "--dst", "192.0.2.99", "--dport", "53")
    last = pod.capture("explain", "--uid", "1000", *elsewhere).out.splitlines()[-1]
    assert last.startswith("captured nameservers: ")
    assert LOOKUP[3] in last


REFUSED = {
    "a port": (["--dns-port", "70000"], "'70000' is not a port"),
    "one port twice": (["--dns-port", "15001"], "--outbound-port 15001: --dns-port is 15001 as well"),
    "host bits": (["--outbound-cidr", "10.0.0.1/8"], "write 10.0.0.0/8"),
    "an interface": (["--exclude-interface", "a b"], "'a b' is not an interface name"),
    "a wildcard": (["--exclude-interface", "eth*"], "'eth*'"),
    "a user": (["--proxy-uid", "nobody-is-called-so"], "there is no user 'nobody-is-called-so'"),
    "a time": (["--heartbeat-timeout", "0"], "'0' is out of range"),
    "a short time": (["--heartbeat-timeout", "0.01"], "'0.01' is out of range: give seconds from 0.1"),
    "a server": (["--dns-servers", "ns1.example"], "'ns1.example' is not an IP address"),
    "a mark": (["--proxy-mark", "0"], "'0' is not a mark"),
    "a mark in Python's spelling": (["--proxy-mark", "1_3"], "'1_3' is not a mark"),
    "a choice": (["--on-resolver-down", "ajar"], "ajar"),
    "all groups and some": (["--owner-group", "all,5"], "--owner-group all"),
    "all servers and some": (["--dns-servers", "all,1.1.1.1"], "--dns-servers all"),
    "all servers and listed ones": (["--dns-servers", "resolv-conf", "--dns-servers", "all"], "--dns-servers all"),
    "nothing": (["--exclude-uid", ""], "empty"),
    "an unknown option": (["--dns-prot", "53"], "--dns-port"),
    "a pid": (["--netns", "pid:x"], "pid:x"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(pod: Pod, name: str) -> None:
    """Exit 2 and one line with option, value and reason; the kernel is not even looked at."""
    arguments, text = REFUSED[name]
    refused = pod.capture("install", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert text in refused.err
    assert refused.err.count("\n") == 1
    assert pod.place.ruleset() == ""


def test_a_format_that_nobody_has_is_a_usage_error(pod: Pod) -> None:
    """A form that `plan` does not know is refused, naming those it knows."""
    refused = pod.capture("plan", "--format", "yaml")
    assert refused.code == 2
    assert "nft" in refused.err


def test_a_missing_nft_is_told(pod: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the program: exit 3, and which package holds it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runner, "BESIDES_PATH", ())
    refused = pod.capture("install", "--backend", "nft")
    assert refused.code == 3
    assert refused.err == "meshdns: cannot run nft: it is not on PATH: install the package nftables\n"


def test_a_missing_privilege_is_told(pod: Pod) -> None:
    """Without CAP_NET_ADMIN: exit 3, one line, and what to do."""
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    options = ["--resolv-conf", str(pod.resolv_conf), "--backend", "nft"]
    for command in (["install", *options], ["status"], ["uninstall"]):
        done = pod.place.run(*without, MESHDNS, "capture", *command, check=False)
        assert done.returncode == 3, done.stdout
        assert "CAP_NET_ADMIN is missing" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--resolv-conf", "/nonexistent"], "/nonexistent: No such file or directory"),
        (["--netns", "no-such-namespace"], "'no-such-namespace'"),
        (["--netns", "/etc/hostname"], "not a network namespace"),
        (["--netns", "pid:4194304"], "/proc/4194304"),
        (["--dns-servers", "all"], "give --family"),
    ],
)
def test_what_is_not_there_is_told(pod: Pod, arguments: list[str], text: str) -> None:
    """What the machine does not have: exit 3 and one line that names it."""
    refused = pod.capture("install", *arguments)
    assert refused.code == 3
    assert text in refused.err
    assert refused.err.count("\n") == 1


def test_another_namespace_is_entered_and_left(pod: Pod) -> None:
    """`--netns PATH` works on that namespace and on no other."""
    with namespace() as other:
        assert pod.capture("install", "--netns", other.path).code == 0
        assert "table inet meshdns" in other.ruleset()
        assert pod.place.ruleset() == ""
        assert pod.capture("status", "--check").code == 10
        assert pod.capture("status", "--check", "--netns", other.path).code == 0


def test_a_named_namespace_and_a_process(pod: Pod) -> None:
    """`--netns NAME` is `ip netns`' name, `pid:N` a process's namespace."""
    name = f"mdt-{os.getpid()}"
    pod.place.run("ip", "netns", "add", name)
    try:
        assert pod.capture("install", "--netns", name).code == 0
        assert pod.capture("status", "--check", "--netns", name).code == 0
    finally:
        pod.place.run("ip", "netns", "delete", name)
    with namespace() as other, other.running("sleep", "60") as process:
        assert pod.capture("install", "--netns", f"pid:{process.pid}").code == 0
        assert "table inet meshdns" in other.ruleset()


def test_two_at_a_time(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one command changes the rules, another waits, and then gives up with exit 3."""
    monkeypatch.setattr("meshdns.capture.system.namespace.LOCK_WAIT_S", 0.2)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locked():
            held.set()
            release.wait(10)

    holder = threading.Thread(target=lambda: pod.place.call(hold))
    holder.start()
    assert held.wait(10)
    refused = pod.capture("install")
    assert refused.code == 3
    assert "another meshdns" in refused.err
    with namespace() as other:
        assert pod.capture("install", "--netns", other.path).code == 0  # a lock is one namespace's
    release.set()
    holder.join()
    assert pod.capture("install").code == 0


def test_settings_from_the_environment_and_a_file(pod: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flag, then variable, then file: the same names everywhere."""
    file = tmp_path / "capture.yaml"
    file.write_text("dns-port: 5301\noutbound-port: 5302\nexclude-uid: [5, 6]\n")
    monkeypatch.setenv("MESHDNS_CAPTURE_DNS_PORT", "5300")
    planned = json.loads(pod.capture("plan", "--format", "json", "--config", str(file), "--inbound-port", "5303").out)
    assert [planned["spec"][name] for name in ("dns_port", "outbound_port", "inbound_port", "exclude_uids")] == [
        5300,
        5302,
        5303,
        [5, 6],
    ]


def test_istios_setting_keeps_dns_rules_out(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ISTIO_META_DNS_CAPTURE "false" nothing of port 53 is installed, and `install` says so."""
    monkeypatch.setenv("ISTIO_META_DNS_CAPTURE", "false")
    shown = pod.capture("install", "--family", "ipv4")
    assert shown.code == 0
    assert "no DNS rules: ISTIO_META_DNS_CAPTURE in the environment is false\n" in shown.out
    assert "dport 53" not in pod.place.ruleset()
    assert "redirect to :15001" in pod.place.ruleset()
    assert pod.capture("status", "--check").code == 0


SERVERS = {
    "listed": ("nameserver 10.0.0.1\nnameserver fd00::1\n", ["10.0.0.1", "fd00::1"]),
    "all count": ("".join(f"nameserver 10.0.0.{n}\n" for n in range(1, 6)), [f"10.0.0.{n}" for n in range(1, 6)]),
    "none": ("search a\n", ["127.0.0.1", "::1"]),
    "zeroes": ("nameserver 0.0.0.0\n", ["127.0.0.1"]),
    "scoped": ("nameserver fe80::1%eth0\n", ["fe80::1%eth0"]),
    "twice": ("nameserver 10.0.0.1\nnameserver 10.0.0.1\n", ["10.0.0.1"]),
}


@pytest.mark.parametrize("name", SERVERS)
def test_nameservers_come_from_resolv_conf(pod: Pod, name: str) -> None:
    """All nameserver lines count, in order; none means this machine's own."""
    text, expected = SERVERS[name]
    pod.resolv_conf.write_text(text)
    planned = json.loads(pod.capture("plan", "--format", "json", "--family", "both").out)
    assert planned["spec"]["dns_servers"] == expected


def test_a_nameserver_that_is_none_is_warned_of(pod: Pod) -> None:
    """A line of resolv.conf that cannot be used is a warning with its line."""
    pod.resolv_conf.write_text("nameserver 10.0.0.1\nnameserver ten.zero\n")
    planned = pod.capture("plan")
    assert planned.code == 0
    assert "ten.zero" in planned.err


def test_a_relative_path_is_remembered_from_the_root(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """`watch` may follow resolv.conf from another directory than the one `install` was run in."""
    monkeypatch.chdir(pod.resolv_conf.parent)
    planned = json.loads(pod.capture("plan", "--format", "json", "--resolv-conf", pod.resolv_conf.name).out)
    assert planned["spec"]["resolv_conf"] == str(pod.resolv_conf)


FAMILIES = {
    "a listed server": ([], "nameserver fd00::1\n", ["ipv6"]),
    "an address": (["10.0.0.2/24"], "nameserver fd00::1\n", ["ipv4", "ipv6"]),
    "link-local does not count": (["fe80::7/64"], "nameserver 10.0.0.1\n", ["ipv4"]),
    "own address only": (["fd00::7/64"], "nameserver fd00::1\n", ["ipv6"]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_those_in_use(pod: Pod, name: str) -> None:
    """`--family auto`: each with an address besides loopback and link-local, or a listed nameserver."""
    addresses, resolv_conf, expected = FAMILIES[name]
    for address in addresses:
        pod.place.run("ip", "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
    pod.resolv_conf.write_text(resolv_conf)
    planned = json.loads(pod.capture("plan", "--format", "json").out)
    assert planned["spec"]["families"] == expected


def test_an_install_runs_nft_twice_and_nothing_else(pod: Pod, tmp_path: Path) -> None:
    """Change, read back, where nothing was; one reading when nothing has to change; read, change, read back."""
    log = tmp_path / "runs"
    wrapper = tmp_path / "nft"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shutil.which("nft")} "$@"\n')
    wrapper.chmod(0o755)
    options = ["--resolv-conf", str(pod.resolv_conf), "--backend", "nft"]
    for more, runs in (([], 2), ([], 2 + 1), (["--dns-port", "53000"], 2 + 1 + 3)):
        # No other program can be found on this PATH.
        pod.place.run("env", f"PATH={tmp_path}", sys.executable, MESHDNS, "capture", "install", *options, *more)
        assert len(log.read_text().splitlines()) == runs


@pytest.mark.parametrize(
    ("main", "other"),
    [("iptables-legacy", "nft"), ("iptables-nft", "nft"), ("iptables-nft", "iptables-legacy")],
)
def test_two_dialects_at_once_are_drift(pod: Pod, main: str, other: str) -> None:
    """Where an installation by another backend stands beside one, every command says so, and `install` mends it."""
    pod.capture("install", "--backend", other)
    held = json.loads(pod.capture("status", "--json").out)["spec"]
    pod.place.call(lambda: _install_beside(main, from_settings(held)))
    also = f"also installed with {other}: `meshdns capture install`, with the options that are to stay, removes it"
    status = pod.capture("status", "--check")
    assert (status.code, f"\n{also}\n" in status.out) == (10, True)
    assert json.loads(pod.capture("status", "--json").out)["drift"] == [also]
    assert pod.capture("diff") == Outcome(10, f"{also}\n", "")
    given = pod.capture("diff", "--pool-rest", "direct", "--resolv-conf", str(pod.resolv_conf))
    assert (given.code, given.out.splitlines()[-1]) == (10, also)
    verified = pod.capture("verify", "--rules-only")
    assert (verified.code, also in verified.out) == (126, True)
    assert also in pod.capture("explain", "--uid", "1000", *LOOKUP).err
    assert f"removed what was installed with {other}\n" in pod.capture("install").out
    assert pod.capture("status", "--check").code == 0
    assert pod.capture("verify", "--rules-only").code == 0


def _install_beside(backend: str, wanted: CaptureSpec) -> None:
    """Install as one does that is killed before it removes what another backend holds."""
    made = BACKENDS[backend]()
    apply_install(made, new_record(wanted, made, VERSION, 1))


def test_what_cannot_be_read_beside_an_installation_is_drift(
    pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of ours that nobody here can show is told by the program that it takes."""
    pod.capture("install", "--backend", "nft")
    held = json.loads(pod.capture("status", "--json").out)["spec"]
    pod.place.call(lambda: _install_beside("iptables-legacy", from_settings(held)))
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runner, "BESIDES_PATH", ())
    status = pod.capture("status", "--check")
    assert (status.code, "also installed with nft: " in status.out) == (10, True)
