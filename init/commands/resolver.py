"""`meshdns resolver`: run it, and ask a running one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from meshdns.init import defaults, holding, importing, logs
from meshdns.init.istio_options import istio_options
from meshdns.init.late import LateGroup
from meshdns.init.options import Settings
from meshdns.init.parameters import (
    HEARTBEAT_SECONDS,
    USER,
    CidrType,
    NumberType,
    SecondsType,
)
from meshdns.init.server_parameters import HOST_NAME, SERVER, ZONE, SocketAddressType
from meshdns.resolver.serve.settings import BeforeLoaded, LeaseFamilies

LATE = {
    "check": "meshdns.init.commands.resolver_check",
    **dict.fromkeys(("dump", "explain", "query", "vips"), "meshdns.init.commands.resolver_ask"),
}
SETTINGS = Settings("resolver")
FILE = click.Path(readable=False, path_type=Path)  # whether it can be read is found out when it is, with exit code 3
MAX_TTL_S = 7 * 24 * 3600
DAY_S = 24 * 3600

admin_option = SETTINGS.option(
    "--admin",
    type=SocketAddressType(defaults.ADMIN_PORT),
    default=f"127.0.0.1:{defaults.ADMIN_PORT}",
    help="Admin port: /metrics /healthz /readyz /table /explain.",
)


@click.group(cls=LateGroup, late=LATE)
def resolver() -> None:
    """Answer the names of mounted ServiceEntries; forward every other name.

    \b
    Example:
      meshdns resolver run --manifests /etc/meshdns/entries --state /var/lib/meshdns
      meshdns resolver query auto.internal
    """
    SETTINGS.check_environment()


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:  # noqa: ANN401 - what click's decorators take and give
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


scope_options = _options(
    SETTINGS.option("--namespace", type=HOST_NAME, default=defaults.NAMESPACE, help="Our own namespace."),
    SETTINGS.option("--cluster-domain", type=HOST_NAME, default=defaults.CLUSTER_DOMAIN, help="Domain of Services."),
    SETTINGS.option(
        "--auto-allocate/--no-auto-allocate", default=True, help="Lease an address to hosts that have none."
    ),
    SETTINGS.option(
        "--answer-endpoints/--no-answer-endpoints",
        default=False,
        help="Answer STATIC entries that have no address with their endpoints' addresses instead of a lease.",
    ),
    SETTINGS.option("--pool4", type=CidrType(4), default=str(defaults.POOL4), help="Leased IPv4 addresses."),
    SETTINGS.option("--pool6", type=CidrType(6), default=str(defaults.POOL6), help="Their IPv6 twins, same offset."),
)
"""Whose names and which leases: what decides on a table, whether it is served or only checked."""

_NAMES = _options(
    SETTINGS.option(
        "--manifests",
        type=FILE,
        many=True,
        metavar="DIR|FILE",
        help="Where ServiceEntries are mounted: *.yaml *.yml *.json. Without it names are only forwarded.",
    ),
    SETTINGS.option("--search", type=HOST_NAME, many=True, help="Search suffixes.  [default: resolv.conf's]"),
    SETTINGS.option(
        "--state",
        type=FILE,
        metavar="DIR",
        help="Where leases are kept over restarts. Without it they follow from the manifests alone.",
    ),
    SETTINGS.option(
        "--lease-families",
        type=click.Choice([family.value for family in LeaseFamilies]),
        default=LeaseFamilies.AUTO.value,
        help="Families in which leases are answered. auto: IPv6 while this machine has a global IPv6 address.",
    ),
    SETTINGS.option(
        "--other-types",
        type=click.Choice(["nodata", "forward"]),
        default="nodata",
        help="What types like MX and TXT get for names of ours.",
    ),
    SETTINGS.option("--ttl", type=NumberType(0, MAX_TTL_S), default=defaults.TTL_S, help="TTL of our answers, s."),
    SETTINGS.option(
        "--negative-ttl",
        type=NumberType(0, MAX_TTL_S),
        default=defaults.NEGATIVE_TTL_S,
        help="How long a stub may remember that a name of ours lacks a type, s.",
    ),
    SETTINGS.option(
        "--before-loaded",
        type=click.Choice([policy.value for policy in BeforeLoaded]),
        default=BeforeLoaded.FORWARD.value,
        help="What queries get until the manifests have been read once.",
    ),
)

_FORWARDING = _options(
    SETTINGS.option(
        "--resolv-conf",
        type=FILE,
        default=defaults.RESOLV_CONF,
        help="Whose nameservers are asked for other names. It is watched.",
    ),
    SETTINGS.option("--upstream", type=SERVER, many=True, help="Ask these servers instead of resolv.conf's."),
    SETTINGS.option("--zone", type=ZONE, many=True, help="Ask another server for the names under a suffix."),
    SETTINGS.option(
        "--cache-size", type=NumberType(0, 1_000_000), default=10_000, help="Cached questions; 8 MiB at most."
    ),
    SETTINGS.option(
        "--stale-for",
        type=SecondsType(least=0),
        default=str(DAY_S),
        help="How old a stale answer may be, s (RFC 8767).",
    ),
)

_SOCKETS = _options(
    SETTINGS.option(
        "--listen",
        type=SocketAddressType(defaults.DNS_PORT),
        many=True,
        help=f"Where queries arrive, UDP and TCP.  [default: 127.0.0.1:{defaults.DNS_PORT}, [::1]:{defaults.DNS_PORT}]",
    ),
    admin_option,
    SETTINGS.option(
        "--heartbeat/--no-heartbeat", default=True, help="Tell the kernel's rules that we answer (see capture)."
    ),
    SETTINGS.option(
        "--heartbeat-timeout",
        type=HEARTBEAT_SECONDS,
        default=str(defaults.HEARTBEAT_TIMEOUT_S),
        help="The timeout that capture was installed with, s.",
    ),
    SETTINGS.option(
        "--proxy-uid", type=USER, default=str(defaults.PROXY_UID), help="The uid that capture lets through."
    ),
    SETTINGS.option(
        "--query-log",
        type=click.Path(allow_dash=True),
        metavar="FILE|-",
        help="A JSON line for each query. Costs speed. Where its reader stalls, lines are dropped.",
    ),
)

_LOGGING = _options(
    SETTINGS.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", help="What is logged."
    ),
    SETTINGS.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", help="How it is logged, on stderr."
    ),
)

_RELAY = _options(
    SETTINGS.option("--relay/--no-relay", default=True, help="Stand behind leased addresses and connect to endpoints."),
    SETTINGS.option(
        "--relay-listen",
        type=SocketAddressType(defaults.RELAY_PORT),
        many=True,
        help=f"Where the relay listens.  [default: 127.0.0.1:{defaults.RELAY_PORT}, [::1]:{defaults.RELAY_PORT}]",
    ),
    SETTINGS.option(
        "--undeclared-ports",
        type=click.Choice(["forward", "refuse"]),
        default="forward",
        help="What a port of a leased address that no entry declares gets.",
    ),
    SETTINGS.option(
        "--access-log",
        type=click.Path(allow_dash=True),
        metavar="FILE|-",
        help="A JSON line for each relayed connection.",
    ),
)


@resolver.command()
@SETTINGS.file_option()
@istio_options(SETTINGS)
@scope_options
@_NAMES
@_FORWARDING
@_SOCKETS
@_RELAY
@_LOGGING
def run(**options: Any) -> None:  # noqa: ANN401 - click passes what the options say
    """Serve until SIGTERM. SIGHUP reads the manifests anew, SIGUSR1 flushes the cache.

    \b
    Example:
      meshdns resolver run --manifests /etc/meshdns/entries --state /var/lib/meshdns
    """
    held = holding.hold()
    importing.begun()
    with _without_tls():  # the commands that ask do without all of it, 80 ms
        from meshdns.init.serving import companions, serve_settings  # noqa: PLC0415
        from meshdns.resolver.serve.run import serve  # noqa: PLC0415
    importing.finished()

    logs.set_up(options["log_level"], options["log_format"])
    settings = serve_settings(options)
    serve(settings, companions(settings, options), held)


@contextlib.contextmanager
def _without_tls() -> Iterator[None]:
    """Have asyncio imported without ssl, as where Python was built without it: 15 ms and 2 MB, and we speak no TLS."""
    if "ssl" in sys.modules:
        yield
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # by the import system's rule: there is no such module
    try:
        yield
    finally:
        del sys.modules["ssl"]
