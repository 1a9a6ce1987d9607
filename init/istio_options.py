"""`--mesh-config` and `--pod-annotations`: Istio's settings stand between our own files and the defaults."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from meshdns.init.options import Settings

if TYPE_CHECKING:
    from meshdns.init.proxyconfig import ProxySettings

F = TypeVar("F", bound=Callable[..., Any])

FILE: Final = click.Path(exists=True, dir_okay=False)
VARIABLES: Final = ("ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE")
_FILES: Final = "meshdns.init.istio_options.files"
_FOUND: Final = "meshdns.init.istio_options.found"


def istio_options(settings: Settings) -> Callable[[F], F]:
    """Return a decorator that gives a command both options; it stands below that of `--config`."""
    attributes: dict[str, Any] = {"type": FILE, "is_eager": True, "expose_value": False, "callback": _remember}
    mesh = settings.option("--mesh-config", help="IstioOperator or mesh config, whose settings count.", **attributes)
    pod = settings.option(
        "--pod-annotations", help="The pod's annotations, from the downward API: Istio's settings count.", **attributes
    )
    return lambda command: mesh(pod(command))


def found(ctx: click.Context) -> ProxySettings | None:
    """Return what Istio's documents and variables said, None where there was nothing to read."""
    settings: ProxySettings | None = ctx.meta.get(_FOUND)
    return settings


def _remember(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """Keep the file's name; when both are known, take over what they say for options that nobody has said better."""
    files: dict[str | None, str | None] = ctx.meta.setdefault(_FILES, {})
    files[param.name] = path
    if len(files) == 2:  # noqa: PLR2004 - the two options
        _take_over(ctx, files["mesh_config"], files["pod_annotations"])


def _take_over(ctx: click.Context, mesh_config: str | None, pod_annotations: str | None) -> None:
    if not (mesh_config or pod_annotations or any(name in os.environ for name in VARIABLES)):
        return
    from pathlib import Path  # noqa: PLC0415 - hardly anybody needs it

    from meshdns.init.proxyconfig import proxy_settings  # noqa: PLC0415 - as above

    mesh, pod = (None if path is None else Path(path) for path in (mesh_config, pod_annotations))
    read = proxy_settings(mesh, pod, os.environ)
    for warning in read.warnings:
        click.echo(f"meshdns: warning: {warning}", err=True)
    # click wants a list of values for an option that may be repeated; ours is one comma list.
    said = {
        option.replace("-", "_"): [one.value] if isinstance(one.value, tuple) else one.value
        for option, one in read.settings.items()
    }
    ctx.default_map = {**said, **(ctx.default_map or {})}
    ctx.meta[_FOUND] = read
