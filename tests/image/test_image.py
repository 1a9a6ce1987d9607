"""The image: what is in it, what is not, and that its two commands run with the privileges that they say they need."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from image.image import Image
from image.kubelet import Node
from image.runtime import Container, Mount, Spec
from image.volumes import empty_dir
from image.world import POD_ADDRESS

from meshdns.init import defaults
from meshdns.init.version import VERSION

NET_ADMIN = frozenset({"CAP_NET_ADMIN"})
WITH_LOCK = NET_ADMIN | {"CAP_NET_RAW"}
MAX_MB = 165
"""Debian takes 80, Python, nft and iptables 49, meshdns and its libraries 31."""
EXITS_WITHIN_S = 60


def start(
    node: Node,
    image: Image,
    *arguments: str,
    user: str | None = None,
    capabilities: frozenset[str] = frozenset(),
    mounts: tuple[Mount, ...] = (),
) -> Container:
    """Run the image's entry point with a read-only root and no way to gain privileges."""
    number = len(list(node.home.glob("run-*")))
    run = node.home / f"run-{number}"
    run.mkdir()
    uid, gid = (int(part) for part in (user or image.user).split(":"))
    spec = Spec(
        rootfs=image.rootfs, arguments=(*image.entrypoint, *arguments), environment=image.environment,
        directory=image.directory, uid=uid, gid=gid, groups=(), capabilities=capabilities, no_new_privileges=True,
        read_only_root=True, seccomp=True, network=node.world.pod.path, hostname="image", mounts=mounts,
    )  # fmt: skip
    return Container(spec, f"image-{number}", run)


def finish(container: Container) -> tuple[int | None, str]:
    """Wait for its end; exit code and what it wrote."""
    code = container.wait(EXITS_WITHIN_S)
    return code, container.output()


def test_it_says_what_it_is(node: Node, meshdns: Image) -> None:
    """The entry point is meshdns, the user 1337; version and commit stand in the labels and in `--version`."""
    assert meshdns.entrypoint == ("meshdns",)
    assert meshdns.user == f"{defaults.PROXY_UID}:{defaults.PROXY_GID}"
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in meshdns.labels.items()}
    assert labels["version"] == VERSION
    assert labels["licenses"] == "Apache-2.0"
    assert labels["revision"]
    code, said = finish(start(node, meshdns, "--version"))
    assert code == 0
    assert VERSION in said
    assert labels["revision"][:7] in said


@pytest.mark.parametrize(
    "pattern",
    [
        "usr/bin/*gcc*", "usr/bin/cc", "usr/bin/make", "usr/include/*.h", "usr/bin/pip*", "opt/meshdns/bin/pip*",
        "opt/meshdns/lib/*/site-packages/pip", "opt/meshdns/lib/*/site-packages/setuptools", "root/.cache",
        "var/lib/apt/lists/*", "var/cache/apt/**/*.deb", "var/cache/apt/*.bin", "build", "run/secrets/*",
    ],
)  # fmt: skip
def test_nothing_of_the_build_is_left(meshdns: Image, pattern: str) -> None:
    """No compiler, no pip, no cache, no secret of the build is in the last stage."""
    assert (meshdns.rootfs / "opt/meshdns/bin/meshdns").exists()
    assert [str(path) for path in meshdns.rootfs.glob(pattern)] == []


def test_every_module_is_compiled(meshdns: Image) -> None:
    """Each module has its .pyc: with a read-only root it would be compiled anew at every start."""
    site = next(meshdns.rootfs.glob("opt/meshdns/lib/*/site-packages"))
    modules = list(site.rglob("*.py"))
    missing = [str(module) for module in modules if not list(module.parent.glob(f"__pycache__/{module.stem}.*.pyc"))]
    assert len(modules) > 200
    assert missing == []


def test_it_is_small(meshdns: Image) -> None:
    """The root file system stays below its limit."""
    used = subprocess.run(["du", "-sxm", meshdns.rootfs], capture_output=True, text=True, check=True).stdout
    assert int(used.split()[0]) <= MAX_MB


class Backend(NamedTuple):
    name: str
    capabilities: frozenset[str]
    writable: str = ""


@pytest.mark.parametrize(
    "backend",
    [
        Backend("auto", NET_ADMIN),
        Backend("nft", NET_ADMIN),
        Backend("iptables-nft", NET_ADMIN),
        Backend("iptables-legacy", WITH_LOCK, writable="/run"),
    ],
    ids=lambda backend: backend.name,
)
def test_install_needs_what_the_manifest_gives(node: Node, meshdns: Image, backend: Backend) -> None:
    """`capture install` as root with NET_ADMIN alone (legacy: and NET_RAW, and a place for its lock) installs."""
    scratch = empty_dir(node.home / "scratch", None)
    mounts = (Mount(scratch, backend.writable, read_only=False),) if backend.writable else ()
    servers = ("--dns-servers", "10.96.0.10")
    install = ("capture", "install", "--backend", backend.name, *servers)
    code, said = finish(start(node, meshdns, *install, user="0:0", capabilities=backend.capabilities, mounts=mounts))
    assert code == 0, said
    listing = (f"{backend.name}-save",) if backend.name.startswith("iptables") else ("nft", "list", "ruleset")
    assert f":{defaults.DNS_PORT}" in node.world.pod.run(*listing).stdout.replace("--to-ports ", ":")


@pytest.mark.parametrize("backend", ["auto", "nft", "iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize(
    ("user", "capabilities"),
    [
        pytest.param("0:0", frozenset(), id="root-without"),
        pytest.param("0:0", frozenset({"CAP_NET_RAW", "CAP_CHOWN", "CAP_SETUID"}), id="root-with-others"),
        pytest.param(None, NET_ADMIN, id="uid-1337"),
    ],
)
def test_a_missing_capability_is_named(
    node: Node, meshdns: Image, backend: str, user: str | None, capabilities: frozenset[str]
) -> None:
    """Without NET_ADMIN in effect `capture install` ends with 3 and a line that says so, and changes nothing."""
    install = ("capture", "install", "--backend", backend, "--dns-servers", "10.96.0.10")
    code, said = finish(start(node, meshdns, *install, user=user, capabilities=capabilities))
    assert code == 3, said
    errors = [line for line in said.splitlines() if line.startswith("meshdns: ")]
    assert len(errors) == 1
    assert "NET_ADMIN" in errors[0] or "run as root" in errors[0]
    assert "Traceback" not in said
    assert node.world.pod.ruleset() == ""


def test_the_resolver_needs_no_privilege(node: Node, meshdns: Image) -> None:
    """`resolver run` as the image's user, without a capability, on a read-only root, gets ready and ends on SIGTERM."""
    upstream = ("--upstream", "10.96.0.10")
    resolver = start(node, meshdns, "resolver", "run", "--admin", "0.0.0.0:15054", *upstream)
    status = Path(f"/proc/{resolver.pid}/status")
    give_up = time.monotonic() + 30
    ready = ("curl", "-sf", f"http://{POD_ADDRESS}:{defaults.ADMIN_PORT}/readyz")
    while node.world.node.run(*ready, check=False).returncode:
        assert time.monotonic() < give_up, resolver.output()
        time.sleep(0.1)
    facts = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
    assert facts["Uid"].split() == [str(defaults.PROXY_UID)] * 4
    assert {int(facts[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert resolver.execute("sh", "-c", "echo > /tmp/x").returncode != 0
    os.kill(resolver.pid, signal.SIGTERM)
    assert resolver.wait(40) == 0, resolver.output()
