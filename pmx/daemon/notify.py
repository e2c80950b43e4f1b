"""What a program says by sd_notify(3), on the socket that the keeper holds as ``notify:KEY``."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from pmx.core import sdnotify

_LONGEST = 65536
"""Bytes. systemd takes 4096; a longer datagram is ignored."""
_TURNS = 16
"""Datagrams per wake-up, so that one flood cannot starve the loop."""
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class Notification(NamedTuple):
    """One datagram: who sent it, as the kernel says, and its assignments: READY, STATUS, MAINPID, WATCHDOG, …

    Anybody on this machine may send to an abstract socket: see `uid` and `pid` before believing.
    """

    pid: int
    uid: int
    fields: dict[str, str]


class Notify:
    """Reads one socket. A datagram stays in it until it was heard, so a daemon that dies meanwhile loses none.

    Its descriptors are never taken; they are closed with it, which is what BARRIER=1 waits for.
    """

    def __init__(self, fd: int, heard: Callable[[Notification], None]) -> None:
        """Takes over `fd`, a datagram socket with SO_PASSCRED."""
        self._sock = socket.socket(fileno=fd)
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _read(self) -> None:
        for _ in range(_TURNS):
            if self._sock.fileno() < 0 or not self._turn():
                return

    def _turn(self) -> bool:
        """Hear one datagram; false when there is none."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size)  # none for descriptors: the kernel makes none then
        # The descriptor's flags are the keeper's, too (O_NONBLOCK is per open file description): say it each time.
        try:
            data, said, flags, _ = self._sock.recvmsg(_LONGEST, room, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        try:
            self._tell(data, said, flags)
        finally:
            if self._sock.fileno() >= 0:  # who heard it may have closed us
                self._sock.recv(1, socket.MSG_DONTWAIT)  # all of it, with its descriptors
        return True

    def _tell(self, data: bytes, said: list[tuple[int, int, bytes]], flags: int) -> None:
        pid, uid = _sender(said)
        fields = sdnotify.parse(data)
        if pid > 0 and fields and not flags & socket.MSG_TRUNC:
            self._heard(Notification(pid, uid, fields))


def _sender(said: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Process and user that sent a datagram; pid 0 when the kernel does not say."""
    for level, kind, data in said:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) == _CREDENTIALS.size:
            pid, uid, _ = _CREDENTIALS.unpack(data)
            return pid, uid
    return 0, 0
