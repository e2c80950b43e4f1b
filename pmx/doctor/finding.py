"""What a trial found: a guarantee, whether it holds here, and else why not and what to change."""

from typing import Literal, NamedTuple

State = Literal["ok", "restricted", "missing"]

NOT_TRIED = "not tried: "
"""So begins the reason of a finding that is ok only because nothing here needs the mechanism."""

GUARANTEES = {
    "sharing": "any server shares its port with its siblings, unmodified",
    "users": "servers that run as another user (--uid) share, too",
    "elevation": "setuid programs such as sudo work in shared programs",
    "declared": "servers that take LISTEN_FDS share a port (--listen)",
    "reuseport": "servers that set SO_REUSEPORT themselves share a port",
    "steering": "who crashed or is being replaced gets no new connection",
    "crash": "a crash loses only requests already accepted",
    "queues": "connections of each worker are counted, waiting or open",
    "ipv6": "all this on IPv6, too, alone or together with IPv4",
    "backlog": "a burst of 511 connections waits, and is not dropped",
    "ports": "programs may have the ports 80 and 443",
    "family": "no process of a program is lost when its parent dies",
    "survival": "programs run on while the daemon dies and comes back",
    "logs": "output reaches the log files at the kernel's speed",
    "notify": "READY=1 (sd_notify) is heard, and its sender is known",
    "node": "process.send and 'ready' of node programs are heard",
    "ending": "pmx kill returns when everything has ended",
    "descriptors": "there are descriptors enough for many programs",
    "processes": "there may be enough processes",
    "memory": "there is memory for them",
    "home": "the home is private, on a local disk with room",
    "watch": "changes of files are noticed (for watch mode)",
    "clock": "looking at the clock costs next to nothing",
    "daemon": "pmx doctor needs no daemon, and starts none",
}
"""By the name of the check, in the order in which they are shown."""


class Finding(NamedTuple):
    """`why` is for a person; with state ok it is a remark, or empty. `change` is what to do about it."""

    check: str
    state: State = "ok"
    why: str = ""
    change: str = ""

    @property
    def guarantee(self) -> str:
        return GUARANTEES[self.check]

    @property
    def tried(self) -> bool:
        return not self.why.startswith(NOT_TRIED)
