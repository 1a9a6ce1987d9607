"""The import contracts of pyproject.toml hold, and each of them can fail."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

TREE = Path(__file__).parent.parent
PACKAGES = ("capture", "resolver", "relay", "init")

BREAKS = {
    "capture, resolver and relay share no code; only init knows them": ("relay/route.py", "meshdns.resolver.errors"),
    "no library looks up at the front end": ("relay/order.py", "meshdns.init.defaults"),
    "a packet and a manifest walk one way": ("resolver/source/syntax.py", "meshdns.resolver.query.wire"),
    "a rule walks one way": ("capture/policy/spec.py", "meshdns.capture.dialects.nft.render"),
    "what decides knows no world": ("resolver/query/wire.py", "socket"),
    "YAML has one door": ("resolver/source/syntax.py", "yaml"),
    "YAML with comments has one door": ("init/inject/pod.py", "ruamel.yaml"),
    "processes are started in few places": ("init/present.py", "subprocess"),
    "pyroute2 stays out of serving and installing": ("capture/apply/install.py", "pyroute2"),
    "dnslib stays off the packet path": ("resolver/query/reply.py", "dnslib"),
    "prometheus-client and rich have one door each": ("resolver/serve/pages.py", "prometheus_client"),
}
"""For each contract a module and an import that it forbids there."""


def copied(tmp_path: Path) -> Path:
    """Copy what the linter reads into a tree of its own."""
    for package in PACKAGES:
        for source in (TREE / package).rglob("*.py"):
            target = tmp_path / "src" / "meshdns" / source.relative_to(TREE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((TREE / "pyproject.toml").read_bytes())
    return tmp_path


def verdicts(tree: Path) -> dict[str, str]:
    """Run the linter over a tree and return KEPT or BROKEN by contract."""
    # The installed tree is a portion of the same namespace package, and would be linted in place of the copy.
    code = (
        "import sys; sys.path[:] = ['src', *(path for path in sys.path if not path.endswith('/src'))]; "
        "from importlinter.cli import lint_imports_command as run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False, timeout=50
    )
    found = re.findall(r"^(.+?) (KEPT|BROKEN)", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return dict(found)


def test_every_contract_is_kept(tmp_path: Path) -> None:
    """No import of the tree breaks a contract."""
    assert set(verdicts(copied(tmp_path)).values()) == {"KEPT"}


def test_every_contract_can_be_broken(tmp_path: Path) -> None:
    """For each contract there is an import that breaks it and is caught, so that none of them is idle."""
    tree = copied(tmp_path)
    contracts = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {contract["name"] for contract in contracts} == set(BREAKS)
    for file, module in BREAKS.values():
        with (tree / "src" / "meshdns" / file).open("a") as source:
            source.write(f"\nimport {module}\n")
    assert set(verdicts(tree).values()) == {"BROKEN"}


def test_what_decides_in_prove_is_guarded_too(tmp_path: Path) -> None:
    """A module of `prove` that only judges may not look at the world, though its neighbours do nothing else."""
    tree = copied(tmp_path)
    with (tree / "src" / "meshdns" / "capture" / "prove" / "checks.py").open("a") as source:
        source.write("\nimport time\n")
    broken = {name for name, verdict in verdicts(tree).items() if verdict == "BROKEN"}
    assert broken == {"what decides knows no world"}
