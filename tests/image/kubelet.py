"""A Pod's life as kubelet leads it, on one node: volumes, init containers in order, sidecars, then the application.

    with running(manifest, node) as pod:              # as `kubectl apply`, until everything has started
        pod.execute("app", "curl", "-sS", "auto.internal")
        pod.probe("meshdns-resolver", "readiness")    # from the node, by the pod's address
        pod.container("meshdns-resolver").kill(SIGKILL)   # restarted, as restartPolicy says
        node.config_maps["entries"]["late.yaml"] = "…"
        pod.sync()                                    # what kubelet does once a minute

What a container may do is the manifest's alone: `podspec.py` refuses a field that it does not know, `runtime.py` makes
what containerd would make. A container that exits is started again at once, as kubelet does the first time.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any, Final

from image.image import Image
from image.podspec import ContainerSpec, PodSpec, Probe, Volume, read
from image.runtime import Container, Mount, Spec
from image.volumes import ProjectedFiles, empty_dir
from image.world import CLUSTER_DNS, NODE_ADDRESS, POD_ADDRESS, World

INIT_S: Final = 60.0
SERVICES: Final = {"KUBERNETES": ("10.96.0.1", 443), "MESHDNS_RESOLVER": ("10.96.0.99", 53)}
"""Kubernetes tells every container where the namespace's Services are; the second has our own prefix."""


class PodError(Exception):
    """The pod cannot start, as `kubectl describe` would say it."""


class InitError(PodError):
    """An init container failed."""

    def __init__(self, name: str, code: int, output: str) -> None:
        super().__init__(f"{name}: exit {code}: {output}")
        self.code = code
        self.output = output


@dataclass(slots=True)
class Node:
    """What kubelet works with: the node's network, images by name, the API server's ConfigMaps, a directory."""

    world: World
    images: dict[str, Image]
    home: Path
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)


@contextlib.contextmanager
def running(manifest: Mapping[str, Any], node: Node) -> Iterator[Pod]:
    """Run a pod for the length of a block; raise PodError where it cannot start."""
    pod = Pod(read(manifest), node)
    try:
        pod.start()
        yield pod
    finally:
        pod.end(signal.SIGKILL)


