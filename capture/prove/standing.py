"""Door for `doctor`: what is installed here, and whether the resolver's heartbeat keeps it open."""

from __future__ import annotations

import time

from meshdns.capture.apply.choice import installed, with_others
from meshdns.capture.apply.install import inspect
from meshdns.capture.dialects.iptables.heartbeat import HEARTBEATS
from meshdns.capture.dialects.nft.render import NAME
from meshdns.capture.errors import CaptureError
from meshdns.capture.prove.facts import Installed, Standing
from meshdns.capture.system.nftables import has_table
from meshdns.capture.system.runner import PACKAGES, MissingProgramError
from meshdns.capture.system.xtables import heartbeats


def standing(name: str) -> Standing:
    """Return what the backend of that name holds, for `auto` whichever holds something; no error where it is unseen."""
    backend = installed(name)
    by_nft = backend.name == "nft"
    try:
        found = with_others(inspect(backend), backend)
    except MissingProgramError as error:
        left = has_table(NAME) if by_nft else heartbeats(HEARTBEATS) is not None
        if not left:
            return Standing(unseen=str(error))
        missing, package = ("nft", PACKAGES["nft"]) if by_nft else ("iptables", "iptables")
        return Standing(unseen=str(error), missing=missing, package=package)
    except CaptureError as error:
        return Standing(unseen=str(error))
    if found.record is None:
        return Standing(unseen=found.drift[0] if found.held.present else "", drift=found.drift)
    since = found.record.installed_at
    age_s = None if since is None else max(time.time() - since, 0.0)
    return Standing(Installed(found.record.spec, found.held.alive, age_s), drift=found.drift)
