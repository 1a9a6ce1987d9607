"""What the command line says about serving, as the values that resolver and relay take; the two are joined here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from meshdns.init import defaults
from meshdns.init.errors import ConfigurationError
from meshdns.init.logs import line_writer
from meshdns.init.relaying import RelayCompanion, RelayOptions
from meshdns.init.version import VERSION
from meshdns.resolver.serve.address import SocketAddress
from meshdns.resolver.serve.settings import (
    BeforeLoaded,
    ForwardSettings,
    LeaseFamilies,
    ServeSettings,
    TableSettings,
)
from meshdns.resolver.table import pools as lease_pools


def serve_settings(options: Mapping[str, Any]) -> ServeSettings:
    """Build the resolver's settings from the options of `meshdns resolver run`; exit code 2 if they contradict."""
    _refuse_shared(options)
    return ServeSettings(
        version=VERSION,
        listen=_listen(options),
        table=table_settings(options),
        forward=ForwardSettings(
            resolv_conf=options["resolv_conf"],
            upstreams=options["upstream"],
            zones=options["zone"],
            cache_entries=options["cache_size"],
            stale_for_s=options["stale_for"],
        ),
        before_loaded=BeforeLoaded(options["before_loaded"]),
        lease_families=LeaseFamilies(options["lease_families"]),
        admin=options["admin"],
        heartbeat_interval_s=defaults.HEARTBEAT_INTERVAL_S if options["heartbeat"] else None,
        heartbeat_timeout_s=options["heartbeat_timeout"],
        proxy_uid=options["proxy_uid"],
        query_log=line_writer(options["query_log"]),
    )


def table_settings(options: Mapping[str, Any]) -> TableSettings:
    """Build what a table depends on; SettingsError for pools that cannot be paired."""
    return TableSettings(
        version=VERSION,
        manifests=tuple(Path(path) for path in options["manifests"]),
        namespace=options["namespace"],
        cluster_domain=options["cluster_domain"],
        search=options["search"] or None,
        state=options["state"],
        auto_allocate=options["auto_allocate"],
        answer_endpoints=options["answer_endpoints"],
        pools=lease_pools.Pools(options["pool4"], options["pool6"]),
        forward_other_types=options["other_types"] == "forward",
        ttl_s=options["ttl"],
        negative_ttl_s=options["negative_ttl"],
        probe_suffix=defaults.PROBE_SUFFIX,
    )


def companions(settings: ServeSettings, options: Mapping[str, Any]) -> tuple[RelayCompanion, ...]:
    """Return what is to run beside the resolver: the relay, unless --no-relay says otherwise."""
    if not options["relay"]:
        return ()
    relay = RelayOptions(
        listen=_relay_listen(options),
        version=settings.version,
        pools=settings.table.pools,
        refuse_undeclared_ports=options["undeclared_ports"] == "refuse",
        log=line_writer(options["access_log"]),
    )
    return (RelayCompanion(relay),)


def _refuse_shared(options: Mapping[str, Any]) -> None:
    """Refuse a port that two sockets of ours would have, by the same address or by the one for all of its family."""
    given = [
        *(("--listen", at) for at in _listen(options)),
        ("--admin", options["admin"]),
        *(("--relay-listen", at) for at in (_relay_listen(options) if options["relay"] else ())),
    ]
    for (option, at), (other_option, other) in itertools.combinations(given, 2):
        same_port = (at.port, at.address.version) == (other.port, other.address.version)
        if same_port and (at.address == other.address or at.address.is_unspecified or other.address.is_unspecified):
            raise ConfigurationError(
                f"cannot listen for {option} {at} and {other_option} {other}: one port has one listener: "
                "give one of them another, or take it out"
            )


def _listen(options: Mapping[str, Any]) -> tuple[SocketAddress, ...]:
    return options["listen"] or _loopback(defaults.DNS_PORT)


def _relay_listen(options: Mapping[str, Any]) -> tuple[SocketAddress, ...]:
    return options["relay_listen"] or _loopback(defaults.RELAY_PORT)


def _loopback(port: int) -> tuple[SocketAddress, ...]:
    return (SocketAddress(ip_address("127.0.0.1"), port), SocketAddress(ip_address("::1"), port))
