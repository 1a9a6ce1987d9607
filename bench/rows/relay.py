"""TCP through the relay, HAProxy and socat, each behind the same kind of redirect: throughput, connections, latency."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench import admin, load
from bench.figures import ratio
from bench.finding import Finding, at_least, not_measured, printed
from bench.process import running
from bench.rounds import Bench, pace
from namespaces import Namespace, namespace

THROUGHPUT = 1.0
AT_ONCE = 16
RATE = 2_000
HOST = "stream.bench.internal"

ENDPOINT = "198.51.100.2"
SOURCE_PORT, ECHO_PORT = 9001, 9002
RELAY_PORT, ADMIN_PORT, DNS_PORT = 15001, 15054, 15053

LEASE = "240.240.0.1"
"""The first address of the pool, which the only entry gets."""

_ENTRY = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bench, namespace: default}}
spec:
  hosts: [{HOST}]
  ports: [{{number: {SOURCE_PORT}, name: tcp-source}}, {{number: {ECHO_PORT}, name: tcp-echo}}]
  resolution: STATIC
  endpoints: [{{address: {ENDPOINT}}}]
"""


@dataclass(frozen=True, slots=True)
class Through:
    """A way to the endpoint: where clients connect, and the ports that these connections are redirected to."""

    address: str
    source_port: int
    echo_port: int


RELAY = Through(LEASE, RELAY_PORT, RELAY_PORT)
HAPROXY = Through("240.240.255.2", 15102, 15202)
SOCAT = Through("240.240.255.3", 15103, 15203)


def measure(bench: Bench) -> Iterator[Finding]:
    """Measure all ways in turns; the direct one is what latency is added to."""
    ways = {"direct": ENDPOINT, "meshdns": RELAY.address}
    with namespace() as pod, contextlib.ExitStack() as stack:
        _prepare(pod)
        stream = [sys.executable, "-m", "bench.stream", "serve", ENDPOINT, str(SOURCE_PORT), str(ECHO_PORT)]
        commands = [stream, _resolver(bench.home)]
        if shutil.which("haproxy"):
            commands.append(_haproxy(bench.home))
            ways["HAProxy"] = HAPROXY.address
        if shutil.which("socat"):
            commands += _socat()
            ways["socat"] = SOCAT.address
        for number, command in enumerate(commands):
            start = partial(stack.enter_context, running(command, bench.home / f"log-{number}"))
            pod.call(start)
        pod.call(partial(admin.ready, ADMIN_PORT))
        yield from _judge(bench, pod, ways)
        yield from _beside(bench, pod)


def _judge(bench: Bench, pod: Namespace, ways: dict[str, str]) -> Iterator[Finding]:
    for connections in (1, 64):
        rates = _take_turns(bench, pod, ways, ("throughput", SOURCE_PORT, connections))
        for name in ("HAProxy", "socat"):
            what = f"throughput of {connections} connection{'s' if connections > 1 else ''} against {name}"
            if name not in rates:
                yield not_measured(what, f"{name} is not installed")
                continue
            compared = ratio(rates["meshdns"], rates[name])
            detail = " against ".join(f"{median(rates[one]) / 1e9:.2f} GB/s" for one in ("meshdns", name))
            judge = at_least(what, compared, THROUGHPUT, detail) if name == "HAProxy" else None
            yield judge or printed(what, compared, detail)
    rates = _take_turns(bench, pod, ways, ("connect", ECHO_PORT, AT_ONCE))
    trips = _take_turns(bench, pod, ways, ("echo", ECHO_PORT, 1))
    for name in ("HAProxy", "socat"):
        if name in ways:
            detail = " against ".join(f"{median(rates[one]):,.0f}/s" for one in ("meshdns", name))
            yield printed(f"connections/s against {name}", ratio(rates["meshdns"], rates[name]), detail)
    for name in ways:
        added = median(one - direct for one, direct in zip(trips[name], trips["direct"], strict=True))
        if name != "direct":
            yield printed(f"latency that {name} adds to a round trip", pace(added))


