"""One resolver, from start to end: opens the sockets, joins the parts, follows files and signals, leaves in good order.

What the parts do stands in their own modules; here stands only what makes them one program. door: signals.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

from meshdns.resolver.query.servers import Upstream
from meshdns.resolver.serve import preflight
from meshdns.resolver.serve.admin import AdminServer, Handler, late_import
from meshdns.resolver.serve.companion import Companion
from meshdns.resolver.serve.datagram import DatagramListener
from meshdns.resolver.serve.families import has_global_ipv6
from meshdns.resolver.serve.heartbeat import Heartbeat
from meshdns.resolver.serve.listeners import Listener, open_listeners, passed_descriptors
from meshdns.resolver.serve.metrics import Durations
from meshdns.resolver.serve.querylog import QueryLog
from meshdns.resolver.serve.reload import Reloader
from meshdns.resolver.serve.resolvfile import ResolvConfFile
from meshdns.resolver.serve.sampling import SampledLoop
from meshdns.resolver.serve.settings import BeforeLoaded, LeaseFamilies, ServeSettings
from meshdns.resolver.serve.stream import Connection, StreamListener
from meshdns.resolver.serve.systemd import Notifier
from meshdns.resolver.serve.upstream import Forwarder
from meshdns.resolver.source.watch import Watcher
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.scope import common

FAMILIES_EVERY_S: Final = 10.0
RESOLV_CONF_EVERY_S: Final = 1.0
DRAIN_S: Final = 25.0
"""Kubernetes kills 30 s after SIGTERM unless told otherwise."""

SILENT_BEFORE_END_S: Final = 1.0
"""What the kernel's timers may add to the heartbeat's timeout before the last redirected lookup is in."""

logger = logging.getLogger("meshdns.resolver")


def serve(settings: ServeSettings, companions: Sequence[Companion] = (), held: Iterable[signal.Signals] = ()) -> None:
    """Serve until SIGTERM; signals that the caller has `held` back come through as soon as they can be acted on.

    Raises PreflightError before anything was answered.
    """
    preflight.check(settings)
    preflight.raise_descriptor_limit()
    with asyncio.Runner(loop_factory=SampledLoop) as runner:
        runner.run(Resolver(settings, companions).run(held))


class Resolver:
    """The parts of one running resolver, joined."""

    def __init__(self, settings: ServeSettings, companions: Sequence[Companion]) -> None:
        """Take the settings; nothing is opened before `run`."""
        self.settings = settings
        self.companions = companions
        self.listeners: tuple[Listener, ...] = ()
        self.datagrams: tuple[DatagramListener, ...] = ()
        self.streams: tuple[StreamListener, ...] = ()
        self.forwarder: Forwarder
        self.heartbeat: Heartbeat | None = None
        self.reloader = Reloader(settings.table, self._accept)
        self.resolv_conf = ResolvConfFile(settings.forward.resolv_conf, needed=not settings.forward.upstreams)
        self.table = Table(
            common(settings.table.scope(self._search(), 0)),
            servfail=settings.before_loaded is BeforeLoaded.SERVFAIL and bool(settings.table.manifests),
        )
        self.durations = Durations()
        self._ipv6 = has_global_ipv6()
        self._ending = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._interrupted = False
        self._notifier = Notifier()
        self._told_ready = False
        self._told_of_leases = False

    async def run(self, held: Iterable[signal.Signals] = ()) -> None:
        """Serve until SIGTERM or SIGINT, then leave in good order; a second one ends that at once."""
        loop = asyncio.get_running_loop()
        self._open(loop)
        admin = AdminServer(self._pages)
        if self.settings.admin is not None:
            await admin.start(self.settings.admin)
        watcher = Watcher([str(path) for path in self.settings.table.manifests], self.reload)
        if self.settings.table.manifests:
            watcher.start()
            self.reload()
        for name, act in (
            (signal.SIGTERM, self._end),
            (signal.SIGINT, self._interrupt),
            (signal.SIGHUP, self.reload),
            (signal.SIGUSR1, self._flush),
        ):
            loop.add_signal_handler(name, act)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        follower = loop.create_task(self._follow_machine())
        follower.add_done_callback(_tell_end)
        self._begin_to_beat()  # last: one beat of a process that then cannot start sends lookups here for seconds
        logger.info("answering on %s", ", ".join(str(listener.at) for listener in self.listeners))
        self._tell_ready()
        await self._start_the_rest()
        await self._ending.wait()
        self._notifier.stopping()
        await self._leave()
        watcher.close()
        follower.cancel()
        await self.reloader.stop()
        await admin.stop()
        self._close()
        if self._interrupted:
            raise KeyboardInterrupt

    # State, for the admin port and the heartbeat.

    def families(self) -> tuple[bool, bool]:
        """Say whether leased IPv4 and leased IPv6 addresses are answered."""
        match self.settings.lease_families:
            case LeaseFamilies.AUTO:
                return True, self._ipv6
            case LeaseFamilies.IPV4:
                return True, False
            case LeaseFamilies.IPV6:
                return False, True
            case LeaseFamilies.BOTH:
                return True, True

    def missing(self) -> list[str]:
        """List what stands between this resolver and being ready; empty when it is."""
        missing = []
        if not self.loaded:
            missing.append("the manifests have not been loaded yet")
        if not self.forwarder.ready:
            missing.append("there is no upstream nameserver")
        if self._ending.is_set():
            missing.append("it is about to end")
        return missing

    @property
    def loaded(self) -> bool:
        """Whether the first load is done, or there is nothing to load."""
        return self.reloader.counters.loads > 0 or not self.settings.table.manifests

    def reload(self) -> None:
        """Read the manifests anew."""
        self.reloader.trigger(self._search())

    # The life of it.

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        settings = self.settings
        opened = open_listeners(settings.listen, passed_descriptors(os.environ))
        for warning in opened.warnings:
            logger.warning("%s", warning)
        self.listeners = opened.listeners
        forward = settings.forward
        self.forwarder = Forwarder(
            loop,
            lambda: self.table,
            forward.cache_entries,
            forward.stale_for_s,
            [(listener.at.address, listener.at.port) for listener in self.listeners],
        )
        log = QueryLog(settings.query_log.put) if settings.query_log else None
        observe = log.replied if log else None
        self.forwarder.observe(self.durations.observe, log.forwarded if log else None)
        self._ask_upstreams()
        submit = self.forwarder.submit
        self.datagrams = tuple(
            DatagramListener(listener.udp, self.table, submit, observe, fast=self.forwarder)
            for listener in self.listeners
        )
        connections: set[Connection] = set()
        places = preflight.stream_places()
        self.streams = tuple(
            StreamListener(listener.tcp, lambda: self.table, submit, observe, connections, places)
            for listener in self.listeners
        )
        for companion in self.companions:
            companion.open(self.forwarder)
            companion.follow(self.table)
        for listener, datagram, stream in zip(self.listeners, self.datagrams, self.streams, strict=True):
            datagram.start(loop)
            stream.start(loop)
            if isinstance(loop, SampledLoop):
                loop.time_turns(listener.udp.fileno(), datagram.counters.tally, self.durations.sample)

    async def _start_the_rest(self) -> None:
        """Start what no lookup should wait for once names of ours are answered, or cannot be."""
        if self.settings.table.manifests:
            await _first_of(self.reloader.tried.wait(), self._ending.wait())
        if not self._ending.is_set():
            await late_import("meshdns.resolver.serve.batch")
            for datagram in self.datagrams:
                datagram.read_many()
            for companion in self.companions:
                await companion.start()

    async def _pages(self) -> Mapping[str, Handler]:
        """Return the admin port's pages; nobody who does not look at them pays for them."""
        pages: Mapping[str, Handler] = (await late_import("meshdns.resolver.serve.pages")).handlers(self)
        return pages

    def _begin_to_beat(self) -> None:
        interval_s = self.settings.heartbeat_interval_s
        if interval_s is None:
            return
        beaten = [listener.at for listener in self.listeners if listener.at.address.is_loopback]
        if not beaten:
            logger.warning("no heartbeat: no listener is on a loopback address, so no rule sends anything here")
        self.heartbeat = Heartbeat(beaten, interval_s, self._may_beat)
        self.heartbeat.start()

    def _may_beat(self) -> bool:
        may_answer = self.loaded or self.settings.before_loaded is BeforeLoaded.FORWARD
        return may_answer and self.forwarder.ready

    def _accept(self, table: Table) -> None:
        """Answer from a new table from now on."""
        for companion in self.companions:
            companion.follow(table)
        ipv4, ipv6 = self.families()
        table.answer_leases(ipv4=ipv4, ipv6=ipv6)  # they may have changed since its first rows came
        self.table = table
        for datagram in self.datagrams:
            datagram.table = table
        self._tell_of_leases()
        self._tell_ready()

    def _tell_of_leases(self) -> None:
        """Say once, as soon as there are any, what leases lack."""
        if self._told_of_leases or not self.table.leased:
            return
        self._told_of_leases = True
        if not self.companions:
            logger.warning("leased addresses are answered, but nothing stands behind them: --no-relay")
        if self.settings.table.auto_allocate and self.settings.table.state is None:
            logger.warning(
                "leases are only as stable as the manifests: after a restart a name may have another address: "
                "give --state DIR to keep them"
            )

    def _tell_ready(self) -> None:
        """Say once that everything is there, as soon as it is."""
        if not self._told_ready and not self.missing():
            self._told_ready = True
            logger.info("ready")
            self._notifier.ready()

    async def _follow_machine(self) -> None:
        """Notice what changes on the machine: resolv.conf, and whether it speaks IPv6."""
        loop = asyncio.get_running_loop()
        families_at = loop.time() + FAMILIES_EVERY_S
        while True:
            await asyncio.sleep(RESOLV_CONF_EVERY_S)
            search = self._search()
            if self.resolv_conf.has_changed():
                logger.info("%s has changed", self.settings.forward.resolv_conf)
                self._ask_upstreams()
                self._tell_ready()
                if self._search() != search:
                    self.reload()
            if loop.time() >= families_at:
                families_at += FAMILIES_EVERY_S
                self._look_for_ipv6()

    def _look_for_ipv6(self) -> None:
        before = self.families()
        self._ipv6 = has_global_ipv6()
        if self.families() != before:
            ipv4, ipv6 = self.families()
            self.table.answer_leases(ipv4=ipv4, ipv6=ipv6)

    def _ask_upstreams(self) -> None:
        forward = self.settings.forward
        wanted = [Upstream(*server) for server in forward.upstreams] or [
            Upstream(server.address, interface=server.zone) for server in self.resolv_conf.content.nameservers
        ]
        zones: dict[str, list[Upstream]] = {}
        for suffix, server in forward.zones:
            zones.setdefault(suffix, []).append(Upstream(*server))
        for refused in self.forwarder.replace_upstreams(wanted, zones):
            logger.warning("cannot ask %s: it is this resolver itself", refused)
        if not self.forwarder.ready:
            logger.warning(
                "there is nobody to forward to: other names get SERVFAIL, and no rule sends lookups here: "
                "list a nameserver in %s, or give --upstream",
                forward.resolv_conf,
            )

    def _search(self) -> tuple[str, ...]:
        chosen = self.settings.table.search
        return self.resolv_conf.content.search if chosen is None else chosen

    def _flush(self) -> None:
        self.forwarder.flush()
        logger.info("the cache is empty")

    def _end(self) -> None:
        if self._ending.is_set():
            self._hurrying.set()
        self._ending.set()

    def _interrupt(self) -> None:
        self._interrupted = True
        self._hurrying.set()
        self._ending.set()

    async def _leave(self) -> None:
        """Let everything finish, unless somebody does not want to wait for it."""
        await _first_of(self._drain(), self._hurrying.wait())

    async def _drain(self) -> None:
        """Stop beating, answer until nothing is redirected here any more, let connections finish."""
        if self._hurrying.is_set():
            return
        answer_s = 0.0
        phases = []
        if self.heartbeat is not None:
            self.heartbeat.stop()
            answer_s = self.settings.heartbeat_timeout_s + SILENT_BEFORE_END_S
            phases.append(f"lookups may still be sent here for {answer_s:g} s")
        if self.companions:
            phases.append(f"connections have up to {DRAIN_S:g} s to finish")
        logger.info("ending: %s", "; then ".join(phases) or "at once")
        await asyncio.sleep(answer_s)  # until then lookups and connections are still sent here
        await asyncio.gather(*(companion.drain(DRAIN_S) for companion in self.companions))

    def _close(self) -> None:
        for datagram, stream in zip(self.datagrams, self.streams, strict=True):
            datagram.stop()
            stream.stop()
        self.forwarder.close()
        for listener in self.listeners:
            listener.close()


async def _first_of(*waiting: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is done, and give up the others."""
    steps = [asyncio.ensure_future(step) for step in waiting]
    await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
    for step in steps:
        step.cancel()
    await asyncio.gather(*steps, return_exceptions=True)


def _tell_end(follower: asyncio.Task[None]) -> None:
    """Say so where resolv.conf and addresses are not followed any more; nobody waits for that task."""
    if not follower.cancelled() and (error := follower.exception()) is not None:
        logger.error("cannot follow the machine's settings any more: restart to do so", exc_info=error)
