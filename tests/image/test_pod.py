"""A pod that `meshdns inject` wrote, led through its life by a kubelet that obeys every field of the manifest."""

from __future__ import annotations

import copy
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import pytest
import yaml
from image.kubelet import InitError, Node, Pod, PodError, running
from image.podspec import read
from image.world import OUTSIDE_ADDRESS, OUTSIDE_NAME, WEB
from resolving import MESHDNS

from meshdns.init import defaults

CAPTURE = "meshdns-capture"
RESOLVER = "meshdns-resolver"
LEASE = "240.240.0.1"
APPLICATION = """\
apiVersion: v1
kind: Pod
metadata: {name: shop, namespace: default, labels: {app: shop}}
spec:
  containers: [{name: app, image: "app:1"}]
"""
LATE = """\
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: late}
spec:
  hosts: [late.internal]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 198.51.100.2}]
"""
AT_ONCE_S = 0.5
"""What starting a program in a container and one lookup take at most, beside the heartbeat's own times."""

Manifest = dict[str, Any]


def injected(*options: str) -> Manifest:
    """Return the application's pod as `meshdns inject` prints it."""
    command = [*MESHDNS, "inject", "-f", "-", *options]
    done = subprocess.run(command, input=APPLICATION, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest: Manifest = yaml.safe_load(done.stdout)
    return manifest


def of(manifest: Manifest, name: str) -> Manifest:
    """Return the container's part of the manifest, to be changed."""
    both = manifest["spec"]["initContainers"] + manifest["spec"]["containers"]
    (found,) = (container for container in both if container["name"] == name)
    return found  # type: ignore[no-any-return]  # what YAML gave


def address(pod: Pod, name: str) -> str:
    """Return what getaddrinfo gives the application, the first IPv4 address or nothing."""
    said = pod.execute("app", "getent", "ahostsv4", name).stdout.split()
    return said[0] if said else ""


def page(pod: Pod, name: str) -> str:
    """Return what curl gives the application."""
    return pod.execute("app", "curl", "-sS", "--max-time", "5", name).stdout


def wait_until(true: Callable[[], object], within_s: float = 15) -> None:
    """Wait until something is true."""
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def captured(pod: Pod) -> bool:
    """Tell whether the first heartbeat has opened the redirect."""
    return address(pod, "address.internal") == WEB[0]


def lookups(pod: Pod, name: str, seconds: float) -> subprocess.Popen[str]:
    """Look `name` up in the application again and again; a line each: when it began, its exit code, when it ended."""
    look = f"s=$(date +%s.%N); getent ahostsv4 {name} >/dev/null; echo $s $? $(date +%s.%N); sleep 0.05"
    loop = f"end=$(($(date +%s)+{seconds:.0f})); while [ $(date +%s) -lt $end ]; do {look}; done"
    return pod.execute_later("app", "sh", "-c", loop)


def results(running_lookups: subprocess.Popen[str]) -> list[tuple[float, bool, float]]:
    """Wait for the end of `lookups`: began, answered, took; in seconds."""
    said, _ = running_lookups.communicate(timeout=60)
    rows = [line.split() for line in said.splitlines()]
    return [(float(began), code == "0", float(ended) - float(began)) for began, code, ended in rows]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="sidecar"),
        pytest.param(["--classic"], id="classic"),
        pytest.param(["--backend", "iptables-nft"], id="iptables-nft"),
        pytest.param(["--backend", "iptables-legacy"], id="iptables-legacy"),
    ],
)
def test_the_application_reaches_both_names(node: Node, options: list[str]) -> None:
    """In the injected pod the names of both entries resolve and give their pages, and other names are forwarded."""
    with running(injected(*options), node) as pod:
        wait_until(lambda: captured(pod))
        assert address(pod, "auto.internal") == LEASE
        assert (page(pod, "address.internal"), page(pod, "auto.internal")) == tuple(f"page of {web}\n" for web in WEB)
        assert address(pod, OUTSIDE_NAME) == OUTSIDE_ADDRESS
        assert address(pod, "unknown.internal") == ""
        assert pod.restarts == {}
        assert "WARNING meshdns: " not in pod.container(RESOLVER).output()


def test_without_the_resolver_nothing_is_answered(node: Node) -> None:
    """The negative control: in the same pod as its author wrote it, the entries' names do not exist."""
    with running(yaml.safe_load(APPLICATION), node) as pod:
        assert address(pod, OUTSIDE_NAME) == OUTSIDE_ADDRESS
        assert address(pod, "address.internal") == address(pod, "auto.internal") == ""


