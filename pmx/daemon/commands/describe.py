"""describe: everything about the chosen instances."""

from typing import TYPE_CHECKING, Any

from pmx.daemon.commands._common import chosen, details

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> list[dict[str, object]]:
    return details(daemon, chosen(daemon, args))