def _beside(bench: Bench, pod: Namespace) -> Iterator[Finding]:
    """Ask the same process for names while a connection through it moves what it can."""
    ask = partial(load.steady, DNS_PORT, bench.queries([HOST]), RATE, bench.seconds)

    def beside() -> load.Sample:
        arguments = ["throughput", RELAY.address, str(SOURCE_PORT), "1", f"{bench.seconds + 1:g}"]
        with pod.running(sys.executable, "-m", "bench.stream", *arguments):
            time.sleep(0.5)
            return pod.call(ask)

    contenders: dict[str, Callable[[], load.Sample]] = {"an idle": lambda: pod.call(ask), "a busy": beside}
    samples = bench.take_turns(contenders)
    for state in samples:
        p50, p99 = (median(one.latency_us(percent) for one in samples[state]) for percent in (50, 99))
        detail = f"at {RATE:,} queries/s; lost {sum(one.lost for one in samples[state])}"
        yield printed(f"p50 and p99 of DNS beside {state} relay", f"{p50:.0f}, {p99:.0f} µs", detail)


def _take_turns(
    bench: Bench, pod: Namespace, ways: dict[str, str], what: tuple[str, int, int]
) -> dict[str, list[float]]:
    measure, port, connections = what
    end = [str(port), str(connections), f"{bench.seconds:g}"]
    return bench.take_turns({name: partial(_measure, pod, [measure, way, *end]) for name, way in ways.items()})


def _measure(pod: Namespace, arguments: Sequence[str]) -> float:
    return float(pod.run(sys.executable, "-m", "bench.stream", *arguments, timeout_s=60).stdout)


def _prepare(pod: Namespace) -> None:
    """Give the namespace its endpoint's address, a way to the pool, and a redirect for each contender."""
    pod.run("ip", "address", "add", f"{ENDPOINT}/32", "dev", "lo")
    pod.run("ip", "route", "add", "240.240.0.0/16", "dev", "lo")
    pod.call(lambda: Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("20000 65000"))
    rules = "".join(
        f"ip daddr {way.address} tcp dport {port} redirect to :{to}\n"
        for way in (RELAY, HAPROXY, SOCAT)
        for port, to in ((SOURCE_PORT, way.source_port), (ECHO_PORT, way.echo_port))
    )
    chain = f"type nat hook output priority -101\n{rules}"
    pod.run("nft", "-f", "-", stdin=f"table ip bench {{\nchain out {{\n{chain}}}\n}}\n")


def _resolver(home: Path) -> list[str]:
    (home / "entry.yaml").write_text(_ENTRY)
    (home / "resolv.conf").write_text("nameserver 127.0.0.99\n")
    command = ["meshdns", "resolver", "run", "--manifests", str(home / "entry.yaml")]
    command += ["--resolv-conf", str(home / "resolv.conf"), "--proxy-uid", str(os.getuid())]
    return [*command, "--listen", f"127.0.0.1:{DNS_PORT}", "--relay-listen", f"127.0.0.1:{RELAY_PORT}"]


def _haproxy(home: Path) -> list[str]:
    listeners = "".join(
        f"listen to-{port}\n  bind 127.0.0.1:{at}\n  server endpoint {ENDPOINT}:{port}\n"
        for port, at in ((SOURCE_PORT, HAPROXY.source_port), (ECHO_PORT, HAPROXY.echo_port))
    )
    timeouts = "  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
    (home / "haproxy.cfg").write_text(f"global\n  nbthread 1\ndefaults\n  mode tcp\n{timeouts}{listeners}")
    return ["haproxy", "-db", "-f", str(home / "haproxy.cfg")]


def _socat() -> list[list[str]]:
    """Return a socat for each port; it forks a process for each connection."""
    return [
        ["socat", f"TCP-LISTEN:{at},bind=127.0.0.1,fork,reuseaddr,backlog=1024", f"TCP:{ENDPOINT}:{port}"]
        for port, at in ((SOURCE_PORT, SOCAT.source_port), (ECHO_PORT, SOCAT.echo_port))
    ]
