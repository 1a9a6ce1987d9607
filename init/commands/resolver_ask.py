"""What a running resolver is asked, at its admin port: `meshdns resolver query`, `explain`, `dump`, `vips`."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

import click

from meshdns.init import present
from meshdns.init.ask import ask, ask_json
from meshdns.init.commands.resolver import admin_option, resolver
from meshdns.init.errors import MissingError
from meshdns.init.server_parameters import SERVER
from meshdns.resolver.serve.address import SocketAddress
from meshdns.resolver.serve.metrics import TYPE_NAMES

RCODE_ERROR: Final = 1
"""Exit code of `query` for any RCODE but NOERROR."""


@resolver.command()
@click.argument("name")
@click.argument("qtype", metavar="[TYPE]", default="A")
@admin_option
def query(name: str, qtype: str, admin: SocketAddress) -> int:
    """Ask the running resolver, as any client would.

    \b
    Example:
      meshdns resolver query auto.internal AAAA
    """
    from dnslib import QTYPE, RCODE, DNSError, DNSLabel, DNSQuestion, DNSRecord  # noqa: PLC0415 - 30 ms for one command
    from dnslib.label import DNSLabelError  # noqa: PLC0415

    kind = QTYPE.reverse.get(qtype.upper())
    if kind is None:
        raise click.BadParameter(f"{qtype!r} is not a record type: give A, AAAA, SRV, PTR, HTTPS …", param_hint="TYPE")
    try:
        question = DNSQuestion(DNSLabel(name), kind)
        packet = DNSRecord(q=question)
        packet.header.id = secrets.randbelow(1 << 16)
        packed = bytes(packet.pack())
    except (DNSLabelError, UnicodeError) as error:
        raise click.BadParameter(f"{name!r} is not a name: {error}", param_hint="NAME") from error
    reply = ask(admin, "/query", {"dns": base64.urlsafe_b64encode(packed).decode().rstrip("=")})
    try:
        shown = DNSRecord.parse(reply)
        click.echo(shown.toZone())
    except (DNSError, DNSLabelError, BufferError, UnicodeError) as error:
        raise MissingError(f"cannot show the reply: {error}: try dig") from error
    return 0 if shown.header.rcode == RCODE.NOERROR else RCODE_ERROR


@resolver.command()
@click.argument("what", metavar="NAME|ADDRESS[:PORT]")
@click.argument("qtype", metavar="[TYPE]", default="A")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@admin_option
def explain(what: str, qtype: str, admin: SocketAddress, *, as_json: bool) -> None:
    """Say why a name answers as it does, or what an address stands for.

    \b
    Example:
      meshdns resolver explain auto.internal
      meshdns resolver explain 240.240.0.1:80
    """
    if qtype.upper() not in TYPE_NAMES.values():
        raise click.BadParameter(f"{qtype!r} is not one of {', '.join(TYPE_NAMES.values())}", param_hint="TYPE")
    address = _address(what)
    asked = {"name": what, "type": qtype} if address is None else {"address": address[0], "port": address[1]}
    found = ask_json(admin, "/explain", asked)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in _told(found):
        click.echo(line)


def _address(text: str) -> tuple[str, str] | None:
    """Read ADDRESS or ADDRESS:PORT; None for a name, which has no colon."""
    try:
        return str(ip_address(text)), ""
    except ValueError:
        if ":" not in text:
            return None
    try:
        found = SERVER.convert(text, None, None)
    except click.BadParameter as error:
        error.param_hint = "NAME|ADDRESS[:PORT]"
        raise
    return str(found.address), str(found.port)


def _told(found: dict[str, Any]) -> Iterable[str]:
    """Tell an explanation as lines: the verdict first, then whatever there is to say."""
    name = found.get("name") or found.get("address")
    yield f"{name}: {'ours' if found['ours'] else 'not ours'}" + (f": {found['reason']}" if "reason" in found else "")
    for key in ("match", "search_suffix", "host", "namespace", "external_name", "ttl"):
        if found.get(key) is not None:
            yield f"  {key.replace('_', ' ')}: {found[key]}"
    for key in ("addresses", "lease", "aliases", "nearest", "notes"):
        if found.get(key):
            yield f"  {key}: {', '.join(found[key])}"
    yield from _told_objects(found)
    for endpoint in found.get("endpoints", ()):
        yield f"  endpoint {endpoint['endpoint']}: {endpoint['health']}"
    for key, label in (("cache", "cache"), ("asked", "asked now")):
        if key in found:
            yield f"  {label}: {found[key]}"
    for server in found.get("upstreams", ()):
        yield f"  upstream {server}"


def _told_objects(found: dict[str, Any]) -> Iterable[str]:
    for part in found.get("from", ()):
        ports = ", ".join(f"{port['number']}/{port['protocol'] or 'TCP'}" for port in part["ports"])
        endpoints = ", ".join(part["endpoints"])
        yield f"  from {part['object']} at {part['at']}, resolution {part['resolution']}"
        yield f"    ports: {ports or 'none'}; endpoints: {endpoints or 'none'}"
    for beaten in found.get("beaten", ()):
        yield f"  beats {beaten['object']}: {beaten['rule']}"


@resolver.command()
@click.option(
    "-o",
    "form",
    type=click.Choice(["table", "json", "hosts", "zone"]),
    default="table",
    show_default=True,
    help="As what.",
)
@admin_option
def dump(form: str, admin: SocketAddress) -> None:
    """Print every name of the running resolver.

    \b
    Example:
      meshdns resolver dump -o hosts
    """
    rows = ask_json(admin, "/table")
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif form == "hosts":
        for row in rows:
            names = [row["host"], *row["aliases"]]
            for address in row["addresses"] if not row["host"].startswith("*") else ():
                click.echo(f"{address}\t{' '.join(names)}")
    elif form == "zone":
        for line in _zone_lines(rows):
            click.echo(line)
    else:
        present.table(
            ("HOST", "NAMESPACE", "ADDRESSES", "FROM"),
            [
                (row["host"], row["namespace"], _answer(row), ", ".join(part["at"] for part in row["from"]))
                for row in rows
            ],
        )


def _answer(row: dict[str, Any]) -> str:
    if row["unanswered"]:
        return f"forwarded: {row['unanswered']}"
    return row["external_name"] or ", ".join(row["addresses"])


def _zone_lines(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    for row in rows:
        names = (row["host"], *row["aliases"])
        for name in names if row["external_name"] else ():
            yield f"{name}.\t{row['ttl']}\tIN\tCNAME\t{row['external_name']}."
        for address in row["addresses"]:
            kind = "AAAA" if ":" in address else "A"
            for name in names:
                yield f"{name}.\t{row['ttl']}\tIN\t{kind}\t{address}"


@resolver.command()
@click.argument("address", required=False)
@admin_option
def vips(address: str | None, admin: SocketAddress) -> int:
    """List the leased addresses, or name the host that one of them stands for.

    \b
    Example:
      meshdns resolver vips 240.240.0.1
    """
    leased = [row for row in ask_json(admin, "/table") if row["lease"]]
    if address is None:
        present.table(
            ("IPV4", "IPV6", "HOST", "NAMESPACE"),
            [(*_by_family(row["lease"]), row["host"], row["namespace"]) for row in leased],
        )
        return 0
    try:
        wanted = str(ip_address(address))
    except ValueError:
        raise click.BadParameter(f"{address!r} is not an IP address", param_hint="ADDRESS") from None
    holder = next((row for row in leased if wanted in row["lease"]), None)
    click.echo(holder["host"] if holder else f"{wanted} is not leased")
    return 0


def _by_family(lease: Iterable[str]) -> tuple[str, str]:
    """Return the IPv4 and the IPv6 addresses of a lease; `status.addresses` may give one family, or several of one."""
    addresses = tuple(lease)
    return (
        ", ".join(address for address in addresses if ":" not in address),
        ", ".join(address for address in addresses if ":" in address),
    )
