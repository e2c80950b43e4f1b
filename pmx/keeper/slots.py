"""The listeners of shared ports: made here, given to programs, kept while the application lives.

An application is a *group*. Each address that it binds is a `Port`: one SO_REUSEPORT group of the kernel, with one
listening socket, a `Slot`, for each worker. Who replaces a worker gets the same slot, so what waits in its queue is
served; and since no slot is closed while others are in use, the numbers that the steering program returns hold.

The kernel numbers the sockets of a group in the order of their listen(2). When one leaves (it is closed, or a program
shut it down), the last takes its place.
"""

import errno
import os
import select
import socket
import stat
from collections.abc import Callable

from pmx.keeper import steering
from pmx.keeper.poller import Poller
from pmx.keeper.protocol import Listening
from pmx.keeper.tracee import Address, address_of

BACKLOG = 511
"""At least so many connections may wait. A full queue drops what comes (the client tries again after a second)."""

_CLOSED, _LISTENING = 7, 10  # TCP_CLOSE and TCP_LISTEN: the first byte of struct tcp_info
_WATCHED = select.EPOLLET | select.EPOLLOUT
"""Edges of these tell that it was connected or shut down; a listener never has them, so a connection wakes nobody."""

Name = tuple[str, int]
"""Key and number of a run."""


class Slot:
    """One socket of a port. `users` are the runs that listen on it now: one, or all of them with balance
    shared; false for one that it was declared for, and that has not called listen(2) itself. `holders` have bound it,
    and may be about to listen."""

    __slots__ = ("address", "backlog", "group", "holders", "inode", "listening", "number", "sock", "users")

    def __init__(self, group: str, number: int, address: "Address | str", sock: socket.socket) -> None:
        self.group = group
        self.number = number
        self.address = address
        self.sock = sock
        self.inode = os.fstat(sock.fileno()).st_ino
        self.listening = False
        self.backlog = BACKLOG
        self.users: dict[Name, bool] = {}
        self.holders: set[Name] = set()

    @property
    def url(self) -> str:
        return self.address if isinstance(self.address, str) else self.address.url()


class Port:
    """The sockets of one address. `order` is the kernel's numbering."""

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}
        self.order: list[Slot] = []
        self.steered: object = None

    def left(self, slot: Slot) -> None:
        """A socket is no longer in the group: the last one moves into the hole."""
        if slot in self.order:
            last = self.order.pop()
            if last is not slot:
                self.order[self.order.index(slot)] = last
            self.steered = None


class Group:
    """The ports of one application, and how connections are to be spread."""

    def __init__(self) -> None:
        self.ports: dict[Address | str, Port] = {}
        self.balance = "random"
        self.weights: dict[int, int] = {}


def place_of(url: str) -> "Address | str":
    """Where ``tcp://host:port`` listens; of ``unix:///path`` the URL itself. Raises OSError (EINVAL)."""
    return url if url.startswith("unix:") else address_of(url)


def path_of(url: str) -> str:
    """The file of ``unix:///path``."""
    return url.removeprefix("unix://")


