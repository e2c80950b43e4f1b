"""Which connections there are and who holds them, by sock_diag(7): what waits at a listener, and what a worker has.

Each question is one dump, in which the kernel walks over all its TCP sockets: 0.4 ms when there are none of ours (a
table of 262,144 buckets), and 3 ms for each 1,000 found. Telling whose they are adds a readlink(2) of each open
descriptor of the worker, 5 µs. So `held` takes 1 ms with 20 connections, 3 ms with 200, 15 to 20 ms with 2,000,
in which nothing else happens: whoever asks often lets the cost decide how often (core.balance.Pace).
"""

import errno
import logging
import os
import socket
import struct
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple, TypeVar

log = logging.getLogger("pmx.sockets")

Worker = TypeVar("Worker", bound=Hashable)

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
# The old name of the request: its dump is of both families at once, in half the time of two of SOCK_DIAG_BY_FAMILY.
_GETSOCK = 18  # TCPDIAG_GETSOCK
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_ESTABLISHED, _CLOSE_WAIT, _LISTEN = 1 << 1, 1 << 8, 1 << 10

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ASK = struct.Struct("=4x2s46xII")  # struct inet_diag_req: of the id only the local port; states
_ANSWER = struct.Struct("=4x2s46x4xII4xI")  # struct inet_diag_msg: local port, both queues, inode


class Queue(NamedTuple):
    """Connections that wait to be accepted, and how many may."""

    waiting: int
    backlog: int


_Answer = tuple[bytes, int, int, int]
"""Local port, in network order; bytes in the queue to read and in that to send, or connections; inode."""


def listeners(ports: Collection[int]) -> dict[int, Queue]:
    """The listening TCP sockets on `ports`, of both families, by inode. Empty when the kernel does not tell."""
    wanted = {_network_order(port) for port in ports}
    return {inode: Queue(waiting, backlog) for port, waiting, backlog, inode in _ask(_LISTEN) if port in wanted}


def established(port: int) -> set[int]:
    """The inodes of open connections to `port`, also half closed by the client. Not those still to be accepted.

    Empty when the kernel does not tell.
    """
    return {inode for *_, inode in _ask(_ESTABLISHED | _CLOSE_WAIT, port) if inode}


def connections(ports: Collection[int], pids: Mapping[Worker, Iterable[int]]) -> dict[Worker, int]:
    """How many connections to `ports` each worker has, whose processes are all of `pids`. Shared ones count once."""
    return {worker: len(its) for worker, its in held(ports, pids).items()}


def held(ports: Collection[int], pids: Mapping[Worker, Iterable[int]]) -> dict[Worker, set[int]]:
    """The inodes of the connections to `ports` that each worker has: what is new, the caller sees by comparing.

    A process that is gone, or not ours to look at, has none.
    """
    inodes = {f"socket:[{inode}]": inode for port in set(ports) for inode in established(port)}
    if not inodes:
        return {worker: set() for worker in pids}
    return {
        worker: {inodes[link] for pid in its for link in inodes.keys() & _links(pid)} for worker, its in pids.items()
    }


def _links(pid: int) -> set[str]:
    """What the descriptors of `pid` are links to."""
    found: set[str] = set()
    try:
        folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        for name in os.listdir(folder):
            try:
                found.add(os.readlink(name, dir_fd=folder))
            except OSError:
                pass  # closed meanwhile
    except OSError:
        pass  # the process ended
    finally:
        os.close(folder)
    return found


def _ask(states: int, port: int = 0) -> list[_Answer]:
    """The TCP sockets in `states`, with the local `port` if it is not 0. Empty after an error, which is logged once."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as netlink:
            body = _ASK.pack(_network_order(port), states, 0)
            netlink.send(_HEADER.pack(_HEADER.size + len(body), _GETSOCK, _REQUEST_DUMP, 1, 0) + body)
            return list(_answers(netlink))
    except OSError as error:
        _complain(errno.errorcode.get(error.errno or 0, str(error)))
        return []


def _answers(netlink: socket.socket) -> Iterator[_Answer]:
    while True:
        data = netlink.recv(1 << 16)
        at = 0
        while at < len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            body = at + _HEADER.size
            if kind == _DONE:
                return
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", data, body)
                raise OSError(-number, os.strerror(-number))
            yield _ANSWER.unpack_from(data, body)
            at += length + 3 & ~3


def _network_order(port: int) -> bytes:
    return port.to_bytes(2, "big")


@cache
def _complain(why: str) -> None:
    """Once for each reason: the question is asked many times a second."""
    log.warning("cannot see the TCP sockets of this machine: %s; connections and queues are shown as none", why)
