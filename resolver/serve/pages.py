"""What the admin port's paths answer. How they are reached stands in `admin`."""

from __future__ import annotations

import asyncio
import base64
import binascii
import http
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from meshdns.resolver.query.answer import Drop, Forward, decide
from meshdns.resolver.serve.admin import Handler, Response, as_json, in_pieces, late_import
from meshdns.resolver.serve.explain import (
    NO_ENTRY,
    Explanation,
    addresses_of,
    explain_address,
    explain_name,
    explain_row,
    nearest,
    why_nothing,
)
from meshdns.resolver.serve.inquiry import answered, inquire
from meshdns.resolver.serve.metrics import TYPE_NAMES, exposition, metrics
from meshdns.resolver.serve.settings import LeaseFamilies
from meshdns.resolver.table.names import to_key
from meshdns.resolver.table.records import IN

if TYPE_CHECKING:
    from meshdns.resolver.serve.run import Resolver

DNS_MESSAGE: Final = "application/dns-message"
"""RFC 8484, section 6."""


def handlers(resolver: Resolver) -> Mapping[str, Handler]:
    """Return the handler of each path."""
    pages = _Pages(resolver)
    return {
        "/metrics": pages.metrics,
        "/healthz": pages.healthz,
        "/readyz": pages.readyz,
        "/table": pages.table,
        "/explain": pages.explain,
        "/query": pages.query,
    }


class _Pages:
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._comparing = asyncio.Lock()  # one search at a time, however many ask: each takes its part of every turn

    async def metrics(self, _parameters: Mapping[str, str]) -> Response:
        """Prometheus's text format."""
        await late_import("prometheus_client")
        return Response(exposition(metrics(self._resolver)), content_type="text/plain; version=0.0.4; charset=utf-8")

    async def healthz(self, _parameters: Mapping[str, str]) -> Response:
        """Answer at all, for this loop is the one that answers queries."""
        return Response(b"ok\n")

    async def readyz(self, _parameters: Mapping[str, str]) -> Response:
        """200, or 503 and what is missing, a line each."""
        missing = self._resolver.missing()
        if not missing:
            return Response(b"ready\n")
        return Response("".join(f"{what}\n" for what in missing).encode(), http.HTTPStatus.SERVICE_UNAVAILABLE)

    async def table(self, _parameters: Mapping[str, str]) -> Response:
        """Every host, as a JSON array."""
        return Response(in_pieces(self._rows()), content_type="application/json")

    def _rows(self) -> Iterator[dict[str, Any]]:
        for row in self._resolver.table.rows:
            yield {**explain_row(row), "unanswered": row.unanswered or None, "addresses": addresses_of(row)}

    async def explain(self, parameters: Mapping[str, str]) -> Response:
        """Why `name` answers as it does, or which host `address` (and `port`) stands for."""
        if "address" in parameters:
            try:
                address = ip_address(parameters["address"])
            except ValueError:
                return Response(b"address: not an IP address\n", http.HTTPStatus.BAD_REQUEST)
            port = parameters.get("port", "")
            found = explain_address(self._resolver.table, address)
            if found.get("leased"):
                number = int(port) if port.isdecimal() else None
                found["endpoints"] = [
                    one for each in self._resolver.companions for one in each.endpoints(address, number)
                ]
            return as_json(found)
        if "name" not in parameters:
            return Response(b"give name=NAME or address=ADDRESS\n", http.HTTPStatus.BAD_REQUEST)
        found = explain_name(self._resolver.table, parameters["name"])
        if found.get("reason") == NO_ENTRY and not self._resolver.loaded:
            found["reason"] = "the manifests have not been loaded yet"
        elif found.get("reason") == NO_ENTRY:
            async with self._comparing:
                found["nearest"] = await nearest(self._resolver.table, parameters["name"])
        return as_json(found | await self._asked(parameters["name"], parameters.get("type", "A")))

    async def _asked(self, name: str, type_name: str) -> Explanation:
        """Ask for a name, and say what came, why if that is nothing, and where from and how it is known."""
        resolver = self._resolver
        qtype = next((number for number, text in TYPE_NAMES.items() if text == type_name.upper()), None)
        key = to_key(name.lower())
        if key is None or qtype is None:
            return {}
        inquiry = await inquire(resolver.forwarder, resolver.table, key, qtype)
        said = inquiry.said
        if inquiry.empty and inquiry.cache is None:
            said += f": {why_nothing(resolver.table, key, struct.pack('!HH', qtype, IN), self._closed())}"
        if inquiry.cache is None:
            return {"asked": said}
        return {"cache": inquiry.cache, "asked": said, "upstreams": inquiry.upstreams}

    def _closed(self) -> str:
        """Say why leases of a family are not answered, where they are not."""
        families = self._resolver.settings.lease_families
        if families is LeaseFamilies.AUTO:
            return "this machine has no IPv6 address but loopback and link-local ones (--lease-families auto)"
        return f"--lease-families is {families.value}"

    async def query(self, parameters: Mapping[str, str]) -> Response:
        """Answer the DNS message in `dns` (base64url) as RFC 8484 has it, the way any client is answered."""
        try:
            text = parameters.get("dns", "")
            packet = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return Response(b"dns: not base64url\n", http.HTTPStatus.BAD_REQUEST)
        reply = await self._answer(packet)
        if reply is None:
            return Response(b"dns: not a query\n", http.HTTPStatus.BAD_REQUEST)
        return Response(reply, content_type=DNS_MESSAGE)

    async def _answer(self, packet: bytes) -> bytes | None:
        decision = decide(packet, self._resolver.table, defaultdict(int), stream=True)
        if isinstance(decision, Forward):
            return await answered(self._resolver.forwarder, packet, decision)
        return None if isinstance(decision, Drop) else decision