class Slots:
    """All groups. `log` gets what only a reader of the keeper's log can make use of."""

    def __init__(self, poller: Poller, log: Callable[[str], None]) -> None:
        self.groups: dict[str, Group] = {}
        self.by_inode: dict[int, Slot] = {}
        self._poller = poller
        self._log = log

    def bind(self, group: str, number: int, address: "Address | str") -> Slot:
        """The slot's socket for `address`, bound. Raises OSError as bind(2) does, EADDRINUSE for somebody else's port.

        The first of a group is bound without SO_REUSEPORT, so that nobody joins a stranger's port unnoticed.
        """
        port = self.groups.setdefault(group, Group()).ports.setdefault(address, Port())
        number = 0 if isinstance(address, str) else number
        if number not in port.slots:
            try:
                sock = _unix(address) if isinstance(address, str) else _bound(address, first=not port.slots)
            except OSError:
                self._forget_empty(group)
                raise
            slot = port.slots[number] = Slot(group, number, address, sock)
            self.by_inode[slot.inode] = slot
            if not isinstance(address, str):
                self._poller.add(sock.fileno(), lambda: self._edge(slot), _WATCHED)
        return port.slots[number]

    def find(self, group: str, number: int, address: Address) -> Slot | None:
        port = self.groups.get(group, Group()).ports.get(address)
        return port.slots.get(number) if port is not None else None

    def listen(self, slot: Slot, backlog: int, user: Name | None, itself: bool = True) -> None:
        """Listen on the slot's socket for `user`, who asked by itself or not. Raises OSError (EADDRINUSE)."""
        if not slot.listening or backlog > slot.backlog:
            slot.sock.listen(max(backlog, slot.backlog))
            slot.backlog = max(backlog, slot.backlog)
        if not slot.listening:
            slot.listening = True
            self._port(slot).order.append(slot)
        if user is not None:
            slot.users[user] = itself
        self.steer(slot.group)

    def leave(self, user: Name) -> None:
        """The run has ended: nothing new goes to its slots; what waits there is for who replaces it."""
        for slot in list(self.by_inode.values()):
            slot.holders.discard(user)
            if user in slot.users:
                del slot.users[user]
                self.steer(slot.group)

    def drop_unused(self, group: str, number: int) -> None:
        """Close what a run of this slot bound and never listened on."""
        for port in list(self.groups.get(group, Group()).ports.values()):
            slot = port.slots.get(number)
            if slot is not None and not slot.listening and not slot.holders:
                self._close(slot)

    def set_steering(self, group: str, balance: str, weights: dict[int, int]) -> None:
        self.groups.setdefault(group, Group())
        self.groups[group].balance, self.groups[group].weights = balance, weights
        self.steer(group)

    def steer(self, group: str, but: tuple[Slot, ...] = ()) -> None:
        """Have the kernel spread new connections over the slots that are served, but for some.

        With none it stays as it was: what comes then waits in a queue for who comes back.
        """
        it = self.groups[group]
        for port in it.ports.values():
            weights = [(index, it.weights.get(slot.number, 1)) for index, slot in enumerate(port.order)]
            closed = [
                index
                for index, weight in weights
                if weight == 0 or not port.order[index].users or port.order[index] in but
            ]
            wanted = (it.balance, tuple((index, max(1, weight)) for index, weight in weights), tuple(closed))
            if len(weights) < 2 or len(closed) == len(weights) or wanted == port.steered:
                continue
            try:
                steering.attach(port.order[0].sock.fileno(), steering.program(*wanted))
                port.steered = wanted
            except OSError as error:
                self._log(f"cannot steer {port.order[0].url}: {error.strerror}; the kernel spreads by its own hash")

    def release(self, group: str, number: int = -1) -> None:
        """Close one slot of `group`, or all: nobody will serve it. Clients that wait in its queue are refused."""
        for port in list(self.groups.get(group, Group()).ports.values()):
            for slot in [each for each in port.slots.values() if number in (-1, each.number)]:
                if number == -1 or not (slot.users or slot.holders):
                    self._close(slot)
        if group in self.groups:
            self.steer(group)
            self._forget_empty(group)
        if number == -1:
            self.groups.pop(group, None)

    def facts(self) -> list[Listening]:
        """Every listener, once for each run that serves it, and once with no key when nobody does."""
        return [
            Listening(*user, slot.group, slot.number, slot.url, slot.inode, itself)
            for slot in self.by_inode.values()
            if slot.listening
            for user, itself in (slot.users or {("", 0): False}).items()
        ]

    def close(self) -> None:
        for group in list(self.groups):
            self.release(group)

    def _port(self, slot: Slot) -> Port:
        return self.groups[slot.group].ports[slot.address]

    def _close(self, slot: Slot) -> None:
        port = self._port(slot)
        if slot in port.order:
            self.steer(slot.group, (slot, port.order[-1]))  # the last will take its number, for a moment both are out
        if not isinstance(slot.address, str):
            self._poller.remove(slot.sock.fileno())
        elif os.path.exists(path_of(slot.address)):
            os.unlink(path_of(slot.address))
        slot.sock.close()
        del self.by_inode[slot.inode], port.slots[slot.number]
        port.left(slot)

    def _forget_empty(self, group: str) -> None:
        """Ports without a socket. How the group is steered stays, since that is told only once."""
        it = self.groups[group]
        for address in [address for address, port in it.ports.items() if not port.slots]:
            del it.ports[address]

    def _edge(self, slot: Slot) -> None:
        """Something happened to the socket of a slot that no connection causes."""
        state = slot.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state == _CLOSED and slot.listening:
            # A program shut the listener down (twisted, webrick), for everybody who will use it: open it again.
            self._port(slot).left(slot)
            slot.listening = False
            self.listen(slot, BACKLOG, None)
        elif state not in (_CLOSED, _LISTENING):
            # Bound to connect with, not to listen: it is the program's own, and must end when the program closes it.
            self._close(slot)
            self._forget_empty(slot.group)


def _bound(address: Address, first: bool) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.v6only)
        if not first:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        host = socket.inet_ntop(address.family, address.host)
        v6 = address.family == socket.AF_INET6
        sock.bind((host, address.port, 0, address.scope) if v6 else (host, address.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _unix(url: str) -> socket.socket:
    """A listener at the path of `url`. One that nobody listens on any more is replaced."""
    path = path_of(url)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _answers(path):
                raise
            os.unlink(path)
            sock.bind(path)
        os.chmod(path, 0o660)
    except OSError:
        sock.close()
        raise
    return sock


def _answers(path: str) -> bool:
    """Whether somebody listens at `path`, or it is no socket at all, and therefore not to be removed."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return True  # connect(2) would be refused by a file, too
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
