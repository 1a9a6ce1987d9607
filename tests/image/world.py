"""What is around a pod: a node that routes, a cluster's nameserver, two web servers; all in namespaces."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from namespaces import Namespace, namespace, veth

POD_ADDRESS: Final = "10.244.0.2"
NODE_ADDRESS: Final = "10.244.0.1"
CLUSTER_DNS: Final = "10.96.0.10"
WEB: Final = ("198.51.100.0", "198.51.100.2")
OUTSIDE_NAME: Final = "outside.example"
OUTSIDE_ADDRESS: Final = "203.0.113.80"


@dataclass(frozen=True, slots=True)
class World:
    """The namespaces of a pod and of its node."""

    pod: Namespace
    node: Namespace


@contextlib.contextmanager
def world(home: Path) -> Iterator[World]:
    """Make a pod's network and what it can reach; the pages are `page of ADDRESS`."""
    with namespace() as pod, namespace() as node, contextlib.ExitStack() as running:
        veth(pod, "eth0", [f"{POD_ADDRESS}/24"], node, "pod", [f"{NODE_ADDRESS}/24"])
        pod.run("ip", "route", "add", "default", "via", NODE_ADDRESS)
        for address in (CLUSTER_DNS, *WEB):
            node.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        dnsmasq = ("dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file=")
        local = tuple(f"--local=/{domain}/" for domain in ("cluster.local", "internal", "example"))
        answers = (f"--listen-address={CLUSTER_DNS}", f"--address=/{OUTSIDE_NAME}/{OUTSIDE_ADDRESS}", "--local-ttl=60")
        running.enter_context(node.running(*dnsmasq, *local, *answers))
        for address in WEB:
            pages = home / "web" / address
            pages.mkdir(parents=True)
            (pages / "index.html").write_text(f"page of {address}\n")
            web = (sys.executable, "-m", "http.server", "--bind", address, "--directory", str(pages), "80")
            running.enter_context(node.running(*web))
        yield World(pod, node)
