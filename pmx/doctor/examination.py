"""All trials, and what one says of the other."""

import os
import shutil
import tempfile

from pmx.doctor import limits, network, processes, sharing
from pmx.doctor.finding import GUARANTEES, Finding
from pmx.doctor.trial import Trial, patience, run_all
from pmx.paths import Home

LIMIT = 3.0
"""Seconds for all of them together, on a machine that is not busy."""


def examine(home: Home, running: bool) -> list[Finding]:
    """A finding for each guarantee, in their order. `running`: whether `home` has a daemon. Leaves nothing behind."""
    try:
        inside = tempfile.mkdtemp(prefix=".doctor-", dir=_existing(home.root))
    except OSError:
        inside = ""
    scratch = inside or tempfile.mkdtemp(prefix="pmx-doctor-")
    try:
        found = run_all(_trials(home, inside, scratch), LIMIT * patience())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found.append(Finding("daemon", why=f"one runs in {home.root}" if running else f"none runs in {home.root}"))
    order = list(GUARANTEES)
    return _with_what_remains(sorted(found, key=lambda each: order.index(each.check)))


def _trials(home: Home, inside: str, scratch: str) -> list[Trial]:
    return [
        Trial(sharing.CHECKS, sharing.trial),
        Trial(processes.NODE_CHECKS, processes.node),
        Trial(processes.NOTIFY_CHECKS, processes.notify),
        Trial(network.GROUP_CHECKS, network.groups),
        Trial(network.QUEUE_CHECKS, network.queues),
        Trial(network.ADDRESS_CHECKS, network.addresses),
        Trial(processes.FAMILY_CHECKS, processes.families),
        Trial(processes.PIPE_CHECKS, lambda: processes.pipes(scratch)),
        Trial(limits.HOME_CHECKS, lambda: limits.home(home, inside)),
        Trial(limits.WATCH_CHECKS, lambda: limits.watch(scratch)),
        Trial(limits.LIMIT_CHECKS, limits.limits),
    ]


def _existing(path: str) -> str:
    """`path`, or the directory above it that is there already."""
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    return path


def _with_what_remains(found: list[Finding]) -> list[Finding]:
    """Where servers cannot share as they are, say who still can."""
    by_check = {each.check: each for each in found}
    ways = {"declared": "take LISTEN_FDS (--listen)", "reuseport": "set SO_REUSEPORT themselves"}
    left = " or ".join(way for check, way in ways.items() if by_check[check].state == "ok")
    it = by_check["sharing"]
    if it.state != "missing" or not left:
        return found
    better = it._replace(change=f"{it.change}; until then only servers that {left} share a port")
    return [better if each is it else each for each in found]
