"""Records as bytes: each shape against what dnslib makes."""

from __future__ import annotations

from ipaddress import ip_address

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.table.records import OWNER, addresses, record, soa, srv_head


def by_dnslib(rtype: int, ttl_s: int, rdata: dnslib.RD) -> bytes:
    """Return a record of the root without its owner, as dnslib packs it."""
    buffer = dnslib.DNSBuffer()
    dnslib.RR(".", rtype, rdata=rdata, ttl=ttl_s).pack(buffer)
    return bytes(buffer.data[1:])


@given(st.ip_addresses(), st.integers(0, 2**31 - 1))
def test_addresses(address: object, ttl_s: int) -> None:
    """An address record is dnslib's."""
    found = ip_address(str(address))
    rdata = dnslib.A(str(found)) if found.version == 4 else dnslib.AAAA(str(found))
    rtype = dnslib.QTYPE.A if found.version == 4 else dnslib.QTYPE.AAAA
    assert addresses([found.packed, found.packed], ttl_s) == (OWNER + by_dnslib(rtype, ttl_s, rdata)) * 2


@given(st.integers(0, 2**40), st.integers(0, 86400))
def test_soa(generation: int, negative_ttl_s: int) -> None:
    """The SOA is dnslib's; a serial beyond 32 bits wraps."""
    times = (generation % 2**32, 3600, 600, 86400, negative_ttl_s)
    rdata = dnslib.SOA("meshdns.invalid", ".", times)
    assert soa(generation, negative_ttl_s) == by_dnslib(dnslib.QTYPE.SOA, negative_ttl_s, rdata)


@pytest.mark.parametrize("port", [1, 80, 65535])
def test_srv(port: int) -> None:
    """SRV data up to its target is dnslib's."""
    rdata = dnslib.SRV(priority=0, weight=0, port=port, target="a.test")
    target = bytes(dnslib.DNSLabel("a.test").label[0])
    assert target == b"a"
    assert record(33, 30, srv_head(port) + b"\1a\4test\0") == by_dnslib(dnslib.QTYPE.SRV, 30, rdata)


def test_cname_ptr_and_txt() -> None:
    """So are the records that are made while a question is answered."""
    assert record(5, 30, b"\1a\4test\0") == by_dnslib(dnslib.QTYPE.CNAME, 30, dnslib.CNAME("a.test"))
    assert record(12, 30, b"\1a\4test\0") == by_dnslib(dnslib.QTYPE.PTR, 30, dnslib.PTR("a.test"))
    assert record(16, 0, b"\3abc") == by_dnslib(dnslib.QTYPE.TXT, 0, dnslib.TXT("abc"))