class Pod:
    """A pod on a node. `restarts` counts them by container."""

    def __init__(self, spec: PodSpec, node: Node) -> None:
        self.spec = spec
        self.restarts: dict[str, int] = {}
        self._node = node
        self._home = node.home / "pod"
        self._runs = 0
        self._supervisors: dict[str, _Supervisor] = {}
        self._projected: dict[str, ProjectedFiles] = {}
        self._volumes: dict[str, Path] = {}
        self._home.mkdir()
        (self._home / "resolv.conf").write_text(
            f"nameserver {CLUSTER_DNS}\nsearch {self._namespace}.svc.cluster.local svc.cluster.local cluster.local\n"
            "options ndots:5\n"
        )
        (self._home / "hosts").write_text(f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{POD_ADDRESS}\t{self._name}\n")

    def start(self) -> None:
        """Make the volumes, run init containers to their end, start sidecars and wait for them, start the rest."""
        for volume in self.spec.volumes:
            self._make(volume)
        self.sync()
        for spec in self.spec.init_containers:
            if spec.sidecar:
                self._supervise(spec)
                self._await_started(spec)
            else:
                self.initialize(spec.name)
        for spec in self.spec.containers:
            self._supervise(spec)
        for spec in self.spec.containers:
            self._await_started(spec)

    def initialize(self, name: str) -> str:
        """Run an init container to its end and return what it wrote; kubelet may do so again at any time."""
        spec = next(spec for spec in self.spec.init_containers if spec.name == name and not spec.sidecar)
        container = self._create(spec)
        code = container.wait(INIT_S)
        if code != 0:
            container.kill(signal.SIGKILL)
            raise InitError(name, -1 if code is None else code, container.output())
        return container.output()

    def sync(self) -> None:
        """Bring ConfigMaps and the downward API's files up to date."""
        for volume in self.spec.volumes:
            if volume.source == "configMap":
                files = self._node.config_maps.get(volume.config_map)
                if files is None and not volume.optional:
                    raise PodError(f"volume {volume.name}: configmap {volume.config_map} not found")
                self._projected[volume.name].write(files or {}, volume.mode)
            elif volume.source == "downwardAPI":
                files = {path: self._field(name) for path, name in volume.items}
                self._projected[volume.name].write(files, volume.mode)

    def container(self, name: str) -> Container:
        """Return the container's current run."""
        return self._supervisors[name].container

    def execute(self, name: str, *arguments: str) -> CompletedProcess[str]:
        """Run a program in a container, as `kubectl exec` does."""
        return self.container(name).execute(*arguments)

    def execute_later(self, name: str, *arguments: str) -> Popen[str]:
        """Start a program in a container; it must end by itself."""
        return self.container(name).execute_later(*arguments)

    def probe(self, name: str, kind: str) -> bool:
        """Tell whether a probe of the manifest succeeds now."""
        spec = self._supervisors[name].spec
        return self._succeeds(spec.probes[kind])

    def get(self, port: int, path: str, timeout_s: float = 3) -> int:
        """Ask the pod's address from the node; the HTTP status."""
        return self._node.world.node.call(lambda: _status(port, path, timeout_s))

    def upgrade(self, name: str, image: str) -> None:
        """Change a container's image in place: SIGTERM, its grace period, then the new one."""
        supervisor = self._supervisors.pop(name)
        supervisor.end(signal.SIGTERM, self.spec.grace_s)
        self._supervise(replace(supervisor.spec, image=image))
        self._await_started(supervisor.spec)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the application, then the sidecars from the last to the first."""
        for name in reversed(self._supervisors):
            self._supervisors[name].end(number, self.spec.grace_s)
        self._supervisors.clear()

    @property
    def _name(self) -> str:
        return str(self.spec.metadata["name"])

    @property
    def _namespace(self) -> str:
        return str(self.spec.metadata.get("namespace", "default"))

    def _make(self, volume: Volume) -> None:
        path = self._volumes[volume.name] = self._home / f"volume-{volume.name}"
        if volume.source == "emptyDir":
            empty_dir(path, self.spec.fs_group)
        else:
            self._projected[volume.name] = ProjectedFiles(path, self.spec.fs_group)

    def _supervise(self, spec: ContainerSpec) -> None:
        self._supervisors[spec.name] = _Supervisor(self, spec)

    def _await_started(self, spec: ContainerSpec) -> None:
        probe = spec.probes.get("startup")
        if probe is None:
            return
        give_up = time.monotonic() + probe.period_s * probe.failures
        while not self._succeeds(probe):
            if time.monotonic() > give_up:
                raise PodError(f"{spec.name}: startup probe failed: {self.container(spec.name).output()}")
            time.sleep(probe.period_s / 10)

    def _succeeds(self, probe: Probe) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return 200 <= self.get(probe.port, probe.path, probe.timeout_s) < 400
        return False

    def _create(self, spec: ContainerSpec) -> Container:
        """Start one run of a container."""
        image = self._node.images[spec.image]
        uid, gid = (int(number) for number in image.user.split(":"))
        uid = uid if spec.user is None else spec.user
        if spec.must_not_be_root and uid == 0:
            raise PodError(f"{spec.name}: container has runAsNonRoot and image will run as root")
        self._runs += 1
        home = self._home / f"run-{self._runs}"
        home.mkdir()
        message = home / "termination-log"
        message.touch()
        message.chmod(0o666)
        own = [
            Mount(self._home / "resolv.conf", "/etc/resolv.conf", read_only=False),
            Mount(self._home / "hosts", "/etc/hosts", read_only=False),
            Mount(message, "/dev/termination-log", read_only=False),
        ]
        arguments = spec.arguments
        if spec.command is None and arguments is None:
            arguments = image.command
        made = Spec(
            rootfs=image.rootfs,
            arguments=(spec.command or image.entrypoint) + (arguments or ()),
            environment=self._environment(spec, image),
            directory=image.directory,
            uid=uid,
            gid=gid if spec.group is None else spec.group,
            groups=() if self.spec.fs_group is None else (self.spec.fs_group,),
            capabilities=spec.capabilities,
            no_new_privileges=not spec.escalation,
            read_only_root=spec.read_only_root,
            seccomp=spec.seccomp,
            mounts=(*own, *(Mount(self._volumes[each.volume], each.path, each.read_only) for each in spec.mounts)),
            network=self._node.world.pod.path,
            hostname=self._name,
        )
        return Container(made, f"{spec.name}-{self._runs}", home)

    def _environment(self, spec: ContainerSpec, image: Image) -> dict[str, str]:
        made = dict(image.environment)
        for service, (address, port) in SERVICES.items():
            tcp = f"{service}_PORT_{port}_TCP"
            made |= {f"{service}_SERVICE_HOST": address, f"{service}_SERVICE_PORT": str(port)}
            made |= {f"{service}_PORT": f"tcp://{address}:{port}", tcp: f"tcp://{address}:{port}"}
            made |= {f"{tcp}_ADDR": address, f"{tcp}_PORT": str(port), f"{tcp}_PROTO": "tcp"}
        for variable in spec.variables:
            made[variable.name] = self._field(variable.field) if variable.field else variable.value or ""
        return made

    def _field(self, path: str) -> str:
        """Return a field of the Pod by the downward API's names."""
        plain = {
            "metadata.name": self._name,
            "metadata.namespace": self._namespace,
            "status.podIP": POD_ADDRESS,
            "status.hostIP": NODE_ADDRESS,
        }
        if path in plain:
            return plain[path]
        if path in ("metadata.labels", "metadata.annotations"):
            pairs: Mapping[str, str] = self.spec.metadata.get(path.removeprefix("metadata."), {})
            return "\n".join(f'{key}="{_quoted(value)}"' for key, value in sorted(pairs.items()))
        raise NotImplementedError(f"fieldPath {path}")


class _Supervisor:
    """Keeps one container running: starts it again when it exits, kills it when its liveness probe fails."""

    def __init__(self, pod: Pod, spec: ContainerSpec) -> None:
        self.spec = spec
        self.container = pod._create(spec)
        self._pod = pod
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=spec.name)
        self._thread.start()

    def end(self, number: signal.Signals, grace_s: float) -> None:
        """End the container: the signal, and SIGKILL when the grace period is over."""
        self._ending.set()
        self.container.kill(number)
        if self.container.wait(grace_s) is None:
            self.container.kill(signal.SIGKILL)
        self._thread.join()

    def _keep(self) -> None:
        probe = self.spec.probes.get("liveness")
        failures = 0
        while True:
            exited = self.container.wait(probe.period_s if probe else 1.0) is not None
            if self._ending.is_set():
                self.container.wait(self._pod.spec.grace_s + 10)
                return
            if exited:
                self._pod.restarts[self.spec.name] = self._pod.restarts.get(self.spec.name, 0) + 1
                self.container = self._pod._create(self.spec)
                failures = 0
            elif probe:
                failures = 0 if self._pod._succeeds(probe) else failures + 1
                if failures == probe.failures:
                    self.container.kill(signal.SIGKILL)


def _status(port: int, path: str, timeout_s: float) -> int:
    connection = http.client.HTTPConnection(POD_ADDRESS, port, timeout=timeout_s)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
