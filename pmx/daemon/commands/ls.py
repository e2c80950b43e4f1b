"""ls: all instances, briefly, or with ``full`` in every detail (`pmx jlist`)."""

from typing import TYPE_CHECKING, Any

from pmx.daemon.commands._common import details, rows

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> list[dict[str, object]]:
    return (details if args.get("full") else rows)(daemon, daemon.fleet.instances())
