"""Every constant that two packages must agree on. They are passed in from here; no other package holds a copy."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final

DNS_PORT: Final = 15053
RELAY_PORT: Final = 15001
INBOUND_PORT: Final = 15006
TUNNEL_PORT: Final = 15008
ADMIN_PORT: Final = 15054

PROXY_UID: Final = 1337
PROXY_GID: Final = 1337

POOL4: Final = IPv4Network("240.240.0.0/16")
POOL6: Final = IPv6Network("2001:2::/48")

TTL_S: Final = 30
NEGATIVE_TTL_S: Final = 5

CT_ZONE: Final = 15053
FWMARK: Final = 1337
ROUTE_TABLE: Final = 133

HEARTBEAT_INTERVAL_S: Final = 0.5
HEARTBEAT_TIMEOUT_S: Final = 3.0

PROBE_SUFFIX: Final = "probe.meshdns.invalid"
"""Names `<hex>.probe.meshdns.invalid` are answered by the resolver and by nobody else (RFC 6761, section 6.4)."""

RELAY_PROBE_PORT: Final = 1
"""At the last address of the pool the relay says its version on this port."""

RESOLV_CONF: Final = "/etc/resolv.conf"
CLUSTER_DOMAIN: Final = "cluster.local"
NAMESPACE: Final = "default"
