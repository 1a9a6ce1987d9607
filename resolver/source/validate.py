"""Whether an object that was read keeps the rules of its kind. With manifests from a directory no API server asks this.

The rules of ServiceEntry stand by topic in `checks`; each looks at one entry alone. What entries say against each other
is judged by `conflicts`. Pure; the catalogue of ids and fixes is `rules`.
"""

from __future__ import annotations

from meshdns.resolver.source.checks import addresses, endpoints, hosts, ports, resolution, scope
from meshdns.resolver.source.entry import Entry, ServiceEntry, WorkloadEntry
from meshdns.resolver.source.fields import EMPTY
from meshdns.resolver.source.problem import Report
from meshdns.resolver.source.tree import Fields

_SERVICE_ENTRY_CHECKS = (
    hosts.check,
    addresses.check,
    ports.check,
    scope.check_selector,
    scope.check_export,
    scope.check_location,
    resolution.check,
)


def validate(entry: Entry, root: Fields, report: Report) -> None:
    """Report every rule that `entry`, read from the document `root` without errors, does not keep."""
    spec = root.get("spec")
    written = spec if isinstance(spec, Fields) else EMPTY
    if isinstance(entry, ServiceEntry):
        for check in _SERVICE_ENTRY_CHECKS:
            check(entry, written, report)
    elif isinstance(entry, WorkloadEntry):
        endpoints.check_workload(entry, written, report)
