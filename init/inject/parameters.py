"""What a value of `meshdns inject` may look like: one click type for each kind, as in `init.parameters`.

What Kubernetes or a started pod would refuse is refused here, where somebody reads it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import click

from meshdns.init import defaults
from meshdns.init.server_parameters import MAX_NAME_CHARACTERS, SocketAddressType
from meshdns.resolver.serve.address import SocketAddress

_TAKEN: Final = frozenset({defaults.DNS_PORT, defaults.RELAY_PORT})
"""Ports on which the resolver listens in a pod, besides that of `--admin`."""


class NameType(click.ParamType[str]):
    """The name of a Kubernetes object, whose `labels` (RFC 1123) have dots between, or of a namespace: one label.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
    """

    name = "name"
    label = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

    def __init__(self, *, labels: int) -> None:
        self.labels = labels

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        labels = str(value).split(".")
        if len(labels) > self.labels or len(value) > MAX_NAME_CHARACTERS or not all(map(self.label.fullmatch, labels)):
            dots = ", with dots between" if self.labels > 1 else ""
            self.fail(f"{value!r} is no name in Kubernetes: lower-case letters, digits and hyphens{dots}", param, ctx)
        return str(value)


class ImageType(click.ParamType[str]):
    """An image's reference: printable ASCII without white space. A registry judges the rest."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[!-~]+", value):
            self.fail(f"{value!r} is not an image: write something like registry.example/meshdns:1.0", param, ctx)
        return str(value)


class AdminType(SocketAddressType):
    """Where the admin port of a pod can be: kubelet probes it from outside."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SocketAddress:
        address = super().convert(value, param, ctx)
        if address.address.is_loopback:
            self.fail(f"{value!r} is not reached by kubelet's probes: write 0.0.0.0 or [::]", param, ctx)
        if address.port in _TAKEN:
            self.fail(f"port {address.port} is the resolver's or relay's own: take another", param, ctx)
        return address


OBJECT_NAME: Final = NameType(labels=MAX_NAME_CHARACTERS)
NAMESPACE: Final = NameType(labels=1)
IMAGE: Final = ImageType()
ADMIN: Final = AdminType(defaults.ADMIN_PORT)
