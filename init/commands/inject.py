"""`meshdns inject`: manifests in, the same out with capture and the resolver in their pods."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from meshdns.init import defaults
from meshdns.init.errors import ConfigurationError
from meshdns.init.inject.chunk import MAX_FILE_BYTES
from meshdns.init.inject.container import Injection
from meshdns.init.inject.parameters import ADMIN, IMAGE, NAMESPACE, OBJECT_NAME
from meshdns.init.inject.rewrite import Rewritten, rewrite
from meshdns.init.version import VERSION

REFUSED: Final = 1
"""Exit code when an object cannot have our parts."""
WOULD_CHANGE: Final = 10
"""Exit code of `--check`, as for every drift."""
BACKENDS: Final = ("auto", "nft", "iptables-nft", "iptables-legacy")
STDIN: Final = Path("-")


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE|-",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Manifests, YAML or JSON; may be repeated. -: standard input.",
)
@click.option(
    "--image", type=IMAGE, default=f"meshdns:{VERSION}", show_default=True, help="The image of both containers."
)
@click.option(
    "--configmap",
    type=OBJECT_NAME,
    default="meshdns-entries",
    show_default=True,
    help="ConfigMap of ServiceEntries, in the pod's namespace. While there is none, names are only forwarded.",
)
@click.option(
    "--namespace",
    type=NAMESPACE,
    help="The namespace by which entries are chosen (exportTo).  [default: the one that the pod is in]",
)
@click.option(
    "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="How rules get into the kernel."
)
@click.option(
    "--admin",
    type=ADMIN,
    default=f"0.0.0.0:{defaults.ADMIN_PORT}",
    show_default=True,
    help="Where kubelet and Prometheus reach the resolver; [::]:15054 where a pod's first address is IPv6.",
)
@click.option("--classic", is_flag=True, help="An ordinary container instead of a sidecar, for Kubernetes before 1.29.")
@click.option("--check", is_flag=True, help="Print nothing; exit 10 when something would change.")
def inject(files: tuple[Path, ...], check: bool, **options: Any) -> int:  # noqa: ANN401, FBT001 - click passes what they say
    """Print manifests with capture and the resolver in their pods.

    Pods get an init container that installs the rules (root, with NET_ADMIN alone) and the resolver as a sidecar (uid
    1337, no capability). Comments and the order of keys stay; injecting again changes nothing, or replaces what other
    options put there. Objects without a pod pass as they are, so do those annotated meshdns.io/inject: "false".
    A pod that cannot be injected is named on stderr, nothing is printed, and the exit code is 1.

    The pod security level "restricted" forbids NET_ADMIN, and "baseline" too: the namespace must allow "privileged".

    \b
    Examples:
      meshdns inject -f deployment.yaml | kubectl apply -f -
      meshdns inject --check -f deployment.yaml -f job.yaml
    """
    asked = Injection(**options)
    results = [rewrite(_read(file), _name(file), asked) for file in files]
    for result in results:
        for warning in result.warnings:
            click.echo(f"meshdns: warning: {warning}", err=True)
    refused = [line for result in results for line in result.refused]
    for line in refused:
        click.echo(f"meshdns: {line}", err=True)
    if refused:
        return REFUSED
    if check:
        return WOULD_CHANGE if any(result.changed for result in results) else 0
    sys.stdout.buffer.write(_joined(results))
    return 0


def _joined(results: list[Rewritten]) -> bytes:
    """Return the files as one: a document never runs into the next."""
    whole = b""
    for result in results:
        if whole and not whole.endswith(b"\n"):
            whole += b"\n"
        if whole and not result.data.startswith(b"---"):
            whole += b"---\n"
        whole += result.data
    return whole


def _read(file: Path) -> bytes:
    try:
        if file == STDIN:
            return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        with file.open("rb") as manifests:
            return manifests.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error


def _name(file: Path) -> str:
    return "standard input" if file == STDIN else str(file)
