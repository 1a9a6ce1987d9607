"""`capture install` as a whole process, against nft with the same rules and a Python that does nothing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median

from bench.figures import ratio
from bench.finding import Finding, at_most
from bench.process import NotMeasuredError, timed
from bench.rounds import Bench, pace
from namespaces import Namespace, namespace

INSTALL = 4.0


def measure(bench: Bench) -> Iterator[Finding]:
    """Install the default rules in an empty namespace again and again."""
    for program in ("nft", "meshdns"):
        if shutil.which(program) is None:
            raise NotMeasuredError(f"{program} is not installed")
    resolv_conf, rules = bench.home / "resolv.conf", bench.home / "rules"
    resolv_conf.write_text("nameserver 10.96.0.10\n")
    options = ["--backend", "nft", "--family", "both", "--resolv-conf", str(resolv_conf)]
    with namespace() as pod:
        rules.write_text(pod.run("meshdns", "capture", "plan", *options, "--format", "nft").stdout)
        took = bench.take_turns(
            {
                "install": partial(_anew, pod, [["meshdns", "capture", "install", *options]]),
                "nft": partial(_anew, pod, [["nft", "-f", str(rules)], [sys.executable, "-c", "pass"]]),
            }
        )
    detail = f"{pace(median(took['install']))} against {pace(median(took['nft']))}"
    yield at_most("against nft -f and python -c pass", ratio(took["install"], took["nft"]), INSTALL, detail)


def _anew(pod: Namespace, commands: Sequence[Sequence[str]]) -> float:
    """Run commands one after the other where nothing is installed; return the seconds they took."""
    pod.run("nft", "flush", "ruleset")
    return pod.call(lambda: sum(timed(command) for command in commands))
