"""The table of verbs. A verb is ``async run(daemon, args, tell) -> result``; it raises a PmxError for a person."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pmx.daemon.commands import delete, describe, kill, logs, ls, ping, restart, scale, start, stop
from pmx.errors import UsageProblem

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell

Verb = Callable[["Daemon", dict[str, Any], "Tell"], Awaitable[Any]]

VERBS: dict[str, Verb] = {
    "delete": delete.run,
    "describe": describe.run,
    "kill": kill.run,
    "logs": logs.run,
    "ls": ls.run,
    "ping": ping.run,
    "restart": restart.run,
    "scale": scale.run,
    "start": start.run,
    "stop": stop.run,
    "version": ping.run,
}


def unknown_verb(verb: str) -> UsageProblem:
    return UsageProblem(
        f"cannot {verb}: this daemon does not know that request", "the command line may be newer than the daemon"
    )
