"""What stands outside the demo's pod: a nameserver that knows one name, and two web servers; threads, sockets."""

from __future__ import annotations

import http.server
import socketserver
import struct
import threading
from typing import Final

from dnslib import QTYPE, RCODE, RR, A, DNSRecord

OUTSIDE_NAME: Final = "outside.example."
OUTSIDE_ADDRESS: Final = "203.0.113.80"


def start(nameserver: str, web_servers: dict[str, str]) -> None:
    """Serve DNS on `nameserver` and, on port 80 of each address of `web_servers`, a page with its text."""
    for server in (
        _Threads((nameserver, 53), _TcpLookup),
        _Datagrams((nameserver, 53), _UdpLookup),
        *(_Threads((address, 80), _page(text)) for address, text in web_servers.items()),
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()


class _Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Datagrams(socketserver.ThreadingUDPServer):
    daemon_threads = True


def _answer(packet: bytes) -> bytes:
    query = DNSRecord.parse(packet)
    reply = query.reply(aa=0)
    if str(query.q.qname).lower() != OUTSIDE_NAME:
        reply.header.rcode = RCODE.NXDOMAIN
    elif query.q.qtype == QTYPE.A:
        reply.add_answer(RR(query.q.qname, QTYPE.A, ttl=300, rdata=A(OUTSIDE_ADDRESS)))
    return bytes(reply.pack())


class _UdpLookup(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        packet, sock = self.request
        sock.sendto(_answer(packet), self.client_address)


class _TcpLookup(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while len(prefix := self.rfile.read(2)) == 2:  # noqa: PLR2004 - RFC 1035, section 4.2.2: two bytes of length
            reply = _answer(self.rfile.read(struct.unpack("!H", prefix)[0]))
            self.wfile.write(struct.pack("!H", len(reply)) + reply)


def _page(text: str) -> type[http.server.BaseHTTPRequestHandler]:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{text}\n".encode()
            self.send_response(http.HTTPStatus.OK)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing: curl shows what there is to see."""

    return Page
