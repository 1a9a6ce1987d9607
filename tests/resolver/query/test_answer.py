# ruff: noqa: E501 - a row of the table is one line
"""What every kind of name answers to every kind of question: (entries, question, answer), in rows.

A row is `id | name type | what comes back`: records as `owner ttl type data`, joined by `;`, those of the additional
section after `+`; `NODATA owner` and `NXDOMAIN owner` with the SOA's owner; `FORWARD`, or `FORWARD name` for a question
that took the place of the client's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import ip_address, ip_network

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
from fakes import FakeUpstream, failing
from manifests import manifests
from resolving import Running, running
from tables import NAMESPACE_SEARCH, WORLD, answer, endpoint_slice, entry, pod, service, table_of

from meshdns.resolver.query.answer import Forward, Tally, read_tally
from meshdns.resolver.table.build import Table
from meshdns.resolver.table.names import to_text

FIRST = ip_address("192.0.2.1")
ISTIO_PAIR = (ip_address("240.240.1.9"), ip_address("2001:2::109"))
NETWORK_20 = ip_network("10.0.16.0/20")

SOA = "5 SOA meshdns.invalid. . {} 3600 600 86400 5"
GENERATION = 7

WORLD_CASES = """
plain address                 | address.internal A        | address.internal 30 A 198.51.100.0
plain address, other family   | address.internal AAAA     | NODATA address.internal
lease                         | auto.internal A           | auto.internal 30 A 240.240.0.1
lease without IPv6            | auto.internal AAAA        | NODATA auto.internal
only IPv6, A                  | six.internal A            | NODATA six.internal
only IPv6, AAAA               | six.internal AAAA         | six.internal 30 AAAA 2001:db8::6
both, A                       | both.internal A           | both.internal 30 A 198.51.100.3
both, AAAA                    | both.internal AAAA        | both.internal 30 AAAA 2001:db8::3
several                       | many.internal A           | many.internal 30 A 198.51.100.11; many.internal 30 A 198.51.100.12; many.internal 30 A 198.51.100.13
first host of two             | one.internal A            | one.internal 30 A 198.51.100.21
second host of two            | two.internal A            | two.internal 30 A 198.51.100.21
CIDR only                     | cidr.internal A           | FORWARD
CIDR and address              | mixed.internal A          | mixed.internal 30 A 198.51.100.31
NONE without addresses        | none.internal A           | FORWARD
opted out of leases           | optout.internal A         | FORWARD
status.addresses, A           | status.internal A         | status.internal 30 A 192.0.2.77
status.addresses, AAAA        | status.internal AAAA      | status.internal 30 AAAA 2001:db8::77
unspecified counts as none    | zero.internal A           | zero.internal 30 A 240.240.0.2
DYNAMIC_DNS has no lease      | dynamic.internal A        | FORWARD
selector                      | chosen.internal A         | chosen.internal 30 A 192.0.2.1; chosen.internal 30 A 192.0.2.2
selector, other family        | chosen.internal AAAA      | NODATA chosen.internal
selector without workloads    | unchosen.internal A       | FORWARD
unknown name                  | www.example.com A         | FORWARD
parent of a name              | internal A                | FORWARD
child of a name               | x.address.internal A      | FORWARD
root                          | . A                       | FORWARD
root NS                       | . NS                      | FORWARD
HTTPS                         | address.internal HTTPS    | NODATA address.internal
SVCB                          | address.internal SVCB     | NODATA address.internal
MX                            | address.internal MX       | NODATA address.internal
TXT                           | address.internal TXT      | NODATA address.internal
NS                            | address.internal NS       | NODATA address.internal
SOA                           | address.internal SOA      | NODATA address.internal
CAA                           | address.internal CAA      | NODATA address.internal
CNAME                         | address.internal CNAME    | NODATA address.internal
PTR of a host name            | address.internal PTR      | NODATA address.internal
DS                            | address.internal DS       | NODATA address.internal
DNSKEY                        | address.internal DNSKEY   | NODATA address.internal
NULL                          | address.internal NULL     | NODATA address.internal
a type nobody knows           | address.internal TYPE999  | NODATA address.internal
ANY with an A                 | address.internal ANY      | address.internal 30 A 198.51.100.0
ANY gives one RRset           | both.internal ANY         | both.internal 30 A 198.51.100.3
ANY with only AAAA            | six.internal ANY          | six.internal 30 AAAA 2001:db8::6
ANY of a lease                | auto.internal ANY         | auto.internal 30 A 240.240.0.1
SRV of the host itself        | address.internal SRV      | NODATA address.internal
SRV                           | _http._tcp.address.internal SRV | _http._tcp.address.internal 30 SRV 0 0 80 address.internal. + address.internal 30 A 198.51.100.0
SRV of a lease                | _http._tcp.auto.internal SRV    | _http._tcp.auto.internal 30 SRV 0 0 80 auto.internal. + auto.internal 30 A 240.240.0.1
SRV with both families        | _amqp._tcp.both.internal SRV    | _amqp._tcp.both.internal 30 SRV 0 0 5671 both.internal. + both.internal 30 A 198.51.100.3; both.internal 30 AAAA 2001:db8::3
SRV of the second port        | _amqps._tcp.both.internal SRV   | _amqps._tcp.both.internal 30 SRV 0 0 5672 both.internal. + both.internal 30 A 198.51.100.3; both.internal 30 AAAA 2001:db8::3
SRV over UDP                  | _dns._udp.six.internal SRV      | _dns._udp.six.internal 30 SRV 0 0 53 six.internal. + six.internal 30 AAAA 2001:db8::6
SRV of the wrong protocol     | _dns._tcp.six.internal SRV      | NXDOMAIN _dns._tcp.six.internal
SRV of no port                | _smtp._tcp.address.internal SRV | NXDOMAIN _smtp._tcp.address.internal
no port, another type         | _smtp._tcp.address.internal A   | NXDOMAIN _smtp._tcp.address.internal
a port, another type          | _http._tcp.address.internal A   | NODATA _http._tcp.address.internal
a port, TLSA                  | _http._tcp.address.internal TLSA | NODATA _http._tcp.address.internal
a port, ANY                   | _http._tcp.address.internal ANY | _http._tcp.address.internal 30 SRV 0 0 80 address.internal. + address.internal 30 A 198.51.100.0
the protocol's own name       | _tcp.address.internal A         | NODATA _tcp.address.internal
a protocol without ports      | _udp.address.internal A         | FORWARD
one underscore is a name      | _dmarc.address.internal TXT     | FORWARD
SRV of an unknown host        | _http._tcp.www.example.com SRV  | FORWARD
SRV of a forwarded host       | _http._tcp.none.internal SRV    | FORWARD
SRV without a host            | _http._tcp SRV                  | FORWARD
SRV of a Service              | _metrics._tcp.web.default.svc.cluster.local SRV | _metrics._tcp.web.default.svc.cluster.local 30 SRV 0 0 9090 web.default.svc.cluster.local. + web.default.svc.cluster.local 30 A 10.96.0.1; web.default.svc.cluster.local 30 AAAA fd00::1
SRV of a short name           | _dns._udp.web.default SRV       | _dns._udp.web.default 30 SRV 0 0 53 web.default.svc.cluster.local. + web.default.svc.cluster.local 30 A 10.96.0.1; web.default.svc.cluster.local 30 AAAA fd00::1
SRV under a wildcard          | _http._tcp.a.wild.example SRV   | _http._tcp.a.wild.example 30 SRV 0 0 8080 a.wild.example. + a.wild.example 30 A 192.0.2.50
no port under a wildcard      | _smtp._tcp.a.wild.example SRV   | NXDOMAIN _smtp._tcp.a.wild.example
SRV under a search suffix     | _http._tcp.auto.internal.cluster.local SRV | _http._tcp.auto.internal.cluster.local 30 SRV 0 0 80 auto.internal. + auto.internal 30 A 240.240.0.1
PTR of an address             | 0.100.51.198.in-addr.arpa PTR | 0.100.51.198.in-addr.arpa 30 PTR address.internal.
PTR of an IPv6 address        | 6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR | 6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa 30 PTR six.internal.
PTR of a lease                | 1.0.240.240.in-addr.arpa PTR  | 1.0.240.240.in-addr.arpa 30 PTR auto.internal.
PTR of a leased IPv6 address  | 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa PTR | 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa 30 PTR auto.internal.
PTR of a status address       | 77.2.0.192.in-addr.arpa PTR   | 77.2.0.192.in-addr.arpa 30 PTR status.internal.
PTR of a cluster IP           | 1.0.96.10.in-addr.arpa PTR    | 1.0.96.10.in-addr.arpa 30 PTR web.default.svc.cluster.local.
PTR of an address of two      | 21.100.51.198.in-addr.arpa PTR | 21.100.51.198.in-addr.arpa 30 PTR one.internal.
PTR of a wildcard's address   | 50.2.0.192.in-addr.arpa PTR   | FORWARD
PTR of an endpoint            | 2.100.51.198.in-addr.arpa PTR | FORWARD
PTR of a stranger             | 8.8.8.8.in-addr.arpa PTR      | FORWARD
PTR of a free lease           | 99.9.240.240.in-addr.arpa PTR | NXDOMAIN 240.240.in-addr.arpa
PTR of a free IPv6 lease      | 9.9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa PTR | NXDOMAIN 0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa
the pool's zone               | 240.240.in-addr.arpa SOA      | NODATA 240.240.in-addr.arpa
between zone and lease        | 0.240.240.in-addr.arpa PTR    | NODATA 240.240.in-addr.arpa
between zone and nothing      | 7.240.240.in-addr.arpa PTR    | NXDOMAIN 240.240.in-addr.arpa
above the pool's zone         | 240.in-addr.arpa PTR          | FORWARD
below a lease's PTR           | x.1.0.240.240.in-addr.arpa A  | NXDOMAIN 240.240.in-addr.arpa
not a number in the pool      | foo.0.240.240.in-addr.arpa PTR | NXDOMAIN 240.240.in-addr.arpa
another type of a PTR name    | 1.0.240.240.in-addr.arpa A    | NODATA 240.240.in-addr.arpa
another type outside the pool | 0.100.51.198.in-addr.arpa TXT | NODATA 0.100.51.198.in-addr.arpa
ANY of a PTR name             | 1.0.240.240.in-addr.arpa ANY  | 1.0.240.240.in-addr.arpa 30 PTR auto.internal.
suffix of our namespace       | address.internal.default.svc.cluster.local A | address.internal.default.svc.cluster.local 30 CNAME address.internal.; address.internal 30 A 198.51.100.0
suffix of all namespaces      | address.internal.svc.cluster.local A | address.internal.svc.cluster.local 30 CNAME address.internal.; address.internal 30 A 198.51.100.0
suffix of the cluster         | address.internal.cluster.local A | address.internal.cluster.local 30 CNAME address.internal.; address.internal 30 A 198.51.100.0
suffix, AAAA                  | six.internal.cluster.local AAAA | six.internal.cluster.local 30 CNAME six.internal.; six.internal 30 AAAA 2001:db8::6
suffix, lease                 | auto.internal.svc.cluster.local A | auto.internal.svc.cluster.local 30 CNAME auto.internal.; auto.internal 30 A 240.240.0.1
suffix, NODATA has no CNAME   | address.internal.cluster.local AAAA | NODATA address.internal.cluster.local
suffix, HTTPS                 | address.internal.cluster.local HTTPS | NODATA address.internal.cluster.local
suffix, MX                    | address.internal.cluster.local MX | NODATA address.internal.cluster.local
suffix, CNAME itself          | address.internal.cluster.local CNAME | address.internal.cluster.local 30 CNAME address.internal.
suffix, ANY                   | address.internal.cluster.local ANY | address.internal.cluster.local 30 CNAME address.internal.
suffix, several               | many.internal.cluster.local A | many.internal.cluster.local 30 CNAME many.internal.; many.internal 30 A 198.51.100.11; many.internal 30 A 198.51.100.12; many.internal 30 A 198.51.100.13
suffix of another namespace   | address.internal.other.svc.cluster.local A | FORWARD
suffix twice                  | address.internal.cluster.local.cluster.local A | FORWARD
suffix alone                  | cluster.local A           | FORWARD
suffix of an unknown name     | www.example.com.default.svc.cluster.local A | FORWARD
not at a label's border       | address.internalcluster.local A | FORWARD
suffix has its own TTL        | slow.internal.cluster.local A | slow.internal.cluster.local 300 CNAME slow.internal.; slow.internal 300 A 192.0.2.60
wildcard                      | a.wild.example A          | a.wild.example 30 A 192.0.2.50
wildcard at depth             | a.b.c.wild.example A      | a.b.c.wild.example 30 A 192.0.2.50
wildcard, other family        | a.wild.example AAAA       | NODATA a.wild.example
wildcard, HTTPS               | a.wild.example HTTPS      | NODATA a.wild.example
wildcard, ANY                 | a.wild.example ANY        | a.wild.example 30 A 192.0.2.50
wildcard's parent             | wild.example A            | FORWARD
longest wildcard              | a.deep.wild.example A     | a.deep.wild.example 30 A 192.0.2.51
parent of the longest         | deep.wild.example A       | deep.wild.example 30 A 192.0.2.50
exact before wildcard         | named.wild.example A      | named.wild.example 30 A 192.0.2.52
below an exact name           | x.named.wild.example A    | x.named.wild.example 30 A 192.0.2.50
like a wildcard's parent      | a.notwild.example A       | FORWARD
a literal star                | *.wild.example A          | *.wild.example 30 A 192.0.2.50
wildcard under a suffix       | a.wild.example.cluster.local A | a.wild.example.cluster.local 30 CNAME a.wild.example.; a.wild.example 30 A 192.0.2.50
deep wildcard under a suffix  | a.b.wild.example.default.svc.cluster.local A | a.b.wild.example.default.svc.cluster.local 30 CNAME a.b.wild.example.; a.b.wild.example 30 A 192.0.2.50
wildcard suffix, NODATA       | a.wild.example.cluster.local AAAA | NODATA a.wild.example.cluster.local
exact under suffix wins       | named.wild.example.cluster.local A | named.wild.example.cluster.local 30 CNAME named.wild.example.; named.wild.example 30 A 192.0.2.52
wildcard gets no lease        | a.auto.example A          | FORWARD
TTL of its own                | slow.internal A           | slow.internal 300 A 192.0.2.60
TTL 0                         | brief.internal A          | brief.internal 0 A 192.0.2.61
TTL that is no number         | badttl.internal A         | badttl.internal 30 A 192.0.2.62
other types forwarded, MX     | mail.internal MX          | FORWARD
other types forwarded, TXT    | mail.internal TXT         | FORWARD
other types forwarded, SRV not of ours | _sip._tcp.mail.internal SRV | FORWARD
other types forwarded, A      | mail.internal A           | mail.internal 30 A 192.0.2.63
other types forwarded, AAAA   | mail.internal AAAA        | NODATA mail.internal
other types forwarded, HTTPS  | mail.internal HTTPS       | NODATA mail.internal
other types forwarded, SVCB   | mail.internal SVCB        | NODATA mail.internal
other types forwarded, ANY    | mail.internal ANY         | mail.internal 30 A 192.0.2.63
other types forwarded, our SRV | _http._tcp.mail.internal SRV | _http._tcp.mail.internal 30 SRV 0 0 80 mail.internal. + mail.internal 30 A 192.0.2.63
other types forwarded, suffix | mail.internal.cluster.local MX | FORWARD
families ipv4, A              | v4.internal A             | v4.internal 30 A 240.240.0.3
families ipv4, AAAA           | v4.internal AAAA          | NODATA v4.internal
families ipv6, A              | v6.internal A             | NODATA v6.internal
families ipv6, AAAA           | v6.internal AAAA          | v6.internal 30 AAAA 2001:2::4
families both, AAAA           | v46.internal AAAA         | v46.internal 30 AAAA 2001:2::5
families of addresses         | halved.internal AAAA      | NODATA halved.internal
Service                       | web.default.svc.cluster.local A | web.default.svc.cluster.local 30 A 10.96.0.1
Service, AAAA                 | web.default.svc.cluster.local AAAA | web.default.svc.cluster.local 30 AAAA fd00::1
Service, MX                   | web.default.svc.cluster.local MX | NODATA web.default.svc.cluster.local
Service, bare                 | web A                     | web 30 A 10.96.0.1
Service, with namespace       | web.default A             | web.default 30 A 10.96.0.1
Service, with svc             | web.default.svc A         | web.default.svc 30 A 10.96.0.1
Service, never without local  | web.default.svc.cluster A | FORWARD
Service elsewhere             | web.shop.svc.cluster.local A | web.shop.svc.cluster.local 30 A 10.96.7.1
Service elsewhere, short      | web.shop A                | web.shop 30 A 10.96.7.1
Service elsewhere, family     | web.shop AAAA             | NODATA web.shop
short name, our suffix        | web.shop.default.svc.cluster.local A | web.shop.default.svc.cluster.local 30 A 10.96.7.1
short name, svc suffix        | web.shop.svc.svc.cluster.local A | web.shop.svc.svc.cluster.local 30 A 10.96.7.1
short name, any suffix        | web.default.svc.svc.cluster.local A | web.default.svc.svc.cluster.local 30 A 10.96.0.1
short name, cluster suffix    | web.default.cluster.local A | web.default.cluster.local 30 A 10.96.0.1
bare name, cluster suffix     | web.cluster.local A       | web.cluster.local 30 A 10.96.0.1
short name, suffix, NODATA    | web.shop.default.svc.cluster.local AAAA | NODATA web.shop.default.svc.cluster.local
full name, suffix             | web.shop.svc.cluster.local.default.svc.cluster.local A | web.shop.svc.cluster.local.default.svc.cluster.local 30 A 10.96.7.1
unknown Service               | nope.default.svc.cluster.local A | FORWARD
headless                      | db.default.svc.cluster.local A | db.default.svc.cluster.local 30 A 10.1.0.1; db.default.svc.cluster.local 30 A 10.1.0.2
headless, AAAA                | db.default.svc.cluster.local AAAA | db.default.svc.cluster.local 30 AAAA fd00::10:1
headless, short               | db A                      | db 30 A 10.1.0.1; db 30 A 10.1.0.2
pod of a headless Service     | db-0.db.default.svc.cluster.local A | db-0.db.default.svc.cluster.local 30 A 10.1.0.1
pod, AAAA                     | db-0.db.default.svc.cluster.local AAAA | db-0.db.default.svc.cluster.local 30 AAAA fd00::10:1
pod, short                    | db-1.db A                 | db-1.db 30 A 10.1.0.2
pod that is not ready         | db-2.db.default.svc.cluster.local A | FORWARD
PTR of a pod                  | 1.0.1.10.in-addr.arpa PTR | FORWARD
not ready but published       | early A                   | early 30 A 10.1.1.1
headless without endpoints    | empty.default.svc.cluster.local A | FORWARD
ExternalName                  | outside.default.svc.cluster.local A | FORWARD www.example.org
ExternalName, short           | outside AAAA              | FORWARD www.example.org
ExternalName, MX              | outside MX                | FORWARD www.example.org
ExternalName, CNAME           | outside CNAME             | outside 30 CNAME www.example.org.
ExternalName, ANY             | outside ANY               | outside 30 CNAME www.example.org.
ExternalName of ours          | inside.default.svc.cluster.local A | inside.default.svc.cluster.local 30 CNAME address.internal.; address.internal 30 A 198.51.100.0
ExternalName of ours, short   | inside A                  | inside 30 CNAME address.internal.; address.internal 30 A 198.51.100.0
ExternalName of ours, NODATA  | inside AAAA               | NODATA inside
ExternalName under a suffix   | inside.cluster.local A    | inside.cluster.local 30 CNAME address.internal.; address.internal 30 A 198.51.100.0
ExternalName twice            | twice A                   | twice 30 CNAME inside.default.svc.cluster.local.; inside.default.svc.cluster.local 30 CNAME address.internal.; address.internal 30 A 198.51.100.0
ExternalName in a circle      | round A                   | SERVFAIL
ExternalName has no SRV       | _http._tcp.outside SRV    | NXDOMAIN _http._tcp.outside
public in another namespace   | theirs.internal A         | theirs.internal 30 A 192.0.2.70
private in another namespace  | private.internal A        | FORWARD
exported to nobody            | nobody.internal A         | FORWARD
exported to us by name        | tous.internal A           | tous.internal 30 A 192.0.2.73
exported to others only       | tothem.internal A         | FORWARD
probe, TXT                    | 0af.probe.meshdns.invalid TXT | 0af.probe.meshdns.invalid 0 TXT "v=1 0af 7"
probe, A                      | 0af.probe.meshdns.invalid A | 0af.probe.meshdns.invalid 0 A 127.0.0.1
probe, AAAA                   | 0af.probe.meshdns.invalid AAAA | NODATA 0af.probe.meshdns.invalid
probe, ANY                    | 0af.probe.meshdns.invalid ANY | 0af.probe.meshdns.invalid 0 TXT "v=1 0af 7"
probe, no hexadecimal         | xyz.probe.meshdns.invalid A | NXDOMAIN xyz.probe.meshdns.invalid
probe, two labels             | a.b.probe.meshdns.invalid A | NXDOMAIN a.b.probe.meshdns.invalid
probe's own suffix            | probe.meshdns.invalid A   | NODATA probe.meshdns.invalid
beside the probe names        | meshdns.invalid A         | FORWARD
"""


def _rows(text: str) -> list[object]:
    rows = [[cell.strip() for cell in line.split(" | ")] for line in text.strip().splitlines()]
    return [pytest.param(question, expected, id=name) for name, question, expected in rows]


@cache
def world() -> Table:
    return table_of(*WORLD)


def described(decision: object, generation: int = GENERATION) -> str:
    """Return a decision as the rows write it."""
    if isinstance(decision, Forward):
        return "FORWARD" if decision.chase is None else f"FORWARD {to_text(decision.query.name)}"
    assert isinstance(decision, bytes), decision
    message = dns.message.from_wire(decision)
    if message.rcode() == dns.rcode.SERVFAIL:
        assert not any(message.sections[1:])
        return "SERVFAIL"
    if not message.answer:
        (soa,) = message.authority
        assert _records([soa]) == f"{soa.name.to_text(omit_final_dot=True)} {SOA.format(generation)}"
        kind = "NODATA" if message.rcode() == dns.rcode.NOERROR else dns.rcode.to_text(message.rcode())
        return f"{kind} {soa.name.to_text(omit_final_dot=True)}"
    assert message.rcode() == dns.rcode.NOERROR
    assert not message.authority
    extra = f" + {_records(message.additional)}" if message.additional else ""
    return _records(message.answer) + extra


def _records(section: list[dns.rrset.RRset]) -> str:
    """Return records as text; those of one RRset sorted, for their order rotates."""
    found = []
    for rrset in section:
        owner = rrset.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(rrset.rdtype)
        found += sorted(f"{owner} {rrset.ttl} {kind} {rdata.to_text()}" for rdata in rrset)
    return "; ".join(found)


@pytest.mark.parametrize(("question", "expected"), _rows(WORLD_CASES))
def test_world(question: str, expected: str) -> None:
    """Each question gets the documented answer, with and without EDNS, over UDP and TCP, however it is spelt."""
    name, qtype = question.split()
    for use_edns in (-1, 0):
        query = dns.message.make_query(name, qtype, use_edns=use_edns, payload=4096)
        for stream in (False, True):
            assert described(answer(world(), query.to_wire(), stream=stream)) == expected
    for spelt in (name.upper(), name.title()):
        decision = answer(world(), dns.message.make_query(spelt, qtype).to_wire(), stream=True)
        assert described(decision).lower() == expected.lower()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, FakeUpstream]]:
    """Run a resolver over the manifests of the world; its upstream refuses whatever it is asked."""
    home = tmp_path_factory.mktemp("whole")
    (home / "entries").mkdir()
    (home / "entries" / "world.yaml").write_text(manifests(WORLD))
    with FakeUpstream(failing("REFUSED")) as upstream:
        options = ("--upstream", upstream.endpoint, "--lease-families", "ipv4", "--search", ",".join(NAMESPACE_SEARCH))
        with running(home / "entries", home, *options) as one:
            yield one, upstream


@pytest.mark.xdist_group("whole")
@pytest.mark.parametrize(("question", "expected"), _rows(WORLD_CASES))
def test_world_from_its_manifests(question: str, expected: str, whole: tuple[Running, FakeUpstream]) -> None:
    """The same from YAML files to sockets: what is answered over UDP and TCP, and what the upstream is asked."""
    one, upstream = whole
    name, qtype = question.split()
    for use_edns, ask in ((0, dns.query.udp), (-1, dns.query.udp), (-1, dns.query.tcp)):
        reply = ask(dns.message.make_query(name, qtype, use_edns=use_edns), "127.0.0.1", 6, one.port)
        if expected.startswith("FORWARD"):
            assert reply.rcode() == dns.rcode.REFUSED
            assert upstream.names[-1].lower() == f"{(expected.split()[1:] or [name])[0].removesuffix('.')}.".lower()
        else:
            assert described(reply.to_wire(), generation=1) == expected.replace(f"0af {GENERATION}", "0af 1")


CONFLICTS: dict[str, tuple[Callable[[], Table], str, str]] = {
    "leased AAAA with IPv6": (
        lambda: table_of(*WORLD, ipv6=True),
        "auto.internal AAAA",
        "auto.internal 30 AAAA 2001:2::1",
    ),
    "families ipv4 with IPv6": (lambda: table_of(*WORLD, ipv6=True), "v4.internal AAAA", "NODATA v4.internal"),
    "no leases": (lambda: table_of(*WORLD, auto_allocate=False), "auto.internal A", "FORWARD"),
    "endpoints instead of a lease": (
        lambda: table_of(*WORLD, answer_endpoints=True),
        "auto.internal A",
        "auto.internal 30 A 198.51.100.2",
    ),
    "endpoints that are names": (
        lambda: table_of(entry("a.test", resolution="STATIC", endpoints="b.test"), answer_endpoints=True),
        "a.test A",
        "a.test 30 A 240.240.0.1",
    ),
    "other types forwarded for all": (
        lambda: table_of(*WORLD, forward_other_types=True),
        "address.internal MX",
        "FORWARD",
    ),
    "other types kept by annotation": (
        lambda: table_of(
            entry("a.test", "192.0.2.1", annotations={"meshdns.io/other-types": "nodata"}), forward_other_types=True
        ),
        "a.test MX",
        "NODATA a.test",
    ),
    "no search list": (lambda: table_of(*WORLD, search=()), "address.internal.cluster.local A", "FORWARD"),
    "search list of an office": (
        lambda: table_of(*WORLD, search=("corp.example.", "Example")),
        "address.internal.corp.example A",
        "address.internal.corp.example 30 CNAME address.internal.; address.internal 30 A 198.51.100.0",
    ),
    "second suffix of an office": (
        lambda: table_of(*WORLD, search=("corp.example.", "Example")),
        "address.internal.example A",
        "address.internal.example 30 CNAME address.internal.; address.internal 30 A 198.51.100.0",
    ),
    "entries of one namespace are merged": (
        lambda: table_of(entry("a.test", "192.0.2.1", name="1"), entry("a.test", "192.0.2.2 192.0.2.1", name="2")),
        "a.test A",
        "a.test 30 A 192.0.2.1; a.test 30 A 192.0.2.2",
    ),
    "merged entries unite their ports": (
        lambda: table_of(entry("a.test", "192.0.2.1", name="1"), entry("a.test", ports="x/TCP/9", name="2")),
        "_x._tcp.a.test SRV",
        "_x._tcp.a.test 30 SRV 0 0 9 a.test. + a.test 30 A 192.0.2.1",
    ),
    "two ports of one name": (
        lambda: table_of(entry("a.test", "192.0.2.1", ports="x/TCP/9 x/TCP/8")),
        "_x._tcp.a.test SRV",
        "_x._tcp.a.test 30 SRV 0 0 8 a.test.; _x._tcp.a.test 30 SRV 0 0 9 a.test. + a.test 30 A 192.0.2.1",
    ),
    "merged entries share a lease": (
        lambda: table_of(
            entry("a.test", resolution="DNS", name="1"), entry("a.test", resolution="DNS", ports="x/TCP/9", name="2")
        ),
        "a.test A",
        "a.test 30 A 240.240.0.1",
    ),
    "our namespace before others": (
        lambda: table_of(entry("a.test", "192.0.2.1", namespace="aaa", created=1.0), entry("a.test", "192.0.2.2")),
        "a.test A",
        "a.test 30 A 192.0.2.2",
    ),
    "exported by name before public": (
        lambda: table_of(
            entry("a.test", "192.0.2.1", namespace="aaa", created=1.0),
            entry("a.test", "192.0.2.2", namespace="zzz", export_to=("default",)),
        ),
        "a.test A",
        "a.test 30 A 192.0.2.2",
    ),
    "the older of two public ones": (
        lambda: table_of(
            entry("a.test", "192.0.2.1", namespace="aaa", created=2.0),
            entry("a.test", "192.0.2.2", namespace="zzz", created=1.0),
        ),
        "a.test A",
        "a.test 30 A 192.0.2.2",
    ),
    "an age before none": (
        lambda: table_of(
            entry("a.test", "192.0.2.1", namespace="aaa"), entry("a.test", "192.0.2.2", namespace="zzz", created=1.0)
        ),
        "a.test A",
        "a.test 30 A 192.0.2.2",
    ),
    "the first by name without ages": (
        lambda: table_of(entry("a.test", "192.0.2.1", namespace="zzz"), entry("a.test", "192.0.2.2", namespace="aaa")),
        "a.test A",
        "a.test 30 A 192.0.2.2",
    ),
    "a Service before an entry": (
        lambda: table_of(entry("web.default.svc.cluster.local", "192.0.2.1"), service("web", "10.0.0.1")),
        "web.default.svc.cluster.local A",
        "web.default.svc.cluster.local 30 A 10.0.0.1",
    ),
    "a Service's short name before an entry": (
        lambda: table_of(entry("web.default", "192.0.2.1"), service("web", "10.0.0.1")),
        "web.default A",
        "web.default 30 A 10.0.0.1",
    ),
    "a Service's name before a pod's short one": (
        lambda: table_of(
            service("db", namespace="a"),
            endpoint_slice("db", pod("10.1.0.1", "web"), namespace="a"),
            service("web", "10.0.0.1", namespace="db"),
        ),
        "web.db A",
        "web.db 30 A 10.0.0.1",
    ),
    "a bare name elsewhere is nobody's": (
        lambda: table_of(service("web", "10.0.0.1", namespace="shop")),
        "web A",
        "FORWARD",
    ),
    "a Service exported to its namespace only": (
        lambda: table_of(
            service("web", "10.0.0.1", namespace="shop", annotations={"networking.istio.io/exportTo": "."})
        ),
        "web.shop A",
        "FORWARD",
    ),
    "a hidden Service does not beat an entry": (
        lambda: table_of(
            service("web", "10.0.0.1", namespace="shop", annotations={"networking.istio.io/exportTo": "."}),
            entry("web.shop.svc.cluster.local", "192.0.2.1"),
        ),
        "web.shop.svc.cluster.local A",
        "web.shop.svc.cluster.local 30 A 192.0.2.1",
    ),
    "another cluster domain": (
        lambda: table_of(service("web", "10.0.0.1"), cluster_domain="mesh.example", search=()),
        "web.default.svc.mesh.example A",
        "web.default.svc.mesh.example 30 A 10.0.0.1",
    ),
    "a wildcard of the cluster swallows no outside name": (
        lambda: table_of(entry("*.cluster.local", "192.0.2.1")),
        "www.example.org.default.svc.cluster.local A",
        "FORWARD",
    ),
    "nor one of the suffix itself": (
        lambda: table_of(entry("*.svc.cluster.local", "192.0.2.1")),
        "www.example.org.svc.cluster.local A",
        "FORWARD",
    ),
    "nor one of the top": (
        lambda: table_of(entry("*.local", "192.0.2.1")),
        "www.example.org.default.svc.cluster.local A",
        "FORWARD",
    ),
    "a wildcard of the cluster has one label": (
        lambda: table_of(entry("*.cluster.local", "192.0.2.1")),
        "www.cluster.local A",
        "www.cluster.local 30 A 192.0.2.1",
    ),
    "a wildcard of the cluster has names under no suffix": (
        lambda: table_of(entry("*.cluster.local", "192.0.2.1"), search=("svc.cluster.local",)),
        "www.example.cluster.local A",
        "www.example.cluster.local 30 A 192.0.2.1",
    ),
    "a wildcard of the top has others": (
        lambda: table_of(entry("*.local", "192.0.2.1")),
        "a.b.printer.local A",
        "a.b.printer.local 30 A 192.0.2.1",
    ),
    "a wildcard below the cluster counts": (
        lambda: table_of(entry("*.other.svc.cluster.local", "192.0.2.1")),
        "a.b.other.svc.cluster.local A",
        "a.b.other.svc.cluster.local 30 A 192.0.2.1",
    ),
    "a skipped wildcard lets the stripped name match": (
        lambda: table_of(entry("*.cluster.local", "192.0.2.1"), entry("*.example.org", "192.0.2.2")),
        "www.example.org.svc.cluster.local A",
        "www.example.org.svc.cluster.local 30 CNAME www.example.org.; www.example.org 30 A 192.0.2.2",
    ),
    "the whole name's wildcard comes before the stripped name's": (
        lambda: table_of(entry("*.a.svc.cluster.local", "192.0.2.1"), entry("*.a", "192.0.2.2")),
        "x.a.svc.cluster.local A",
        "x.a.svc.cluster.local 30 A 192.0.2.1",
    ),
    "an exact stripped name comes before a wildcard": (
        lambda: table_of(entry("*.a.svc.cluster.local", "192.0.2.1"), entry("x.a", "192.0.2.2")),
        "x.a.svc.cluster.local A",
        "x.a.svc.cluster.local 30 CNAME x.a.; x.a 30 A 192.0.2.2",
    ),
    "the star alone is nobody's": (lambda: table_of(entry("*", "192.0.2.1")), "www.example.org A", "FORWARD"),
    "a star inside is nobody's": (lambda: table_of(entry("*foo.test", "192.0.2.1")), "xfoo.test A", "FORWARD"),
    "a wildcard with status addresses": (
        lambda: table_of(
            entry("*.d.test", resolution="DYNAMIC_DNS", status_addresses={"*.d.test": (FIRST,)}),
        ),
        "x.d.test A",
        "x.d.test 30 A 192.0.2.1",
    ),
    "Istio's own lease is answered as one": (
        lambda: table_of(entry("a.test", resolution="DNS", status_addresses={"a.test": ISTIO_PAIR})),
        "a.test AAAA",
        "NODATA a.test",
    ),
    "Istio's own lease, A": (
        lambda: table_of(entry("a.test", resolution="DNS", status_addresses={"a.test": ISTIO_PAIR})),
        "a.test A",
        "a.test 30 A 240.240.1.9",
    ),
    "an empty table": (table_of, "address.internal A", "FORWARD"),
    "an empty table and its pools": (table_of, "1.0.240.240.in-addr.arpa PTR", "NXDOMAIN 240.240.in-addr.arpa"),
    "pools of odd size": (
        lambda: table_of(pools=(NETWORK_20,)),
        "1.31.0.10.in-addr.arpa PTR",
        "NXDOMAIN 31.0.10.in-addr.arpa",
    ),
    "beside pools of odd size": (lambda: table_of(pools=(NETWORK_20,)), "1.32.0.10.in-addr.arpa PTR", "FORWARD"),
}


@pytest.mark.parametrize(("make", "question", "expected"), CONFLICTS.values(), ids=CONFLICTS.keys())
def test_small_tables(make: Callable[[], Table], question: str, expected: str) -> None:
    """Who gets a host is settled in the documented order, and settings change what they say."""
    name, qtype = question.split()
    assert described(answer(make(), dns.message.make_query(name, qtype).to_wire())) == expected


@pytest.mark.parametrize("edns", [-1, 0], ids=["plain", "edns"])
@pytest.mark.parametrize("rd", [0, dns.flags.RD], ids=["", "rd"])
@pytest.mark.parametrize("cd", [0, dns.flags.CD], ids=["", "cd"])
@pytest.mark.parametrize(
    "question", ["address.internal A", "address.internal MX", "web A", "a.wild.example.cluster.local A"]
)
def test_header(question: str, cd: int, rd: int, edns: int) -> None:
    """AA and RA are set, RD and CD copied, AD and TC clear; an OPT of our size comes back only to one."""
    name, qtype = question.split()
    query = dns.message.make_query(name, qtype, use_edns=edns, want_dnssec=edns == 0)
    query.flags = dns.flags.Flag(rd | cd | dns.flags.AD)
    decision = answer(world(), query.to_wire())
    assert isinstance(decision, bytes)
    reply = dns.message.from_wire(decision)
    assert query.is_response(reply)
    assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RA | rd | cd
    assert reply.edns == edns
    if edns == 0:
        assert reply.payload == 1232
        assert reply.ednsflags == dns.flags.DO
        assert not reply.options


def test_spelling() -> None:
    """The client's own spelling comes back in the question and in the owner (0x20)."""
    for name in ("AdDrEsS.iNtErNaL", "ADDRESS.internal.CLUSTER.local", "X.Wild.EXAMPLE.cluster.LOCAL"):
        decision = answer(world(), dns.message.make_query(name, "A").to_wire())
        assert isinstance(decision, bytes)
        reply = dns.message.from_wire(decision)
        assert reply.question[0].name.to_text() == reply.answer[0].name.to_text() == f"{name}."


