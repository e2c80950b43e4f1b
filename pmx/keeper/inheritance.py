"""What a program is given at birth beside its command: output, declared sockets, channels. Made before the fork."""

import os
import socket
from typing import NamedTuple

from pmx.keeper.fdstore import FdStore
from pmx.keeper.protocol import Spawn
from pmx.keeper.slots import BACKLOG, Slots, path_of, place_of


class Inheritance(NamedTuple):
    """`stdout` and `stderr` are -1 for /dev/null; `passed` become descriptors 3 and up; `env` is added."""

    stdout: int
    stderr: int
    passed: list[int]
    env: dict[str, str]
    lent: list[socket.socket]  # closed when the program has them


def prepare(order: Spawn, store: FdStore, slots: Slots) -> Inheritance:
    """Open what `order` asks for. Raises OSError, whose text says what could not be had."""
    stdout, stderr = (store.get(name) if name else -1 for name in (order.stdout, order.stderr))
    it = Inheritance(stdout, stderr, [], {}, [])
    if order.sockets:
        it.passed.extend(_declared(order, slots))
        it.env["LISTEN_FDS"] = str(len(order.sockets))
        it.env["LISTEN_FDNAMES"] = ":".join(name for name, _ in order.sockets)
    if order.channel:
        ours, theirs = socket.socketpair()
        store.keep(f"ipc:{order.key}:{order.run}", ours.detach())
        it.lent.append(theirs)
        it.env["NODE_CHANNEL_FD"] = str(3 + len(it.passed))
        it.env["NODE_CHANNEL_SERIALIZATION_MODE"] = "json"
        it.passed.append(theirs.fileno())
    if order.notify:
        it.env["NOTIFY_SOCKET"] = _notify_socket(f"notify:{order.key}", store)
    return it


def _declared(order: Spawn, slots: Slots) -> list[int]:
    fds = []
    for _, url in order.sockets or ():
        try:
            slot = slots.bind(order.group, order.slot, place_of(url))
            if isinstance(slot.address, str) and not slot.listening and order.uid >= 0:
                os.chown(path_of(slot.address), order.uid, order.gid)
            slots.listen(slot, BACKLOG, (order.key, order.run), itself=False)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {url}: {error.strerror or error}") from None
        fds.append(slot.sock.fileno())
    return fds


def _notify_socket(name: str, store: FdStore) -> str:
    """The address of the socket that hears sd_notify(3): abstract, so that any user reaches it, and of the kernel's
    choice (unix(7), autobind), so that nobody can have taken it. It tells who sends (SO_PASSCRED)."""
    if name not in store:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        made.bind("")
        store.keep(name, made.detach())
    with socket.socket(fileno=os.dup(store.get(name))) as ours:
        address: bytes = ours.getsockname()  # abstract: a NUL byte and five digits
    return "@" + address[1:].decode("ascii")
