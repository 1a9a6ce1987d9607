"""One question on its way upstream: which server is tried when, and when the question is settled.

The first good answer (NOERROR or NXDOMAIN) from any try settles it, late ones included. A try that says nothing for its
server's wait, or says anything else, lets the next one start; when all have been started, what is still open is waited
for until the deadline. Only then does the best of the other answers count. There are no sockets and no clock here: a
`Try` says what is to be sent, and the time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from meshdns.resolver.query.reply import Reply, read
from meshdns.resolver.query.servers import Server
from meshdns.resolver.query.wire import FORMERR, HEADER_BYTES, NOERROR, NOTIMP, REFUSED, SERVFAIL

DEADLINE_S: Final = 4.0
"""Below the 5 s after which every stub resolver gives up (resolv.conf(5), `timeout`)."""

ROUNDS: Final = 2

_WORSE: Final = {SERVFAIL: 1, REFUSED: 2, NOTIMP: 3, FORMERR: 4}
"""Which bad answer says most about the name: any other RCODE, then one that tried, then those that would not."""


class Loss(Enum):
    """Why a try brought nothing, as it is told to people."""

    SILENT = "no answer"
    REFUSED = "connection refused"
    UNREACHABLE = "network unreachable"
    GARBAGE = "an answer that cannot be read"
    NO_TCP = "no answer over TCP"
    ERROR = "an error"
    LOOP = "it leads back to this resolver"


@dataclass(slots=True, eq=False, repr=False)
class Try:
    """One message to one server; `message` is whole but for the id.

    `exchange` is None for a plain query that needs none. `open`: nothing was heard yet. `over`: nothing more is
    listened for. `overtaken`: the next try did not wait for it. `failed`: it counts against its server. `stop`: set by
    who carries it out, ends the listening.
    """

    exchange: Exchange | None
    server: Server
    message: bytes
    stream: bool
    sent_s: float
    wait_s: float
    open: bool = True
    over: bool = False
    overtaken: bool = False
    failed: bool = False
    stop: Callable[[], object] | None = None


@dataclass(slots=True, eq=False)
class Question:
    """What is asked: `key` is the name in lower-case wire form, `kind` the four bytes of type and class.

    `message` is whole but for the id; its last `opt_bytes` are our OPT record. `raw`: no QUERY but another opcode, or
    signed, so that it is passed on as it is to one server, and the reply is passed back unread.
    """

    key: bytes
    kind: bytes
    message: bytes
    opt_bytes: int = 0
    stream: bool = False
    raw: bool = False

    @property
    def plain(self) -> bytes:
        """The message without its OPT record, for servers that do not know what that is."""
        message = self.message
        return message[:8] + b"\0\0" + message[10 : len(message) - self.opt_bytes] if self.opt_bytes else message


class Exchange:
    """A question, the tries made for it, and what came of them.

    Once `settled`, `outcome` is the reply that counts and `settled_by` who gave it; without any, `losses` says of each
    server why. `raw_reply` is the message that came back for a raw question.
    """

    __slots__ = (
        "_fallback", "_fallback_by", "_servers", "_started_tries", "_total_tries", "_without_opt",
        "deadline_s", "losses", "open_tries", "outcome", "question", "raw_reply", "settled", "settled_by",
        "started_s", "tries", "try_at_s", "trying",
    )  # fmt: skip

    def __init__(self, question: Question, servers: tuple[Server, ...], now: float) -> None:
        """Plan to ask `servers`, at least one, one after another."""
        self.question = question
        self.started_s = now
        self.deadline_s = now + DEADLINE_S
        self.try_at_s = inf
        self.settled = False
        self.settled_by: Server | None = None
        self.outcome: Reply | None = None
        self.raw_reply: bytes | None = None
        self.tries: list[Try] = []
        self.losses: dict[Server, Loss] = {}
        self._servers = servers
        self._started_tries = 0
        self._total_tries = 1 if question.raw else len(servers) * ROUNDS
        self.trying: Try | None = None
        self.open_tries = 0
        self._fallback: Reply | None = None
        self._fallback_by: Server | None = None
        self._without_opt: tuple[Server, ...] = ()

    def next_try(self, now: float) -> Try | None:
        """Return the first try, or the one after those that were made; None when all have been."""
        while self._started_tries < self._total_tries and now < self.deadline_s:
            server = self._servers[self._started_tries % len(self._servers)]
            self._started_tries += 1
            if server.loops_until_s <= now:
                return self._made(server, now, stream=self.question.stream)
            self.losses[server] = Loss.LOOP
        self.try_at_s = inf
        return None

    def begun(self, attempt: Try) -> None:
        """Take in a try at the first server, made before there was an exchange."""
        self._started_tries += 1
        self.try_at_s = attempt.sent_s + attempt.wait_s
        self.trying = attempt
        self.tries.append(attempt)
        self.open_tries += 1
        attempt.exchange = self

    def try_beside(self, server: Server, now: float) -> Try:
        """Return a try at a sick server, whose outcome nobody waits for."""
        attempt = self._sent(server, self.question.message, now, stream=self.question.stream)
        attempt.overtaken = True
        return attempt

    def heard(self, attempt: Try, message: bytes, now: float) -> Try | None:
        """Take a message that came with the try's id from the try's server; return the try to be made next, if any."""
        question = self.question
        reply = _read_raw(message, question) if question.raw else read(message, question.key, question.kind)
        if reply is None:
            return self.lost(attempt, Loss.GARBAGE, now)
        attempt.over = True
        if attempt.open:
            attempt.open = False
            self.open_tries -= 1
        server, took_s = attempt.server, now - attempt.sent_s
        good = reply.good
        in_time = good and took_s <= attempt.wait_s and not attempt.failed
        server.answered(None if attempt.stream else took_s, in_time=in_time)
        if not good:
            return self._bad(attempt, reply, now)
        if reply.truncated and not attempt.stream:
            self._fall_back(reply, server)
            return None if self.settled else self._made(server, now, stream=True)
        if not self.settled:
            if question.raw:
                self.raw_reply = message
            self.settled, self.outcome, self.settled_by = True, reply, server
        return None

    def lost(self, attempt: Try, loss: Loss, now: float) -> Try | None:
        """Take note that a try brings nothing, or nothing that can be read; return the try to be made next, if any."""
        if not attempt.open:
            return None
        attempt.open = False
        self.open_tries -= 1
        self._fail(attempt, loss, now)
        return self._after(attempt, now)

    def wake(self, now: float) -> Try | None:
        """Do what is due by the clock; return the try to be made next, if any."""
        if self.settled or now >= self.deadline_s:
            for attempt in self.tries:
                if attempt.open:
                    self._fail(attempt, Loss.SILENT, now)
            if not self.settled:
                self._settle(self._fallback, self._fallback_by)
        elif now >= self.try_at_s and self.trying is not None:
            self.trying.overtaken = True
            self._fail(self.trying, Loss.SILENT, now)
            return self.next_try(now)
        return None

    def release(self) -> None:
        """Let go of what nobody needs once all is said: tries point back here, and a cycle waits for the collector."""
        self.trying = self.outcome = None
        self.tries.clear()

    def _bad(self, attempt: Try, reply: Reply, now: float) -> Try | None:
        if reply.rcode in {FORMERR, NOTIMP} and not reply.edns:
            self._without_opt += (attempt.server,)
        self._fail(attempt, Loss.ERROR, now)
        self._fall_back(reply, attempt.server)
        return self._after(attempt, now)

    def _fall_back(self, reply: Reply, server: Server) -> None:
        if self._fallback is None or _rank(reply) < _rank(self._fallback):
            self._fallback, self._fallback_by = reply, server

    def _after(self, attempt: Try, now: float) -> Try | None:
        """Return the try after one that failed, unless that was made before; with nothing left to wait for, settle."""
        if self.settled:
            return None
        following = None if attempt.overtaken else self.next_try(now)
        if following is None and self.open_tries == 0 and self._started_tries == self._total_tries:
            self._settle(self._fallback, self._fallback_by)
        return following

    def _settle(self, outcome: Reply | None, by: Server | None) -> None:
        self.settled, self.outcome, self.settled_by = True, outcome, by

    def _made(self, server: Server, now: float, *, stream: bool) -> Try:
        """Make a try that is waited for; what the one before it brings still counts."""
        question = self.question
        message = question.plain if self._without_opt and server in self._without_opt else question.message
        if self._started_tries < self._total_tries:
            self.try_at_s = now + server.wait_s
        else:
            self.try_at_s = inf
        self.trying = attempt = self._sent(server, message, now, stream=stream)
        return attempt

    def _sent(self, server: Server, message: bytes, now: float, *, stream: bool) -> Try:
        attempt = Try(self, server, message, stream, now, server.wait_s)
        server.attempts += 1
        self.tries.append(attempt)
        self.open_tries += 1
        return attempt

    def _fail(self, attempt: Try, loss: Loss, now: float) -> None:
        self.losses[attempt.server] = loss
        if not attempt.failed:
            attempt.failed = True
            attempt.server.failed(now)


def _read_raw(message: bytes, question: Question) -> Reply | None:
    """Return a reply that says no more than that there is one."""
    return Reply(NOERROR, 0, (0, 0, 0), b"", 0, 0, (), 0) if answers_opcode(message, question.message) else None


def answers_opcode(message: bytes, asked: bytes) -> bool:
    """Whether `message` is a response of the opcode that was asked with; `asked` lacks the id."""
    return len(message) >= HEADER_BYTES and message[2] & 0x80 != 0 and (message[2] ^ asked[0]) & 0x78 == 0


def _rank(reply: Reply) -> int:
    return _WORSE.get(reply.rcode, 0)
