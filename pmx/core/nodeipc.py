"""Node's words on its IPC channel, as node 18 to 24 say them (lib/internal/child_process.js, lib/internal/cluster)."""

from typing import NamedTuple

IPV6_ONLY = 1
"""In the flags of a query: UV_TCP_IPV6ONLY and UV_UDP_IPV6ONLY."""


class Query(NamedTuple):
    """A cluster worker wants a socket (queryServer). `port` 0 means any; -1, that `address` is a path.

    `kind` is node's addressType: 4, 6, udp4, udp6; -1 for a path. `fd`, unless -1, is a descriptor of the primary's.
    `data` goes back to the worker as it came: a TLS server cannot do without.
    """

    seq: int
    address: str
    port: int
    kind: int | str | None
    flags: int = 0
    fd: int = -1
    data: object = None

    @property
    def udp(self) -> bool:
        return self.kind in ("udp4", "udp6")

    @property
    def v6only(self) -> bool:
        return bool(self.flags & IPV6_ONLY)


def internal(message: object) -> bool:
    """Whether node keeps `message` from the program; such are never the user's."""
    return (
        isinstance(message, dict)
        and isinstance(cmd := message.get("cmd"), str)
        and cmd.startswith("NODE_")
        and len(cmd) > len("NODE_")
    )


def query(message: dict[str, object]) -> Query | None:
    """What a queryServer or listening message is about; None when it is not as node makes it."""
    address, kind = message.get("address") or "", message.get("addressType")
    numbers = message.get("seq"), message.get("port") or 0, message.get("flags") or 0, message.get("fd", -1)
    seq, port, flags, fd = (each if isinstance(each, int) else None for each in numbers)
    if seq is None or port is None or flags is None or not isinstance(address, str):
        return None
    if not isinstance(kind, int | str | None) or not -1 <= port <= 65535:
        return None
    return Query(seq, address, port, kind, flags, -1 if fd is None else fd, message.get("data"))


def urls(it: Query) -> tuple[str, ...]:
    """The listener that is meant, and what to try when the machine cannot have it; empty when none can be shared.

    Without an address node listens on all of them: `::` if there is IPv6, else 0.0.0.0 (net.js: createServerHandle).
    """
    if it.fd != -1 or not it.address.isprintable():
        return ()
    if it.port == -1:
        return (f"unix://{it.address}",) if it.address.startswith("/") else ()
    if it.kind not in (4, 6) or "%" in it.address:
        return ()
    if not it.address:
        return f"tcp://[::]:{it.port}", f"tcp://0.0.0.0:{it.port}"
    return (f"tcp://[{it.address}]:{it.port}" if ":" in it.address else f"tcp://{it.address}:{it.port}",)
