"""Why a pod is left as it is: everything that would make capture do nothing, or the pod end or hang.

Each reason is the end of a sentence and says what would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from meshdns.init import defaults
from meshdns.init.inject.container import COMMANDS, VOLUMES, Injection
from meshdns.init.inject.pod import CONTAINERS, is_ours, of_the_pod
from meshdns.init.inject.values import absent, text, true
from meshdns.init.inject.workload import Workload
from meshdns.init.proxyconfig import Setting

ISTIO: Final = frozenset({"istio-init", "istio-proxy", "istio-validation"})
ENDING: Final = frozenset({"Never", "OnFailure"})
OWN_IDS: Final = {"runAsUser": ("uid", str(defaults.PROXY_UID)), "runAsGroup": ("gid", str(defaults.PROXY_GID))}


def reasons(workload: Workload, asked: Injection, settings: Mapping[str, Setting]) -> Iterator[str]:
    """Yield why this pod is not injected, whose annotations say `settings`; nothing where it is."""
    yield from _pod_reasons(workload, asked)
    spec = workload.spec
    if "inbound-ports" in settings and str(defaults.INBOUND_PORT) not in _ports(spec):
        source = settings["inbound-ports"].source
        yield f"{source} would send what comes in to port {defaults.INBOUND_PORT}, where nothing listens: remove it"
    if not any(is_ours(field, part) for field in CONTAINERS for part in _list(spec.get(field))):
        for volume in _list(spec.get("volumes")):
            if volume["name"] in VOLUMES:
                yield f"it has a volume of its own called {volume['name']}: rename it"
    for field in CONTAINERS:
        for _, container in of_the_pod(spec, field):
            yield from _container_reasons(container, spec, asked)


def _pod_reasons(workload: Workload, asked: Injection) -> Iterator[str]:
    spec = workload.spec
    if true(spec.get("hostNetwork")):
        yield "hostNetwork is true: the rules would be its node's"
    if text(_field(spec, "os", "name")) == "windows":
        yield "it is for Windows"
    if asked.classic and (workload.kind in {"Job", "CronJob"} or text(spec.get("restartPolicy")) in ENDING):
        yield "it ends, and an ordinary container beside it never would: leave --classic out (Kubernetes 1.29 or newer)"
    if text(spec.get("dnsPolicy")) == "None" and not _field(spec, "dnsConfig", "nameservers"):
        yield "dnsPolicy is None and dnsConfig names no nameserver: there would be nobody to forward to"


def _container_reasons(container: Mapping[str, Any], spec: Mapping[str, Any], asked: Injection) -> Iterator[str]:
    name = container["name"]
    if name in ISTIO:
        yield f"Istio's container {name} is in it: one mesh captures a pod's DNS: turn Istio's injection off for it"
    if name in COMMANDS:
        yield f"it has a container of its own called {name}: rename it"
    for field, (what, ours) in OWN_IDS.items():
        own = _field(container, "securityContext", field)
        if text(_field(spec, "securityContext", field) if absent(own) else own) == ours:
            yield f"container {name} runs as {what} {ours}, whose lookups are never captured: take another {what}"
    taken = {str(port) for port in (defaults.DNS_PORT, defaults.RELAY_PORT, asked.admin.port)}
    for port in sorted(taken & _ports({"containers": [container]})):
        yield f"container {name} has port {port}, which the resolver needs: take another"


def _ports(spec: Mapping[str, Any]) -> set[str]:
    """Return the ports that a pod's containers declare, as text."""
    return {
        text(port.get("containerPort")) or ""
        for field in CONTAINERS
        for container in _list(spec.get(field))
        for port in _list(container.get("ports"))
        if isinstance(port, Mapping)
    }


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - whatever stands there
    return value if isinstance(value, list) else []


def _field(parent: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401
    found: Any = parent
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
