"""What the tests of capture share: a spec to vary, a small world of namespaces, and packets really sent through it.

The world is a pod and, over a veth pair, everything outside it. Each listener answers with its own name, so the answer
tells where a packet went. `send` gives its fate in the words of the simulator.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from namespaces import Namespace, namespace, veth

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import install, new_record, uninstall
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Fate, Packet
from meshdns.capture.policy.spec import CaptureSpec, Family, Ports, Server

TRIED = tuple(name for name in BACKENDS if name != "libiptc" or importlib.util.find_spec("iptc"))
"""The backends that can be tried here: python-iptables is installed for a command of its own."""

PROXY = 1337
APP = 1000

LISTED = ("10.96.0.10", "fd00:96::10")
UNLISTED = ("10.96.0.11", "fd00:96::11")
OUTSIDE = ("198.51.100.2", "2001:db8::2")
LEASED = ("240.240.0.1", "2001:2::1")
POD = ("10.0.0.2", "fd00::2")
NODE = ("10.0.0.1", "fd00::1")
LINKED = "fe80::53%eth0"
"""A nameserver and web server on the pod's link: a socket that connects there is bound to the interface (ipv6(7))."""
STUB = ("127.0.0.53", "::1")
"""A nameserver of the machine's own, as systemd-resolved's."""
CAPTURED_AT = ("127.0.0.1", "::1", *POD)
"""Where redirects end: on loopback for what the pod sends, at the pod's address for what it is sent."""
INBOUND_AT = ("0.0.0.0", "::")
"""Where a proxy listens that takes connections over by TPROXY: at whatever address they are for."""
TRANSPARENT: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.SOL_IP, 19),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 75),
}
"""IP_TRANSPARENT and IPV6_TRANSPARENT (linux/in.h, linux/in6.h)."""

POOLS = (IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48"))
EVERYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

SPEC = CaptureSpec(
    families=(Family.IPV4, Family.IPV6),
    proxy_uids=(PROXY,),
    proxy_gids=(PROXY,),
    dns_port=15053,
    dns_servers=tuple(Server(ip_network(address)) for address in LISTED),
    heartbeat_timeout_s=3600.0,  # the tests say themselves when the resolver is down
    heartbeat_mark=1337,
    ct_zone=15053,
    outbound_port=15001,
    outbound_cidrs=POOLS,
    pools=POOLS,
    inbound_port=15006,
    tunnel_port=15008,
    tproxy_mark=1337,
    tproxy_table=133,
)


def spec(**changes: object) -> CaptureSpec:
    """Return the tests' spec with some fields changed."""
    return replace(SPEC, **changes)  # type: ignore[arg-type]


def servers(*addresses: str) -> tuple[Server, ...]:
    """Return captured servers from text such as `10.0.0.1`, `fe80::1%eth0` or `0.0.0.0/0`."""
    parts = [address.partition("%") for address in addresses]
    return tuple(Server(ip_network(address), interface or None) for address, _, interface in parts)


def ports(*ranges: int | tuple[int, int]) -> tuple[Ports, ...]:
    """Return port ranges from numbers and pairs."""
    return tuple(Ports(one, one) if isinstance(one, int) else Ports(*one) for one in ranges)


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet to send: who sends what where. `port` None: ICMP."""

    name: str
    destination: str
    port: int | None
    protocol: Protocol
    uid: int = APP
    gid: int = APP
    mark: int = 0
    source: str | None = None
    inbound: bool = False

    @property
    def socket_family(self) -> int:
        return socket.AF_INET if ip_address(self.destination).version == 4 else socket.AF_INET6

    @property
    def zone(self) -> str:
        return self.destination.partition("%")[2]

    def packet(self, udp_length: int | None = None) -> Packet:
        """Return the packet as the simulator takes it."""
        destination = ip_address(self.destination.partition("%")[0])
        local = destination.is_loopback or self.destination in POD
        return Packet(
            protocol=self.protocol,
            destination=destination,
            destination_port=self.port,
            source=ip_address(self.source) if self.source else None,
            uid=None if self.inbound else self.uid,
            gid=None if self.inbound else self.gid,
            mark=self.mark,
            out_interface="" if self.inbound else "lo" if local else self.zone or "eth0",
            in_interface="eth0" if self.inbound else "",
            local=local,
            udp_length=udp_length,
        )


class World:
    """A pod, what is outside it, and their listeners."""

    def __init__(self, pod: Namespace, outside: Namespace, backend: str) -> None:
        self.pod = pod
        self.outside = outside
        self.backend = BACKENDS[backend]()
        self.dns_port = SPEC.dns_port
        self._ports = itertools.count(20000)
        """A source port for each packet, so that none meets an older one's conntrack entry."""

    def install(self, wanted: CaptureSpec) -> bool:
        """Install in the pod, as `meshdns capture install` does."""
        self.dns_port = wanted.dns_port
        return self.pod.call(lambda: install(self.backend, new_record(wanted, self.backend, "0", 0)).changed)

    def uninstall(self) -> bool:
        """Remove what is installed in the pod."""
        return self.pod.call(lambda: uninstall(self.backend))

    def held(self) -> Observed:
        """Return what the pod's kernel holds of ours."""
        return self.pod.call(self.backend.read)

    def beat(self, uid: int = PROXY, mark: int = 0) -> None:
        """Send one heartbeat of each family from `uid`."""
        for address in ("127.0.0.1", "::1"):
            self.send_empty(Probe("heartbeat", address, self.dns_port, Protocol.UDP, uid, gid=0, mark=mark))

    def send_empty(self, probe: Probe) -> None:
        """Send an empty datagram, which nobody answers, whatever becomes of it."""
        with self.pod.socket(probe.socket_family, socket.SOCK_DGRAM, uid=probe.uid, gid=probe.gid) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, probe.mark)
            with contextlib.suppress(OSError):  # it was refused, or its mark leads nowhere
                sender.sendto(b"", (probe.destination, probe.port or 0))

    def send(self, probe: Probe) -> tuple[Fate, int | None]:
        """Send a probe and tell its fate, with the port that it was sent to instead."""
        try:
            answer = self._ask(probe)
        except (PermissionError, ConnectionRefusedError, ConnectionResetError):
            return Fate.REJECT, None
        except TimeoutError:
            return Fate.DROP, None
        if answer == "direct":
            return Fate.DIRECT, None
        port = answer.removeprefix("tproxy ")
        return Fate.REDIRECT if port == answer else Fate.TPROXY, int(port)

    def _ask(self, probe: Probe) -> str:
        place = self.outside if probe.inbound else self.pod
        if probe.port is None:
            return self._ping(probe)
        kind = socket.SOCK_STREAM if probe.protocol is Protocol.TCP else socket.SOCK_DGRAM
        with place.socket(probe.socket_family, kind, uid=probe.uid, gid=probe.gid, timeout_s=1) as client:
            any_address = "0.0.0.0" if probe.socket_family == socket.AF_INET else "::"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, probe.mark)
            client.bind((probe.source or any_address, next(self._ports)))
            client.connect(_socket_address(place, probe.destination, probe.port))
            if kind == socket.SOCK_DGRAM:
                client.send(b"who?")
            return client.recv(64).decode()

    def _ping(self, probe: Probe) -> str:
        v4 = probe.socket_family == socket.AF_INET
        protocol = socket.IPPROTO_ICMP if v4 else socket.IPPROTO_ICMPV6
        raw = self.pod.call(
            lambda: socket.socket(probe.socket_family, socket.SOCK_RAW, protocol), uid=probe.uid, gid=probe.gid
        )
        with raw:
            raw.sendto(b"\x08\0\xf7\xff\0\0\0\0" if v4 else b"\x80\0\0\0\0\0\0\0", (probe.destination, 0))
        return "direct"


