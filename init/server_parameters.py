"""What a value that names a server or a host may look like: click types besides those of `parameters.py`."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Any

import click

from meshdns.init.parameters import PORT
from meshdns.resolver.serve.address import SocketAddress

MAX_NAME_CHARACTERS = 253
DNS_PORT = 53


class SocketAddressType(click.ParamType[SocketAddress]):
    """`127.0.0.1:53`, `[::1]:53`; where a default port is given also `127.0.0.1` and `::1`."""

    name = "address:port"

    def __init__(self, default_port: int | None = None) -> None:
        self.default_port = default_port

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SocketAddress:
        if isinstance(value, SocketAddress):
            return value
        text = str(value).strip()
        if self.default_port is not None:
            try:
                return SocketAddress(ip_address(text), self.default_port)
            except ValueError:
                pass  # it has a port, or is refused below
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            address = ip_address(host[1:-1] if bracketed else host)
        except ValueError:
            self.fail(f"{text!r} is not an address with a port: write 127.0.0.1:15053 or [::1]:15053", param, ctx)
        if not colon or bracketed != isinstance(address, IPv6Address):
            self.fail(f"{text!r} is not an address with a port: write 127.0.0.1:15053 or [::1]:15053", param, ctx)
        return SocketAddress(address, PORT.convert(port, param, ctx))


class HostNameType(click.ParamType[str]):
    """A DNS name in text, at most 253 characters; lower-case and without a trailing dot from here on (RFC 1123)."""

    name = "name"
    label = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip().lower().removesuffix(".")
        if len(text) > MAX_NAME_CHARACTERS or not all(map(self.label.fullmatch, text.split("."))):
            self.fail(
                f"{value!r} is not a DNS name: labels of letters, digits and hyphens, with dots between", param, ctx
            )
        return text


class ZoneType(click.ParamType[tuple[str, SocketAddress]]):
    """`SUFFIX=ADDRESS[:PORT]`: names under the suffix are asked there."""

    name = "suffix=address[:port]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, SocketAddress]:
        if isinstance(value, tuple):
            return value
        suffix, equals, server = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} names no server: write corp.example=10.0.0.53", param, ctx)
        return HOST_NAME.convert(suffix, param, ctx), SERVER.convert(server, param, ctx)


HOST_NAME = HostNameType()
SERVER = SocketAddressType(DNS_PORT)
ZONE = ZoneType()
