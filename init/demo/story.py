"""The demo's eight steps: each prints a command, what it gave, and goes on only if that is what the step is to show."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import time
from typing import Final

import click

from meshdns.init import defaults
from meshdns.init.demo.pod import WORLD_ADDRESS, Outcome, Pod
from meshdns.init.demo.world import OUTSIDE_ADDRESS
from meshdns.init.errors import UnexpectedError
from meshdns.init.present import heading

ADDRESS_ENTRY: Final = """\
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: external-address}
spec:
  addresses: [198.51.100.0]
  hosts: [address.internal]
  ports: [{name: http, number: 80, protocol: HTTP}]
"""
AUTO_ENTRY: Final = """\
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: external-auto}
spec:
  hosts: [auto.internal]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 198.51.100.2}]
"""
LATE_ENTRY: Final = AUTO_ENTRY.replace("auto", "late")

CURL: Final = ("curl", "-sS", "-v", "-4", "--no-progress-meter", "--max-time", "8")
DIG: Final = ("dig", "+tries=1", "+time=3", "+noall", "+answer", "+comments")
RELOADED_WITHIN_S: Final = 10.0
READY_WITHIN_S: Final = 10.0


class Story:
    """Tells the steps in `pod`; raises UnexpectedError where a step does not show what it should."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._steps = 0

    def tell(self) -> None:
        """All steps, in order."""
        (self._pod.entries / "external.yaml").write_text(f"{ADDRESS_ENTRY}---\n{AUTO_ENTRY}")
        before = self._pod.run("nft", "list", "ruleset").text
        self._unresolved()
        self._plan()
        resolver = self._install()
        try:
            self._mesh_names()
            self._outside_name()
            self._late_entry()
            self._killed(resolver)
        finally:
            resolver.kill()
            resolver.wait()
        self._uninstall(before)

    def _unresolved(self) -> None:
        self._step("Two ServiceEntries are mounted, but nobody answers their names")
        self._print((self._pod.entries / "external.yaml").read_text())
        self._show(*CURL, "address.internal", expect="Could not resolve host", exit_code=6)

    def _plan(self) -> None:
        self._step("What `capture install` would do, rule by rule")
        self._show("meshdns", "capture", "plan", expect=f"redirect.*{defaults.DNS_PORT}")

    def _install(self) -> subprocess.Popen[bytes]:
        self._step(f"The resolver runs as uid {defaults.PROXY_UID} without any capability; the rules go in")
        command = ("meshdns", "resolver", "run", "--manifests", str(self._pod.entries))
        self._print(f"$ {shlex.join(command)} &")
        resolver = self._pod.start(*command)
        self._wait_until_ready(resolver)
        self._show("meshdns", "capture", "install")
        # The rules redirect from the first heartbeat on, at most half a second later.
        time.sleep(defaults.HEARTBEAT_INTERVAL_S)
        self._show("meshdns", "capture", "status", expect="heartbeat ipv4: alive")
        return resolver

    def _mesh_names(self) -> None:
        self._step("Both names resolve and connect: one to its own address, one to an allocated address and the relay")
        self._show(*DIG, "address.internal", expect=r"address\.internal\.\s+30\s+IN\s+A\s+198\.51\.100\.0")
        self._show(*CURL, "address.internal", expect=r"198\.51\.100\.0.*page of 198\.51\.100\.0")
        self._show(*DIG, "auto.internal", expect=r"auto\.internal\.\s+30\s+IN\s+A\s+240\.240\.0\.1")
        self._show(*CURL, "auto.internal", expect=r"240\.240\.0\.1.*page of 198\.51\.100\.2")

    def _outside_name(self) -> None:
        self._step("A name that is not ours is forwarded to the nameserver of resolv.conf")
        self._show(*DIG, "outside.example", expect=re.escape(OUTSIDE_ADDRESS))

    def _late_entry(self) -> None:
        self._step("A ServiceEntry that is added while it runs is answered within a second")
        (self._pod.entries / "late.yaml").write_text(LATE_ENTRY)
        self._print("$ cp late.yaml entries/")
        written = time.monotonic()
        while "240.240.0.2" not in self._pod.run(*DIG, "late.internal").text:
            if time.monotonic() - written > RELOADED_WITHIN_S:
                raise UnexpectedError(
                    f"step {self._steps}: late.internal was not answered in {RELOADED_WITHIN_S:.0f} s"
                )
            time.sleep(0.05)
        self._print(f"answered {time.monotonic() - written:.2f} s later")
        self._show(*DIG, "late.internal", expect=r"240\.240\.0\.2")

    def _killed(self, resolver: subprocess.Popen[bytes]) -> None:
        self._step("The resolver is killed: after the timeout the nameserver that was asked answers by itself")
        self._print(f"$ kill -9 {resolver.pid}; sleep {defaults.HEARTBEAT_TIMEOUT_S + 0.5:g}")
        resolver.send_signal(signal.SIGKILL)
        resolver.wait()
        time.sleep(defaults.HEARTBEAT_TIMEOUT_S + 0.5)
        self._show("meshdns", "capture", "status", expect="heartbeat ipv4: none")
        self._show(*DIG, "outside.example", expect=re.escape(OUTSIDE_ADDRESS))
        self._show(*DIG, "address.internal", expect="NXDOMAIN")

    def _uninstall(self, before: str) -> None:
        self._step("Uninstalled, the namespace's rules are what they were")
        self._show("meshdns", "capture", "uninstall")
        after = self._show("nft", "list", "ruleset")
        if after.text != before:
            raise UnexpectedError(f"step {self._steps}: the ruleset is not what it was before")
        self._print("(as before)" if before else "(nothing, as before)")

    def _wait_until_ready(self, resolver: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + READY_WITHIN_S
        ask = ("curl", "-sf", f"http://127.0.0.1:{defaults.ADMIN_PORT}/readyz")
        while self._pod.run(*ask).exit_code != 0:
            if resolver.poll() is not None or time.monotonic() > give_up:
                log = (self._pod.home / "resolver.log").read_text()
                raise UnexpectedError(f"step {self._steps}: the resolver did not get ready: {log}")
            time.sleep(0.05)

    def _step(self, title: str) -> None:
        self._steps += 1
        click.echo()
        heading(f"{self._steps}. {title}")

    def _show(self, *command: str, expect: str = "", exit_code: int = 0) -> Outcome:
        self._print(f"$ {shlex.join(command)}")
        outcome = self._pod.run(*command)
        self._print(outcome.text)
        if outcome.exit_code != exit_code or not re.search(expect, outcome.text, re.DOTALL):
            wanted = f"exit code {exit_code}" + (f" and {expect!r}" if expect else "")
            message = f"step {self._steps}: {shlex.join(command)} gave exit code {outcome.exit_code}, wanted {wanted}"
            raise UnexpectedError(message)
        return outcome

    def _print(self, text: str) -> None:
        for line in text.splitlines():
            click.echo(f"   {line}" if line else "")


def introduce() -> None:
    """Print what is about to be seen."""
    click.echo(
        "A pod with one interface, a nameserver and two web servers, in namespaces that end with this program.\n"
        f"The pod's nameserver is {WORLD_ADDRESS}; it knows outside.example and nothing else."
    )
