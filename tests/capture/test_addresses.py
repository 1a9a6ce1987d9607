"""However an address is written, by an option, in resolv.conf or by a program, it is where the kernel sends packets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from capturing import EVERYWHERE, LINKED, LISTED, OUTSIDE, POD, TRIED, Probe, World, servers, serving, spec, world
from namespaces import Namespace, namespace
from proving import capture

from meshdns.capture.policy.ruleset import Protocol

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

WRITTEN = {
    "mapped": ("::ffff:10.96.0.10", "10.96.0.10"),
    "mapped, in hex": ("::FFFF:0a60:a", "10.96.0.10"),
    "zeroes": ("0.0.0.0", "127.0.0.1"),
    "IPv6's zeroes": ("::", "::1"),
    "mapped zeroes": ("::ffff:0.0.0.0", "127.0.0.1"),
    "written long": ("fd00:0:0::00:1", "fd00::1"),
    "a name for a zone": ("fe80::53%eth0", "fe80::53%eth0"),
    "a number for a zone": ("fe80::53%500", "fe80::53%eth0"),
    "a number that is a name": ("fe80::53%7", "fe80::53%7"),
    "a number of nothing": ("fe80::53%77", "fe80::53%77"),
}
UNKNOWN = "nameserver fe80::53%77 is captured nowhere: no interface has the number 77"


def _veth(place: Namespace, name: str, peer: str) -> None:
    place.run("ip", "link", "add", name, "index", "500", "type", "veth", "peer", "name", peer)


@pytest.fixture(scope="module")
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        _veth(made, "eth0", "7")
        yield made


@pytest.mark.parametrize("name", WRITTEN)
def test_an_option_and_resolv_conf_mean_the_same(pod: Namespace, tmp_path: Path, name: str) -> None:
    """A nameserver is the same one wherever it is written, and one that no interface leads to is warned of."""
    text, expected = WRITTEN[name]
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {text}\n")
    for given in ("resolv-conf", text, f"{text},resolv-conf"):
        options = ("--family", "both", "--resolv-conf", str(file), "--dns-servers", given)
        planned = capture(pod, "plan", "--format", "json", *options)
        assert json.loads(planned.stdout)["spec"]["dns_servers"] == [expected]
        assert planned.stderr.count(UNKNOWN) == (text == "fe80::53%77")


def test_a_number_is_one_of_the_namespace_that_is_entered(pod: Namespace) -> None:
    """With `--netns` a zone's number names an interface there, whatever has it where the command was started."""
    with namespace() as other:
        _veth(other, "other0", "other1")
        options = ("--family", "both", "--netns", other.path, "--dns-servers", "fe80::53%500")
        planned = capture(pod, "plan", "--format", "json", *options)
    assert json.loads(planned.stdout)["spec"]["dns_servers"] == ["fe80::53%other0"]


def test_a_zone_of_many_digits_is_refused(pod: Namespace, tmp_path: Path) -> None:
    """A zone that no interface can have is told as such, however long it is."""
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver fe80::53%{'9' * 5000}\n")
    refused = capture(pod, "plan", "--family", "both", "--resolv-conf", str(file), check=False)
    assert (refused.returncode, "an interface name has 1 to 15" in refused.stderr) == (2, True)


CAPTURED = (LISTED[0], "127.0.0.1", "::1", "fe80::53")
OWN = "fe80::2"
"""A link-local address of the pod's on one link, and of its neighbour's on another."""
SENT = {
    "a mapped nameserver": (f"::ffff:{LISTED[0]}", 53, None, "redirect 15053"),
    "a mapped address outside": (f"::ffff:{OUTSIDE[0]}", 80, None, "redirect 15001"),
    "zeroes": ("0.0.0.0", 53, None, "redirect 15053"),
    "zeroes from an address": ("0.0.0.0", 53, POD[0], "direct"),
    "IPv6's zeroes": ("::", 53, None, "redirect 15053"),
    "mapped zeroes": ("::ffff:0.0.0.0", 53, None, "redirect 15053"),
    "a nameserver on a link": (LINKED, 53, None, "redirect 15053"),
    "a web server on a link": (LINKED, 80, None, "redirect 15001"),
    "by the number of the link": ("fe80::53%500", 53, None, "redirect 15053"),
    "an address of this machine on a link": (f"{OWN}%eth0", 80, None, "direct"),
    "the same on another link": (f"{OWN}%eth1", 80, None, "redirect 15001"),
}


