"""Answer the bind(2) and listen(2) of one run: with its slot where the port is to be shared, else as if nobody asked.

Never shared are AF_UNIX and UDP sockets, port 0, an address that the program has already (it gets EADDRINUSE, as it
would alone), what a program outside the run's lifetime binds, and a socket that turns out to be a client's (slots.py).
Whatever cannot be looked at is let pass: then the program has its port for itself, and the daemon is told why.

What a program sets on its socket before bind(2) is lost, since it gets another one; only IPV6_V6ONLY, which changes
what the address means, and SO_REUSEPORT, which permits to bind it twice, are seen and honoured.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from pmx.keeper import protocol as p, seccomp, tracee
from pmx.keeper.seccomp import IPV6_V6ONLY, SO_REUSEPORT, Call
from pmx.keeper.slots import Slot, Slots
from pmx.keeper.tracee import Address

_MOST_OPTIONS = 1000
"""Sockets of one run whose options are remembered."""
_LET_PASS = -1


class Member(NamedTuple):
    """Which slots a run has, and which privileged ports it is granted."""

    key: str
    run: int
    group: str
    slot: int
    ports: tuple[int, ...] = ()


class Trap:
    """The filter of one run, whose calls are told on `fd`."""

    def __init__(self, fd: int, member: Member, slots: Slots, tell: Callable[[p.Message], None]) -> None:
        self.fd = fd
        self._member = member
        self._name = (member.key, member.run)
        self._slots = slots
        self._tell = tell
        self._over = False
        self.unseen = ""  # why calls could not be looked at
        self._options: dict[int, dict[tuple[int, int], bool]] = {}  # by inode of the socket

    def run_over(self) -> None:
        """The main process has ended: what is left of the run gets nothing any more."""
        self._over = True

    def serve(self) -> None:
        """Answer one call. To be called when `fd` is readable."""
        try:
            call = seccomp.receive(self.fd)
        except OSError:
            return  # the task was killed, or a signal took it out of the call: it will ask again
        error = _LET_PASS
        try:
            error = self._handle(call)
        except OSError as problem:
            self._unseen(call, problem)
        finally:
            if error == _LET_PASS:
                seccomp.let_pass(self.fd, call)
            else:
                seccomp.answer(self.fd, call, error)

    def _handle(self, call: Call) -> int:
        """The errno that the call shall return, 0 for success, or _LET_PASS. Raises OSError when it cannot be seen."""
        numbers = seccomp.HERE
        family = None if numbers is None or self._over else tracee.stream_family(call.task, call.descriptor)
        if numbers is None or family is None:
            return _LET_PASS
        if call.number == numbers.bind:
            return self._bind(call, family)
        if call.number == numbers.listen:
            return self._listen(call)
        return self._remember(call)

    def _remember(self, call: Call) -> int:
        inode = tracee.socket_inode(call.task, call.descriptor)
        value = any(tracee.memory(call.task, call.args[3], 4))
        if len(self._options) >= _MOST_OPTIONS:
            self._options.clear()
        self._options.setdefault(inode, {})[call.args[1], call.args[2]] = value
        return _LET_PASS

    def _bind(self, call: Call, family: int) -> int:
        fd = call.descriptor
        inode = tracee.socket_inode(call.task, fd)
        options = self._options.pop(inode, {})
        if inode in self._slots.by_inode:
            return errno.EINVAL  # bound already, as bind(2) says
        v6only = options.get(IPV6_V6ONLY)
        if v6only is None:
            v6only = family == socket.AF_INET6 and tracee.v6only_by_default()
        address = self._address(call, v6only)
        if address is None or address.family != family or not self._may_share(call, address):
            return _LET_PASS
        flags = tracee.flags(call.task, fd)
        if not seccomp.still_there(self.fd, call):
            return _LET_PASS
        if not options.get(SO_REUSEPORT) and self._has_already(call, address):
            return errno.EADDRINUSE
        try:
            slot = self._slots.bind(self._member.group, self._member.slot, address)
        except OSError as error:
            return error.errno or errno.EADDRINUSE
        self._match_blocking(slot, flags)
        seccomp.replace_fd(self.fd, call, slot.sock.fileno(), fd, bool(flags & os.O_CLOEXEC))
        slot.holders.add(self._name)
        if slot.listening and self._name not in slot.users:
            # Its predecessor listened on it. A program that asks whether it listens already (gunicorn) will not do it.
            self._serves(slot, 0, itself=False)
        return 0

    def _address(self, call: Call, v6only: bool) -> Address | None:
        data = tracee.memory(call.task, call.args[1], min(call.args[2] & 0xFFFFFFFF, 28))
        address = tracee.parse(data, v6only)
        return address if address is not None and address.port != 0 else None

    def _may_share(self, call: Call, address: Address) -> bool:
        """Whether we may bind this for the program: it is done in our network and with our rights, which may be greater
        than its own. What the kernel would refuse is let pass, too, for the kernel to refuse."""
        if not tracee.in_our_network(call.task):
            return False
        return address.port in self._member.ports or tracee.may_bind(call.task, address.port)

    def _has_already(self, call: Call, address: Address) -> bool:
        slot = self._slots.find(self._member.group, self._member.slot, address)
        return slot is not None and tracee.holds(call.task, slot.inode)

    def _match_blocking(self, slot: Slot, flags: int) -> None:
        """O_NONBLOCK belongs to the socket, not the descriptor. Who has the slot for itself gets it as it had its own;
        among many it is never cleared, since an event loop would stand still in accept(2)."""
        nonblocking = bool(flags & os.O_NONBLOCK)
        if nonblocking or not (slot.users or slot.holders - {self._name}):
            slot.sock.setblocking(not nonblocking)

    def _listen(self, call: Call) -> int:
        slot = self._slots.by_inode.get(tracee.socket_inode(call.task, call.descriptor))
        if slot is None or not seccomp.still_there(self.fd, call):
            return _LET_PASS
        (backlog,) = struct.unpack("=i", struct.pack("=I", call.args[1] & 0xFFFFFFFF))
        try:
            self._serves(slot, backlog, itself=True)
        except OSError as error:
            return error.errno or errno.EADDRINUSE
        return 0

    def _serves(self, slot: Slot, backlog: int, itself: bool) -> None:
        """Listen for the run, and say so the first time. Raises OSError (EADDRINUSE)."""
        news = slot.users.get(self._name) is not itself
        self._slots.listen(slot, backlog, self._name, itself)
        if news:
            self._tell(p.Listening(*self._name, slot.group, slot.number, slot.url, slot.inode, itself))

    def _unseen(self, call: Call, problem: OSError) -> None:
        """Say once that a call could not be looked at; that the task is gone is nothing to say."""
        if not self.unseen and problem.errno in (errno.EACCES, errno.EPERM):
            self.unseen = f"its process may not be looked into ({errno.errorcode[problem.errno]})"
            self._tell(p.Unshared(*self._name, self.unseen))
