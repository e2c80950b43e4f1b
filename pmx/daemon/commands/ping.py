"""ping, version: who answers."""

import os
from typing import TYPE_CHECKING, Any

from pmx import __version__
from pmx.wire.messages import VERSION

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> dict[str, Any]:
    return {
        "version": __version__,
        "protocol": VERSION,
        "pid": os.getpid(),
        "keeper": daemon.facts.keeper_pid,
        "home": daemon.home.root,
    }
