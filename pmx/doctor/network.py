"""What the kernel does with listeners: groups, steering, queues, IPv6, low ports. All on loopback."""

import errno
import os
import select
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

from pmx.doctor.finding import Finding
from pmx.doctor.sharing import queue_length
from pmx.doctor.trial import patience
from pmx.keeper import steering
from pmx.keeper.slots import BACKLOG

GROUP_CHECKS = ("reuseport", "steering")
QUEUE_CHECKS = ("queues", "backlog")
ADDRESS_CHECKS = ("ipv6", "ports")

_CALLS = 36  # that none of them goes to one of three by chance: once in 2 million
_PROFILE = "allow {} in the seccomp profile of the container"


def groups() -> Iterator[Finding]:
    """Three listeners on one port; then none of them may get what the program says it shall not."""
    with ExitStack() as stack:
        try:
            members = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in members:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                each.bind(("127.0.0.1", members[0].getsockname()[1]))
                each.listen(100)
        except OSError as error:
            why = f"two sockets with SO_REUSEPORT cannot listen on one port ({_name(error)})"
            change = _PROFILE.format("setsockopt(2) with SO_REUSEPORT")
            yield Finding("reuseport", "missing", why, change)
            yield Finding("steering", "missing", why, change)
            return
        yield Finding("reuseport")
        yield _steering(members)


def _steering(members: list[socket.socket]) -> Finding:
    for balance, closed in (("random", 0), ("random", 1), ("random", 2), ("ip", 1)):
        try:
            steering.attach(members[0].fileno(), steering.program(balance, [(0, 1), (1, 1), (2, 1)], (closed,)))
        except OSError as error:
            return Finding(
                "steering",
                "missing",
                f"setsockopt(2) with SO_ATTACH_REUSEPORT_CBPF is refused ({_name(error)}): the kernel spreads new"
                " connections by a hash of its own over all workers, also over one that crashed or is being replaced",
                "use Linux 4.5 or newer, and " + _PROFILE.format("setsockopt(2) with SO_ATTACH_REUSEPORT_CBPF"),
            )
        served = _call(members)
        if served[closed] or (balance == "random" and len(served) < 2):
            return Finding(
                "steering",
                "missing",
                f"the kernel took the program, but {served[closed]} of {_CALLS} connections went to the one closed",
                "report it, with the version of this kernel",
            )
    return Finding("steering")


def _call(members: list[socket.socket]) -> Counter[int]:
    """Connect many times: how many came to each."""
    served: Counter[int] = Counter()
    for _ in range(_CALLS):
        with socket.create_connection(members[0].getsockname(), patience()):
            for fd, _ in _readable(members):
                index = next(i for i, each in enumerate(members) if each.fileno() == fd)
                members[index].accept()[0].close()
                served[index] += 1
    return served


def _readable(members: list[socket.socket]) -> list[tuple[int, int]]:
    poll = select.poll()
    for each in members:
        poll.register(each, select.POLLIN)
    return poll.poll(1000 * patience())


# ── queues ──────────────────────────────────────────────────────────────────────────────────────────────────────


def queues() -> Iterator[Finding]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(BACKLOG)
        for _ in range(2):
            stack.enter_context(socket.create_connection(listener.getsockname(), patience()))
        yield _counted(listener)
        yield _backlog(listener)


def _counted(listener: socket.socket) -> Finding:
    missed = []
    try:
        if queue_length(listener) != 2:
            missed.append("TCP_INFO tells no length of a queue")
    except OSError as error:
        missed.append(f"TCP_INFO is refused ({_name(error)})")
    try:
        if _diagnosed(listener) != 2:
            missed.append("sock_diag(7) tells no length of a queue")
    except OSError as error:
        missed.append(f"sock_diag(7) is refused ({_name(error)})")
    if not missed:
        return Finding("queues")
    return Finding(
        "queues",
        "restricted",
        f"{' and '.join(missed)}: pmx ls shows no connections, and balance least_conn is random",
        _PROFILE.format("getsockopt(2) with TCP_INFO, and socket(2) with AF_NETLINK,"),
    )


def _diagnosed(listener: socket.socket) -> int:
    """The length of the queue of `listener`, or -1 when it is not found (the request of daemon/sockets.py)."""
    get_sock, request_dump, listening, error = 18, 0x301, 1 << 10, 2
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as netlink:  # NETLINK_SOCK_DIAG
        netlink.settimeout(patience())
        port = struct.pack("!H", listener.getsockname()[1])
        body = struct.pack("=4x2s46xII", port, listening, 0)
        netlink.send(struct.pack("=IHHII", 16 + len(body), get_sock, request_dump, 1, 0) + body)
        data = netlink.recv(1 << 16)
    if struct.unpack_from("=H", data, 4) == (error,):
        number = -struct.unpack_from("=i", data, 16)[0]
        raise OSError(number, os.strerror(number))
    inode, at = os.fstat(listener.fileno()).st_ino, 0
    while len(data) >= at + 16 + 72:
        (length,) = struct.unpack_from("=I", data, at)
        if struct.unpack_from("=I", data, at + 16 + 68) == (inode,):
            (waiting,) = struct.unpack_from("=I", data, at + 16 + 56)
            return int(waiting)
        at += length + 3 & ~3
    return -1


def _backlog(listener: socket.socket) -> Finding:
    """What became of the 511 that were asked for: TCP_INFO of a listener has it in tcpi_sacked."""
    try:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    except OSError as error:
        return Finding("backlog", "restricted", f"not known: TCP_INFO is refused ({_name(error)})", "see queues")
    room = int.from_bytes(info[28:32], "little")
    if len(info) < 32 or room >= BACKLOG:
        return Finding("backlog")
    return Finding(
        "backlog",
        "restricted",
        f"only {room} connections wait at a listener; what comes beyond is dropped, and tried again after a second",
        "sysctl -w net.core.somaxconn=4096 (docker run --sysctl net.core.somaxconn=4096)",
    )


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────


def addresses() -> Iterator[Finding]:
    yield _ipv6()
    yield _low_ports()


def _ipv6() -> Finding:
    """On ::1 alone, and on an IPv6 socket that an IPv4 client reaches; a wildcard would let others in."""
    try:
        for host, reached_at in (("::1", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")):
            with socket.socket(socket.AF_INET6) as listener:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host == "::1")
                listener.bind((host, 0))
                listener.listen(5)
                socket.create_connection((reached_at, listener.getsockname()[1]), patience()).close()
    except OSError as error:
        return Finding(
            "ipv6",
            "restricted",
            f"IPv6 is not to be had ({_name(error)}); programs that insist on it cannot listen, IPv4 is shared as ever",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0 (docker run --sysctl net.ipv6.conf.all.disable_ipv6=0)",
        )
    return Finding("ipv6")


def _low_ports() -> Finding:
    """Whether we may is decided before whether the port is free (EADDRINUSE)."""
    for port in (80, 443):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # stand in nobody's way
            try:
                sock.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EPERM):
                    return Finding(
                        "ports",
                        "restricted",
                        f"port {port} is only for root, or who has CAP_NET_BIND_SERVICE ({_name(error)})",
                        "sysctl -w net.ipv4.ip_unprivileged_port_start=80 (docker run --sysctl ...); or"
                        " AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit of pmx; setcap on the program"
                        " helps only with --no-share",
                    )
    return Finding("ports")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "timed out" if isinstance(error, TimeoutError) else str(error))