def test_the_sidecar_has_no_privilege(node: Node) -> None:
    """The resolver's process has the manifest's user and group, no capability in any set, and a read-only root."""
    with running(injected(), node) as pod:
        status = Path(f"/proc/{pod.container(RESOLVER).pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert facts["Uid"].split() == facts["Gid"].split() == ["1337"] * 4
        assert {int(facts[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
        for path, fails in (("/x", True), ("/etc/meshdns/entries/x", True), ("/var/lib/meshdns/x", False)):
            assert bool(pod.execute(RESOLVER, "sh", "-c", f"echo > {path}").returncode) == fails, path


def test_it_stays_below_its_memory_limit(node: Node) -> None:
    """Its processes together never held what the manifest allows, so that none is killed for it."""
    with running(injected(), node) as pod:
        wait_until(lambda: captured(pod))
        (spec,) = (spec for spec in pod.spec.init_containers if spec.name == RESOLVER)
        status = Path(f"/proc/{pod.container(RESOLVER).pid}/status").read_text()
        (peak,) = (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
        assert spec.memory_limit_bytes
        assert 2 * peak < spec.memory_limit_bytes  # the child that loads is no larger


def test_probes_are_answered_at_the_pods_address(node: Node) -> None:
    """From the node the manifest's probes succeed; what tells more than health is not served there."""
    with running(injected(), node) as pod:
        assert pod.probe(RESOLVER, "startup")
        assert pod.probe(RESOLVER, "readiness")
        assert pod.probe(RESOLVER, "liveness")
        port = defaults.ADMIN_PORT
        statuses = {path: pod.get(port, path) for path in ("/metrics", "/healthz", "/readyz", "/table", "/explain")}
        assert statuses == {"/metrics": 200, "/healthz": 200, "/readyz": 200, "/table": 404, "/explain": 404}


def test_a_killed_sidecar_is_missed_for_no_longer_than_the_timeout(node: Node) -> None:
    """Killed with -9 and restarted, it costs no lookup its answer, and lookups begun after the timeout no time."""
    with running(injected(), node) as pod:
        wait_until(lambda: captured(pod))
        asking = lookups(pod, OUTSIDE_NAME, seconds=8)
        time.sleep(1)
        killed_at = time.time()
        pod.container(RESOLVER).kill(SIGKILL)
        seen = results(asking)
        assert pod.restarts == {RESOLVER: 1}
        assert [began - killed_at for began, answered, _ in seen if not answered] == []
        slow = [began - killed_at for began, _, took in seen if took > 1]
        assert all(0 <= began + AT_ONCE_S < defaults.HEARTBEAT_TIMEOUT_S + 2 * AT_ONCE_S for began in slow), slow
        assert seen[0][0] < killed_at < seen[-1][0]
        wait_until(lambda: captured(pod))
        assert page(pod, "auto.internal") == f"page of {WEB[1]}\n"


def test_a_sidecar_that_hangs_is_restarted_by_its_liveness_probe(node: Node) -> None:
    """Stopped, it fails its liveness probe from outside, and its successor answers."""
    manifest = injected()
    of(manifest, RESOLVER)["livenessProbe"] |= {"periodSeconds": 1, "timeoutSeconds": 1}
    with running(manifest, node) as pod:
        wait_until(lambda: captured(pod))
        pod.container(RESOLVER).kill(SIGSTOP)
        wait_until(lambda: pod.restarts == {RESOLVER: 1}, 30)
        wait_until(lambda: captured(pod))


def test_leases_outlive_the_container(node: Node) -> None:
    """A host keeps its leased address over a restart, though an entry that would come before it has arrived since."""
    first = LATE.replace("late", "first").replace("name: first", "name: aaa, creationTimestamp: 2020-01-01T00:00:00Z")
    with running(injected(), node) as pod:
        wait_until(lambda: address(pod, "auto.internal") == LEASE)
        node.config_maps["meshdns-entries"] = {"a.yaml": first, **node.config_maps["meshdns-entries"]}
        pod.container(RESOLVER).kill(SIGKILL)
        pod.sync()
        wait_until(lambda: pod.restarts == {RESOLVER: 1})
        wait_until(lambda: address(pod, "first.internal"))
        assert address(pod, "first.internal") == "240.240.0.2"
        assert address(pod, "auto.internal") == LEASE


def test_an_upgrade_fails_no_lookup(node: Node) -> None:
    """The sidecar's image is changed in place: rules stay as they are, no lookup fails, none waits for a timeout."""
    with running(injected(), node) as pod:
        wait_until(lambda: captured(pod))
        rules = without_elements(node)
        old = pod.container(RESOLVER).pid
        asking = lookups(pod, OUTSIDE_NAME, seconds=10)
        pod.upgrade(RESOLVER, "meshdns:next")
        seen = results(asking)
        assert [row for row in seen if not row[1] or row[2] > 1] == []
        assert pod.container(RESOLVER).pid != old
        assert without_elements(node) == rules
        wait_until(lambda: captured(pod))
        assert page(pod, "auto.internal") == f"page of {WEB[1]}\n"


@pytest.mark.parametrize("backend", ["nft", "iptables-nft"])
def test_the_init_container_may_run_again(node: Node, backend: str) -> None:
    """A second run of the init container changes no rule and fails no lookup."""
    with running(injected("--backend", backend), node) as pod:
        wait_until(lambda: captured(pod))
        rules = without_elements(node)
        asking = lookups(pod, "address.internal", seconds=3)
        assert "nothing to change" in pod.initialize(CAPTURE)
        assert all(answered for _, answered, _ in results(asking))
        assert without_elements(node) == rules


def test_a_swapped_config_map_is_answered(node: Node) -> None:
    """Names that a new ConfigMap adds are answered within two seconds, those that it takes away are not any more."""
    with running(injected(), node) as pod:
        wait_until(lambda: captured(pod))
        node.config_maps["meshdns-entries"] = {"late.yaml": LATE}
        pod.sync()
        wait_until(lambda: address(pod, "late.internal"), 2 + AT_ONCE_S)
        assert page(pod, "late.internal") == f"page of {WEB[1]}\n"
        assert address(pod, "address.internal") == ""


def test_a_pod_starts_without_its_config_map(node: Node) -> None:
    """While there is no ConfigMap names are forwarded; once there is, they are answered."""
    entries = node.config_maps.pop("meshdns-entries")
    with running(injected(), node) as pod:
        assert address(pod, OUTSIDE_NAME) == OUTSIDE_ADDRESS
        assert address(pod, "auto.internal") == ""
        node.config_maps["meshdns-entries"] = entries
        pod.sync()
        wait_until(lambda: captured(pod))


@pytest.mark.parametrize("options", [[], ["--classic"], ["--backend", "iptables-nft"]])
def test_without_net_admin_the_pod_does_not_start(node: Node, options: list[str]) -> None:
    """The init container ends with 3 and one line that names NET_ADMIN; no rule is there, and nothing else starts."""
    manifest = injected(*options)
    del of(manifest, CAPTURE)["securityContext"]["capabilities"]["add"]
    with pytest.raises(InitError) as error, running(manifest, node):
        pass
    assert error.value.code == 3
    assert "NET_ADMIN" in error.value.output
    assert len(error.value.output.splitlines()) == 1
    assert node.world.pod.ruleset() == ""
    assert len(list((node.home / "pod").glob("run-*"))) == 1


def test_an_application_with_a_read_only_root_is_served(node: Node) -> None:
    """Nothing is needed of the application's file system: an immutable root, another user, no capability."""
    manifest = injected()
    of(manifest, "app")["securityContext"] = {
        "readOnlyRootFilesystem": True,
        "runAsUser": 4711,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    with running(manifest, node) as pod:
        wait_until(lambda: captured(pod))
        assert page(pod, "auto.internal") == f"page of {WEB[1]}\n"


def test_every_variant_is_read_in_full() -> None:
    """Whatever `inject` writes is a field that this kubelet obeys."""
    for options in ([], ["--classic"], ["--backend", "iptables-legacy"], ["--namespace", "other"]):
        assert read(injected(*options)).init_containers[0].name == CAPTURE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda pod: pod["spec"].update(hostNetwork=True), id="pod"),
        pytest.param(lambda pod: pod["spec"].update(securityContext={"sysctls": []}), id="pod-security"),
        pytest.param(lambda pod: of(pod, "app").update(stdin=True), id="container"),
        pytest.param(lambda pod: of(pod, RESOLVER).update(restartPolicy="Never"), id="restart-policy"),
        pytest.param(lambda pod: of(pod, RESOLVER)["securityContext"].update(procMount="Unmasked"), id="security"),
        pytest.param(lambda pod: of(pod, CAPTURE)["securityContext"].update(privileged=True), id="privileged"),
        pytest.param(lambda pod: of(pod, RESOLVER)["livenessProbe"].update(initialDelaySeconds=5), id="probe"),
        pytest.param(lambda pod: of(pod, RESOLVER)["volumeMounts"][0].update(subPath="x"), id="mount"),
        pytest.param(lambda pod: of(pod, RESOLVER)["args"].append("$(POD)"), id="variable"),
        pytest.param(lambda pod: pod["spec"]["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), id="volume"),
    ],
)
def test_no_field_is_ignored(change: Callable[[Manifest], None]) -> None:
    """A field that this kubelet does not know stops it: nothing else is proven about a manifest."""
    manifest = injected()
    read(copy.deepcopy(manifest))
    change(manifest)
    with pytest.raises((NotImplementedError, ValueError)):
        read(manifest)


def test_a_required_config_map_that_is_missing_keeps_the_pod_waiting(node: Node) -> None:
    """Without `optional` kubelet does not start a pod whose ConfigMap is not there; so `inject` writes it."""
    manifest = injected()
    (volume,) = (volume for volume in manifest["spec"]["volumes"] if "configMap" in volume)
    del volume["configMap"]["optional"]
    node.config_maps.clear()
    with pytest.raises(PodError, match="configmap meshdns-entries not found"), running(manifest, node):
        pass


def without_elements(node: Node) -> str:
    """Return the pod's rules as they are written down; what the kernel counted or saw last is left out."""
    lines = node.world.pod.ruleset().splitlines()
    return "\n".join(line for line in lines if "elements = " not in line)
