"""Which tests this machine can run. Those it cannot are listed at the end, and in CI they are failures."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

# How fast a machine is makes no test fail; and where a change is judged, it is not judged by luck.
hypothesis.settings.register_profile("meshdns", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("meshdns")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts in the background deaf to SIGINT, and so would be what the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

IDS = os.environ.get("MESHDNS_IDS", "all" if os.geteuid() == 0 else "one")
"""Which users exist: all (root), some (a user namespace with subordinate ids) or one (see scripts/in-namespace)."""

HERE = Path(__file__).parent
SPREAD = ("test_fates.py", "test_render.py", "test_parse.py")
"""Files of very many rows, each with a namespace of its own: any core may take any row."""

OTHER_USERS = ("capture", "relay", "init/test_together.py", "init/test_demo.py")
"""Where tests send packets as other users than 0."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs users that do not exist here; keep the tests of a file on one core, all but long tables."""
    for item in items:
        place = item.path.relative_to(HERE)
        if place.name not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(str(place)))
        if IDS == "one" and any(place.is_relative_to(other) for other in OTHER_USERS):
            item.add_marker(
                pytest.mark.skip(reason="needs other users than 0: run as root, or with a line in /etc/subuid")
            )
        elif IDS != "all" and item.get_closest_marker("root") is not None:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where skips are failures, fail for them: a skipped test looks like one that passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many packets have met the fate in a kernel that the simulator tells."""
    reports = [dict(report.user_properties) for report in terminalreporter.getreports("passed")]
    fates = [told for told in reports if "probes" in told]
    if fates:
        cases, backends = ({told[name] for told in fates} for name in ("case", "backend"))
        packets = sum(told["probes"] for told in fates)
        terminalreporter.line(
            f"{packets:,} packets met the fate that the simulator told: {len(cases)} configurations, each by up to"
            f" {len(backends)} backends ({', '.join(sorted(backends))})"
        )