@contextlib.contextmanager
def world(*, resolver: bool = True, backend: str = "nft") -> Iterator[World]:
    """Make a world: the outside has every address that is not the pod's, and answers on ports 53 and 80 of each.

    Without `resolver` nothing listens where redirects end: the test brings its own.
    """
    with namespace() as pod, namespace() as outside:
        veth(pod, "eth0", ["10.0.0.2/24", "fd00::2/64"], outside, "eth0", ["10.0.0.1/24", "fd00::1/64"])
        there = [address for pair in (LISTED, UNLISTED, OUTSIDE, LEASED) for address in pair]
        outside.run("ip", "-batch", "-", stdin="".join(f"address add {address} dev lo nodad\n" for address in there))
        outside.run("ip", "address", "add", f"{LINKED.partition('%')[0]}/64", "dev", "eth0", "nodad")
        for address in NODE:
            pod.run("ip", "route", "add", "default", "via", address)
        with contextlib.ExitStack() as stack:
            listeners = [(address, port, "direct") for address in (*there, *NODE, LINKED) for port in (53, 80)]
            stack.enter_context(serving(outside, listeners))
            inside = [(address, port, "direct") for address in (*POD, *STUB) for port in (53, 80, 22, 8080, 15008)]
            if resolver:
                inside += [(address, port, str(port)) for address in CAPTURED_AT for port in (15053, 15001)]
                udp = [(address, 15006, "15006") for address in CAPTURED_AT]
                stack.enter_context(serving(pod, udp, [socket.SOCK_DGRAM]))
                tcp = [(address, 15006, "15006") for address in INBOUND_AT]
                stack.enter_context(serving(pod, tcp, [socket.SOCK_STREAM]))
            stack.enter_context(serving(pod, inside))
            yield World(pod, outside, backend)


@contextlib.contextmanager
def serving(
    place: Namespace,
    listeners: list[tuple[str, int, str]],
    kinds: Sequence[int] = (socket.SOCK_DGRAM, socket.SOCK_STREAM),
) -> Iterator[None]:
    """Answer on each (address, port) with a name."""
    selector = selectors.DefaultSelector()
    stop, stopped = socket.socketpair()
    selector.register(stopped, selectors.EVENT_READ)
    for address, port, name in listeners:
        family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
        for kind in kinds:
            listener = place.socket(family, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ip_address(address).is_unspecified:
                listener.setsockopt(*TRANSPARENT[family], 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(_socket_address(place, address, port))
            if kind == socket.SOCK_STREAM:
                listener.listen(64)
            selector.register(listener, selectors.EVENT_READ, name.encode())
    thread = threading.Thread(target=_answer, args=(selector,))
    thread.start()
    try:
        yield
    finally:
        stop.close()
        thread.join()
        for key in list(selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        selector.close()


def _socket_address(place: Namespace, address: str, port: int) -> tuple[str | int, ...]:
    """Return what sockets in `place` take for an address: its zone as the number that the interface has there."""
    host, _, zone = address.partition("%")
    return (host, port, 0, place.call(lambda: socket.if_nametoindex(zone))) if zone else (host, port)


def _answer(selector: selectors.BaseSelector) -> None:
    while True:
        for key, _ in selector.select():
            listener = key.fileobj
            if key.data is None or not isinstance(listener, socket.socket):
                return
            if listener.type == socket.SOCK_STREAM:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    kept = connection.getsockname()[1] != listener.getsockname()[1]
                    connection.sendall(b"tproxy " + key.data if kept else key.data)
            else:
                packet, client = listener.recvfrom(64)
                if packet:  # a heartbeat wants no answer
                    with contextlib.suppress(OSError):
                        listener.sendto(key.data, client)