@pytest.fixture(scope="module", params=TRIED)
def there(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give a pod with a second link, where its neighbour has the address that the pod has on the first."""
    with world(backend=request.param) as made:
        pair = ("type", "veth", "peer", "name", "eth1", "netns", made.outside.path)
        made.pod.run("ip", "link", "add", "eth1", "index", "500", *pair)
        for place, holder in ((made.pod, "eth0"), (made.outside, "eth1")):
            place.run("sysctl", "-qw", "net.ipv6.conf.eth1.accept_dad=0")
            place.run("ip", "link", "set", "eth1", "up")
            place.run("ip", "address", "add", f"{OWN}/64", "dev", holder, "nodad")
        with serving(made.pod, [(f"{OWN}%eth0", 80, "direct")]):
            made.install(spec(dns_servers=servers(*CAPTURED), outbound_cidrs=EVERYWHERE))
            made.beat()
            yield made


@pytest.mark.parametrize("name", SENT)
def test_explain_says_what_becomes_of_it(there: World, name: str) -> None:
    """`explain` names the fate that a packet to the address has in the kernel."""
    destination, port, source, expected = SENT[name]
    asked = ("--uid", "1000", "--proto", "tcp", "--dst", destination, "--dport", str(port))
    explained = capture(there.pod, "explain", *asked, *(("--src", source) if source else ()))
    assert explained.stdout.splitlines()[0] == expected
    sent = destination.replace("%500", "%eth1")
    fate, redirected = there.send(Probe(name, sent, port, Protocol.TCP, source=source))
    assert " ".join((fate.value, *([str(redirected)] if redirected else []))) == expected


def test_explain_says_where_it_goes_instead(there: World) -> None:
    """An address that stands for another is told with that one; the document for programs stays as it is."""
    asked = ("explain", "--uid", "1000", "--proto", "udp", "--dst", f"::ffff:{LISTED[0]}", "--dport", "53")
    assert f"\npackets to that address go to {LISTED[0]}\n" in capture(there.pod, *asked).stdout
    assert list(json.loads(capture(there.pod, *asked, "--json").stdout)) == ["verdict", "port", "rule", "reason"]


def test_explain_says_that_it_takes_an_interface(there: World) -> None:
    """No packet leaves for a link-local address without an interface: what is assumed of one is told, only there."""
    asked = ("explain", "--uid", "1000", "--proto", "udp", "--dport", "53", "--dst")
    assumed = "assumed: an interface that no rule names; its sender must name one: "
    assert f"{assumed}fe80::53%eth0\n" in capture(there.pod, *asked, "fe80::53").stdout
    for arguments in (("fe80::53%eth0",), ("fe80::53", "--out-interface", "eth0"), (LISTED[1],), (OWN,)):
        assert assumed not in capture(there.pod, *asked, *arguments).stdout


def test_explain_goes_one_way(there: World) -> None:
    """A zone and an option that name the same interface agree, also by number; with different ones exit 2 says so."""
    asked = ("explain", "--uid", "1000", "--proto", "udp", "--dst", "fe80::53%500", "--dport", "53", "--out-interface")
    assert capture(there.pod, *asked, "eth1").returncode == 0
    refused = capture(there.pod, *asked, "eth0", check=False)
    assert (refused.returncode, refused.stderr.count("--out-interface eth0: --dst is on eth1")) == (2, 1)
