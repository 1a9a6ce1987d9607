"""What keeps capture from working is found where it really happens, by all who may see it; mended, by nobody."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from capturing import LISTED
from diagnosing import OPTIONS, ORDINARY, OTHER, RESOLV_CONF, RESOLVED, ids, listening, told, without
from proving import pod

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network and mount namespaces")


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """How to make it so, in shell: what is done to the network and, in a mount namespace, to files; and to mend it."""

    id: str
    level: str
    cause: str = ""
    """What the finding must say."""
    network: str = ""
    files: str = ""
    options: tuple[str, ...] = OPTIONS
    listener: tuple[str, str, int, int] | None = None
    by: tuple[str, ...] = ()
    to_all: bool = True
    """Whether it needs no privilege to be seen."""
    mended_network: str = ""
    mended_files: str = ""
    mended_options: tuple[str, ...] = OPTIONS


def _resolved(upstream: str) -> str:
    """Have the files of a systemd-resolved that asks `upstream`."""
    return (
        f"mkdir -p /run/systemd/resolve; echo nameserver {upstream} >/run/systemd/resolve/resolv.conf\n"
        "touch /run/systemd/resolve/stub-resolv.conf\n"
    )


WITHOUT_NET_ADMIN = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
STUB = f"echo nameserver 127.0.0.53 >{RESOLV_CONF}\n"
STUB_TOO = f"echo nameserver 127.0.0.53 >>{RESOLV_CONF}\n"
NETWORK_MANAGER = f"mkdir /run/NetworkManager; cp {RESOLV_CONF} /run/NetworkManager/no-stub-resolv.conf\n"
AT_THE_STUB = ("udp", "127.0.0.53", 53, RESOLVED)
ALL_INBOUND = (*OPTIONS, "--inbound-ports=*")
SITUATIONS = {
    "root without the capability": Situation(
        id="capability", level="error", by=WITHOUT_NET_ADMIN, cause="CAP_NET_ADMIN", to_all=False
    ),
    "an old kernel": Situation(
        id="kernel-old", level="error", by=("setarch", "--uname-2.6"), cause="the kernel is 2.6"
    ),
    "no program": Situation(id="program-missing", level="error", files=without(), cause="neither nft nor iptables"),
    "rules in both worlds": Situation(
        id="legacy-and-nft",
        level="warning",
        network="iptables-legacy -w 5 -A OUTPUT -j ACCEPT; nft 'table ip x { chain y { accept; }; }'",
        mended_network="nft delete table ip x; nft 'table ip x { set y { type ipv4_addr; flags interval; }; }'",
        to_all=False,
    ),
    "Docker's redirect": Situation(
        id="docker-dns",
        level="warning",
        network="iptables -t nat -N DOCKER_OUTPUT; iptables -t nat -A OUTPUT -d 127.0.0.11 -j DOCKER_OUTPUT",
        mended_network="iptables -t nat -F; iptables -t nat -X",
        to_all=False,
    ),
    "Docker's nameserver": Situation(
        id="docker-dns", level="warning", files=f"echo nameserver 127.0.0.11 >{RESOLV_CONF}"
    ),
    "Istio's rules": Situation(
        id="other-mesh",
        level="warning",
        network="iptables -t nat -N ISTIO_OUTPUT",
        mended_network="iptables -t nat -X; iptables -N ts-input",  # Tailscale's redirect nothing
        cause="Istio",
        to_all=False,
    ),
    "Linkerd's legacy rules": Situation(
        id="other-mesh",
        level="warning",
        network="iptables-legacy -w 5 -t nat -N PROXY_INIT_OUTPUT",
        mended_network="iptables-legacy -w 5 -t nat -X",
        cause="Linkerd",
        to_all=False,
    ),
    "no resolv.conf": Situation(
        id="resolv-conf", level="error", files=f"rm {RESOLV_CONF}", cause="No such file or directory"
    ),
    "a directory as resolv.conf": Situation(
        id="resolv-conf", level="error", files=f"rm {RESOLV_CONF}; mkdir {RESOLV_CONF}", cause="Is a directory"
    ),
    "a resolv.conf that goes round": Situation(
        id="resolv-conf",
        level="error",
        files=f"rm {RESOLV_CONF}; ln -s {RESOLV_CONF} {RESOLV_CONF}",
        cause="Too many levels of symbolic links",
    ),
    "a link to nothing": Situation(
        id="resolv-conf",
        level="error",
        files=f"ln -sf /run/none {RESOLV_CONF}",
        cause="a link to /run/none, which does not exist",
    ),
    "neither resolv.conf nor address": Situation(
        id="resolv-conf",
        level="error",
        network="ip address flush dev eth0",
        files=f"rm {RESOLV_CONF}",
        cause="No such file or directory",
    ),
    "no nameserver": Situation(
        id="resolv-conf", level="warning", files=f"echo 'options ndots:5' >{RESOLV_CONF}", cause="127.0.0.1 and ::1"
    ),
    "a line that is none": Situation(
        id="resolv-conf",
        level="warning",
        files=f"echo nameserver 10.0.0.300 >>{RESOLV_CONF}",
        cause="line 3: cannot use nameserver '10.0.0.300'",
    ),
    "an interface that cannot be": Situation(
        id="resolv-conf",
        level="error",
        files=f"echo nameserver fe80::1%a-name-far-too-long >>{RESOLV_CONF}",
        cause="an interface name has 1 to 15",
    ),
    "a stub of nobody's": Situation(
        id="resolved-stub", level="warning", files=STUB + _resolved(LISTED[0]), cause="nobody listens"
    ),
    "a stub of somebody else's": Situation(
        id="resolved-stub",
        level="warning",
        files=STUB,
        mended_files=STUB + _resolved(LISTED[0]),
        listener=AT_THE_STUB,
        cause="cannot be seen",
    ),
    "D-Bus before DNS": Situation(
        id="nsswitch-bypass",
        level="warning",
        files="echo 'hosts: files resolve dns' >/etc/nsswitch.conf\n" + _resolved("192.0.2.1"),
        mended_files="echo 'hosts: files resolve dns' >/etc/nsswitch.conf",  # nobody is there
        cause="`resolve`",
    ),
    "multicast before DNS": Situation(
        id="nsswitch-bypass",
        level="warning",
        files="echo 'hosts: files mdns4_minimal [NOTFOUND=return] dns' >/etc/nsswitch.conf",
        mended_files="echo 'hosts: files dns mdns4' >/etc/nsswitch.conf",
        cause="names under .local",
    ),
    "this machine's names before DNS": Situation(
        id="nsswitch-bypass",
        level="warning",
        files="echo 'hosts: files myhostname dns' >/etc/nsswitch.conf",
        cause="`myhostname`",
    ),
    "a loop by a stub": Situation(
        id="dns-loop",
        level="error",
        files=STUB_TOO + _resolved(LISTED[0]),
        mended_files=STUB_TOO + _resolved(LISTED[0]),
        mended_options=(*OPTIONS, f"--exclude-uid={RESOLVED}"),
        listener=AT_THE_STUB,
        cause=f"systemd-resolved (at 127.0.0.53) forwards to {LISTED[0]}",
    ),
    "a loop by dnsmasq": Situation(
        id="dns-loop",
        level="error",
        files=f"mkdir /run/dnsmasq; cp {RESOLV_CONF} /run/dnsmasq; echo nameserver 127.0.0.1 >>{RESOLV_CONF}",
        mended_files=f"mkdir /run/dnsmasq; mv {RESOLV_CONF} /run/dnsmasq; echo nameserver 127.0.0.1 >{RESOLV_CONF}",
        listener=("udp", "127.0.0.1", 53, 0),
        cause="dnsmasq (at 127.0.0.1)",
    ),
    "a loop by NetworkManager's dnsmasq": Situation(
        id="dns-loop",
        level="error",
        files=NETWORK_MANAGER + f"echo nameserver 127.0.0.1 >>{RESOLV_CONF}",
        mended_files=NETWORK_MANAGER + STUB_TOO + _resolved("192.0.2.1"),  # it keeps that file beside systemd-resolved
        listener=("udp", "0.0.0.0", 53, 0),
        cause="NetworkManager (at 127.0.0.1",
    ),
    "a loop where all is captured": Situation(
        id="dns-loop",
        level="error",
        files=_resolved("192.0.2.1"),
        options=("--dns-servers=all",),
        mended_options=("--dns-servers=all",),
        listener=AT_THE_STUB,
        cause="forwards to 192.0.2.1",
    ),
    "another user at the relay's port": Situation(
        id="port-taken",
        level="error",
        listener=("tcp", "0.0.0.0", 15001, OTHER),
        mended_options=(*OPTIONS, f"--proxy-uid={OTHER}"),
        cause=f"tcp port 15001, the relay's, belongs to uid {OTHER}",
    ),
    "root at the resolver's port": Situation(
        id="port-taken",
        level="error",
        listener=("udp", "127.0.0.1", 15053, 0),
        mended_options=(*OPTIONS, "--dns-port=15353"),
        cause="udp port 15053, the resolver's, belongs to uid 0, python",
        to_all=False,
    ),
    "a pool that lives elsewhere": Situation(
        id="pool-routed",
        level="warning",
        network="ip route add 240.0.0.0/4 dev eth0",
        mended_network="ip route delete 240.0.0.0/4; ip route add 240.240.0.0/16 dev eth0",
        cause="240.0.0.0/4 is routed by eth0",
    ),
    "a pool of IPv6 that lives elsewhere": Situation(
        id="pool-routed",
        level="warning",
        network="ip route add 2001:2::/48 via fd00::1",
        mended_network="ip route delete 2001:2::/48; ip route add 2001:2::/48 dev eth0",
        cause="2001:2::/48 is routed by eth0",
    ),
    "a network of this machine's in a pool": Situation(
        id="pool-routed",
        level="warning",
        network="ip address add 240.240.0.9/16 dev eth0",
        mended_network="ip address delete 240.240.0.9/16 dev eth0",
        cause="240.240.0.0/16 is routed by eth0",
    ),
    "a pool by lo": Situation(
        id="pool-routed",
        level="error",
        network="ip route add 240.240.0.0/16 dev lo",
        mended_network="ip route replace 240.240.0.0/16 dev eth0",
        cause="the pool 240.240.0.0/16 is routed by lo, and what is sent there is left alone (nat-local-4)",
    ),
    "a lease of this machine's": Situation(
        id="pool-routed",
        level="error",
        network="ip address add 2001:2::1/128 dev eth0 nodad",
        mended_network="ip address delete 2001:2::1/128 dev eth0",
        cause="2001:2::1 of the pool 2001:2::/48 counts as an address of this machine",
    ),
    "no address, and no nameserver asked": Situation(
        id="no-address",
        level="error",
        network="ip address flush dev eth0",
        options=("--no-dns",),
        mended_options=("--no-dns", "--family=ipv4"),
        cause="cannot choose an address family",
    ),
    "no address, and every nameserver captured": Situation(
        id="no-address",
        level="error",
        network="ip address flush dev eth0",
        options=("--dns-servers=all",),
        mended_network="ip address add 10.0.0.2/24 dev eth0",
        mended_options=("--dns-servers=all",),
    ),
    "no way to a nameserver": Situation(
        id="no-route",
        level="error",
        network=f"ip route add unreachable {LISTED[1]}/128",
        mended_network=f"ip route delete unreachable {LISTED[1]}/128",
        cause=f"no route to nameserver {LISTED[1]}",
    ),
    "no way to the pools": Situation(
        id="no-route",
        level="error",
        network="ip route delete default; ip -6 route delete default",
        mended_network=f"for each in {' '.join(LISTED)}; do ip route add $each dev eth0; done\n"
        "for each in 240.240.0.0/16 2001:2::/48; do ip route add $each dev eth0; done",
        cause="no route to the pool 2001:2::/48",
    ),
    "a nameserver beyond no interface": Situation(
        id="no-route",
        level="error",
        files=f"echo nameserver fe80::1%eth9 >>{RESOLV_CONF}",
        mended_files=f"echo nameserver fe80::1%eth0 >>{RESOLV_CONF}",
        cause="no interface eth9",
    ),
    "lo down": Situation(
        id="lo-down", level="error", network="ip link set lo down", mended_network="ip link set lo up"
    ),
    "SSH among the captured ports": Situation(
        id="ssh-lockout",
        level="error",
        options=ALL_INBOUND,
        mended_options=(*ALL_INBOUND, "--exclude-inbound-ports=22"),
        listener=("tcp", "0.0.0.0", 22, 0),
        cause="takes port 22,",
    ),
    "SSH elsewhere": Situation(
        id="ssh-lockout",
        level="error",
        files="mkdir -p /etc/ssh/sshd_config.d; echo Port 2222 >/etc/ssh/sshd_config.d/port.conf",
        options=ALL_INBOUND,
        listener=("tcp", "0.0.0.0", 2222, 0),
        mended_options=ALL_INBOUND,
        cause="takes port 2222,",
    ),
    "Cilium": Situation(
        id="cilium-socket-lb",
        level="warning",
        network="ip link add cilium_host type veth peer name cilium_net",
        mended_network="ip link delete cilium_host",
    ),
    "nscd": Situation(id="dns-cache", level="warning", files="mkdir /run/nscd; touch /run/nscd/socket", cause="nscd"),
    "resolved's cache": Situation(
        id="dns-cache",
        level="warning",
        files=STUB + _resolved(LISTED[0]),
        mended_files=_resolved(LISTED[0]),
        listener=AT_THE_STUB,
        cause="systemd-resolved",
    ),
}


@pytest.mark.parametrize("case", SITUATIONS)
def test_it_is_found_where_it_happens(case: str) -> None:
    """Root finds it, an ordinary user does where that takes no privilege, and nobody does once it is mended."""
    one = SITUATIONS[case]
    with pod() as there, ExitStack() as stack:
        there.run("sh", "-euc", one.network)
        if one.listener:
            stack.enter_context(listening(there, *one.listener))
        found, code = told(there, one.files, one.options, one.by)
        assert (one.id, one.level) in ids(found)
        assert any(one.cause in each["cause"] and each["fix"] for each in found["findings"] if each["id"] == one.id)
        assert code == any(level == "error" for _, level in ids(found))
        by_others, _ = told(there, one.files, one.options, (*one.by, *ORDINARY))
        assert ((one.id, one.level) in ids(by_others)) is one.to_all
        assert one.to_all or one.by or by_others["unseen"]
        there.run("sh", "-euc", one.mended_network)
        mended, _ = told(there, one.mended_files, one.mended_options)
    assert one.id not in {name for name, _ in ids(mended)}


def test_root_of_a_user_namespace_lacks_the_capability() -> None:
    """Capabilities that do not count in this network namespace are none, whatever /proc says of the process."""
    with pod() as there:
        assert ("capability", "error") in ids(told(there, by=("unshare", "--map-root-user"))[0])
        assert "capability" not in {name for name, _ in ids(told(there)[0])}


def test_legacy_rules_that_may_not_be_read_are_not_called_absent() -> None:
    """Who may see that there are legacy tables, and not read them, is told so; nothing is concluded from it."""
    with pod() as there:
        there.run("iptables-legacy", "-w", "5", "-t", "nat", "-N", "PROXY_INIT_OUTPUT")
        found, _ = told(there, by=("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"))
        assert any(
            what.startswith("the rules of iptables-legacy: iptables-legacy-save says: ") for what in found["unseen"]
        )
        assert "other-mesh" in {name for name, _ in ids(told(there)[0])}