def test_wildcard_target_keeps_the_spelling() -> None:
    """A wildcard's CNAME leads to the name asked without the suffix, never to a star."""
    decision = answer(world(), dns.message.make_query("X.Wild.EXAMPLE.cluster.LOCAL", "A").to_wire())
    assert isinstance(decision, bytes)
    assert dns.message.from_wire(decision).answer[0][0].to_text() == "X.Wild.EXAMPLE."
    assert b"*" not in decision


@pytest.mark.parametrize("name", ["many.internal", "many.internal.cluster.local", "db"])
def test_rotation(name: str) -> None:
    """The address that comes first is another one with each query, and each comes first as often."""
    table = table_of(*WORLD)
    firsts: dict[str, int] = defaultdict(int)
    packet = dns.message.make_query(name, "A").to_wire()
    for _ in range(12):
        decision = answer(table, packet)
        assert isinstance(decision, bytes)
        firsts[dns.message.from_wire(decision, one_rr_per_rrset=True).answer[-1][0].to_text()] += 1
        firsts["previous"] = 0
    del firsts["previous"]
    assert set(firsts.values()) == {12 // len(firsts)}
    assert len(firsts) == (2 if name == "db" else 3)


def test_lease_families_change_without_a_rebuild() -> None:
    """Leased addresses follow `answer_leases`; configured ones and annotated leases do not."""
    table = table_of(*WORLD)

    def said(question: str) -> str:
        name, qtype = question.split()
        return described(answer(table, dns.message.make_query(name, qtype).to_wire()))

    table.answer_leases(ipv4=False, ipv6=True)
    assert said("auto.internal A") == "NODATA auto.internal"
    assert said("auto.internal AAAA") == "auto.internal 30 AAAA 2001:2::1"
    assert said("auto.internal ANY") == "auto.internal 30 AAAA 2001:2::1"
    assert said("address.internal A") == "address.internal 30 A 198.51.100.0"
    assert said("v4.internal A") == "v4.internal 30 A 240.240.0.3"
    table.answer_leases(ipv4=False, ipv6=False)
    assert said("auto.internal ANY") == "NODATA auto.internal"
    table.answer_leases(ipv4=True, ipv6=False)
    assert said("auto.internal A") == "auto.internal 30 A 240.240.0.1"


def test_before_the_first_load() -> None:
    """With --before-loaded servfail every question gets SERVFAIL, but for the probe names."""
    table = table_of()
    table.servfail = True
    refused = answer(table, dns.message.make_query("www.example.com", "A").to_wire())
    assert isinstance(refused, bytes)
    assert dns.message.from_wire(refused).rcode() == dns.rcode.SERVFAIL
    assert described(answer(table, dns.message.make_query("ab.probe.meshdns.invalid", "A").to_wire())).endswith(
        "127.0.0.1"
    )


def test_tally() -> None:
    """Replies of ours are counted by type and RCODE; probes and what is forwarded are not; strange types share a count."""
    tally: Tally = defaultdict(int)
    for question in (
        "address.internal A",
        "address.internal A",
        "address.internal.cluster.local A",
        "address.internal AAAA",
        "address.internal HTTPS",
        "address.internal TYPE4711",
        "address.internal TYPE4712",
        "_no._tcp.address.internal SRV",
        "ab.probe.meshdns.invalid TXT",
        "www.example.com A",
    ):
        name, qtype = question.split()
        answer(world(), dns.message.make_query(name, qtype).to_wire(), tally=tally)
    answer(world(), bytes(12), tally=tally)
    assert read_tally(tally) == {(1, 0): 3, (28, 0): 1, (65, 0): 1, (0, 0): 2, (33, 3): 1, (0, 1): 1}
