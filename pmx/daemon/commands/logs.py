"""logs: which files hold the output of the chosen instances. The client reads them; the bus says when they grow."""

from typing import TYPE_CHECKING, Any

from pmx.daemon import records
from pmx.daemon.commands._common import chosen
from pmx.daemon.hands import STREAMS
from pmx.daemon.logs import pipe_name

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for instance in chosen(daemon, args):
        # What was printed before the question was asked belongs to the answer.
        daemon.logs.drain(tuple(pipe_name(instance.id, stream) for stream in STREAMS))
        found.append(
            {
                "id": instance.id,
                "name": instance.app.spec.name,
                "instance": instance.number,
                "out_file": records.log_path(instance, "out", daemon.home),
                "error_file": records.log_path(instance, "error", daemon.home),
            }
        )
    return found
