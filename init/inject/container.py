"""What is put into a pod: two containers and the volumes that they mount, from what the operator asked for.

Plain values as the Kubernetes API names them, in the order in which people read them. Where they go in a pod is
`pod`'s to say; nothing here knows YAML. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from meshdns.init import defaults
from meshdns.resolver.serve.address import SocketAddress

CAPTURE: Final = "meshdns-capture"
RESOLVER: Final = "meshdns-resolver"
COMMANDS: Final = {CAPTURE: ["meshdns", "capture", "install"], RESOLVER: ["meshdns", "resolver", "run"]}
"""A container is ours when both its name and its command are these."""

ENTRIES: Final = "meshdns-entries"
STATE: Final = "meshdns-state"
RUN: Final = "meshdns-run"
ANNOTATIONS: Final = "meshdns-annotations"
VOLUMES: Final = frozenset({ENTRIES, STATE, RUN, ANNOTATIONS})

ENTRIES_DIRECTORY: Final = "/etc/meshdns/entries"
STATE_DIRECTORY: Final = "/var/lib/meshdns"
RUN_DIRECTORY: Final = "/run/meshdns"
ANNOTATIONS_DIRECTORY: Final = "/etc/meshdns/pod"
ANNOTATIONS_FILE: Final = "annotations"

LEGACY: Final = "iptables-legacy"

Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Injection:
    """What the operator asked for. `namespace` None: the one that the pod is in, whichever that will be."""

    image: str
    configmap: str
    namespace: str | None
    backend: str
    admin: SocketAddress
    classic: bool


def capture_container(asked: Injection, *, annotated: bool) -> Part:
    """Return the init container that installs the rules; `annotated`: the pod's annotations say something about them.

    Root, for the kernel asks for CAP_NET_ADMIN and a container's user other than root gets no capability. The legacy
    tables are read through a raw socket (CAP_NET_RAW), and iptables-legacy wants a file to lock.
    """
    legacy = asked.backend == LEGACY
    arguments = [] if asked.backend == "auto" else ["--backend", asked.backend]
    mounts = []
    if annotated:
        arguments += _annotations_arguments()
        mounts.append(_mount(ANNOTATIONS, ANNOTATIONS_DIRECTORY, read_only=True))
    part: Part = {"name": CAPTURE, "image": asked.image, "command": COMMANDS[CAPTURE]}
    if arguments:
        part["args"] = arguments
    if legacy:
        part["env"] = [{"name": "XTABLES_LOCKFILE", "value": f"{RUN_DIRECTORY}/xtables.lock"}]
        mounts.append(_mount(RUN, RUN_DIRECTORY))
    return {
        **part,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            **_confined(["NET_ADMIN", "NET_RAW"] if legacy else ["NET_ADMIN"]),
        },
        **({"volumeMounts": mounts} if mounts else {}),
    }


def resolver_container(asked: Injection, *, annotated: bool) -> Part:
    """Return the resolver: a native sidecar (an init container that is always restarted), or an ordinary container."""
    arguments = ["--manifests", ENTRIES_DIRECTORY, "--state", STATE_DIRECTORY, "--admin", str(asked.admin)]
    mounts = [_mount(ENTRIES, ENTRIES_DIRECTORY, read_only=True), _mount(STATE, STATE_DIRECTORY)]
    part: Part = {"name": RESOLVER, "image": asked.image, "command": COMMANDS[RESOLVER], "args": arguments}
    if not asked.classic:
        part["restartPolicy"] = "Always"
    if asked.namespace is not None:
        arguments += ["--namespace", asked.namespace]
    else:
        own = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
        part["env"] = [{"name": "MESHDNS_RESOLVER_NAMESPACE", "valueFrom": own}]
    if annotated:
        arguments += _annotations_arguments()
        mounts.append(_mount(ANNOTATIONS, ANNOTATIONS_DIRECTORY, read_only=True))
    return {
        **part,
        "ports": [{"name": "meshdns-admin", "containerPort": asked.admin.port, "protocol": "TCP"}],
        # Ready is when names are answered; what is started after a sidecar waits for that.
        "startupProbe": _probe(asked, "/readyz", periodSeconds=1, timeoutSeconds=3, failureThreshold=120),
        "readinessProbe": _probe(asked, "/readyz", periodSeconds=5, timeoutSeconds=3, failureThreshold=3),
        "livenessProbe": _probe(asked, "/healthz", periodSeconds=10, timeoutSeconds=3, failureThreshold=3),
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "256Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsUser": defaults.PROXY_UID,
            "runAsGroup": defaults.PROXY_GID,
            "runAsNonRoot": True,
            **_confined([]),
        },
        "volumeMounts": mounts,
    }


def volumes(asked: Injection, *, annotated: bool) -> list[Part]:
    """Return what the two mount.

    The ConfigMap is optional: without it the pod starts, its lookups are forwarded, and names of ours are answered from
    the minute in which somebody creates it. A pod that waits for it would be an outage that nothing but DNS is missing.
    """
    found: list[Part] = [
        {"name": ENTRIES, "configMap": {"name": asked.configmap, "optional": True}},
        {"name": STATE, "emptyDir": {}},
    ]
    if asked.backend == LEGACY:
        found.append({"name": RUN, "emptyDir": {}})
    if annotated:
        field = {"apiVersion": "v1", "fieldPath": "metadata.annotations"}
        item = {"path": ANNOTATIONS_FILE, "fieldRef": field}
        found.append({"name": ANNOTATIONS, "downwardAPI": {"items": [item]}})
    return found


def _annotations_arguments() -> list[str]:
    return ["--pod-annotations", f"{ANNOTATIONS_DIRECTORY}/{ANNOTATIONS_FILE}"]


def _mount(volume: str, path: str, *, read_only: bool = False) -> Part:
    return {"name": volume, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _probe(asked: Injection, path: str, **numbers: int) -> Part:
    return {"httpGet": {"path": path, "port": asked.admin.port}, **numbers}


def _confined(capabilities: list[str]) -> Part:
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {**({"add": capabilities} if capabilities else {}), "drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
