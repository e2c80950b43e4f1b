"""What /proc tells of a task that waits in a system call. Thread ids serve.

Only its memory needs the rights of ptrace(2). Yama allows an ancestor to read that (ptrace_scope 1), and the keeper
is one.
"""

import errno
import os
import socket
import struct
from typing import NamedTuple

_CAP_NET_BIND_SERVICE = 10
_STREAMS = {
    b"TCP": socket.AF_INET,
    b"TCPv6": socket.AF_INET6,
    b"MPTCP": socket.AF_INET,
    b"MPTCPv6": socket.AF_INET6,
}


class Address(NamedTuple):
    """Where a listener listens. `host` is packed; `v6only` counts for IPv6 alone."""

    family: int
    host: bytes
    port: int
    scope: int = 0
    v6only: bool = False

    def url(self) -> str:
        """tcp://127.0.0.1:80 or tcp://[::]:80."""
        name = socket.inet_ntop(self.family, self.host)
        return f"tcp://[{name}]:{self.port}" if self.family == socket.AF_INET6 else f"tcp://{name}:{self.port}"


def stream_family(task: int, fd: int) -> int | None:
    """AF_INET or AF_INET6 when descriptor `fd` of `task` is a TCP socket (an xattr tells, since Linux 2.6.37).

    Raises PermissionError when it is not ours to see.
    """
    try:
        name = os.getxattr(f"/proc/{task}/fd/{fd}", "system.sockprotoname")
    except PermissionError:
        raise
    except OSError:
        return None
    return _STREAMS.get(name.rstrip(b"\0"))


def socket_inode(task: int, fd: int) -> int:
    """The number that names the socket behind `fd`, whoever holds it. Raises OSError."""
    return os.stat(f"/proc/{task}/fd/{fd}").st_ino


def holds(task: int, inode: int) -> bool:
    """Whether the process of `task` has a descriptor of the socket `inode`."""
    try:
        names = os.listdir(f"/proc/{task}/fd")
    except OSError:
        return False
    wanted = f"socket:[{inode}]"
    return any(_target(f"/proc/{task}/fd/{name}") == wanted for name in names)


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def flags(task: int, fd: int) -> int:
    """The O_ flags of descriptor `fd`, O_CLOEXEC included (proc(5): fdinfo). Raises OSError."""
    with open(f"/proc/{task}/fdinfo/{fd}", "rb") as file:
        for line in file:
            if line.startswith(b"flags:"):
                return int(line.split()[1], 8)
    return 0


def memory(task: int, address: int, size: int) -> bytes:
    """`size` bytes of the memory of `task`. Raises OSError (EACCES: it is not ours to read)."""
    if address >> 63:
        raise OSError(errno.EFAULT, "no address of a program")
    fd = os.open(f"/proc/{task}/mem", os.O_RDONLY)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)


def parse(data: bytes, v6only: bool) -> Address | None:
    """The address in a sockaddr as bind(2) gets it; None when it is no IP address or too short."""
    if len(data) < 16:
        return None
    (family,) = struct.unpack_from("=H", data)
    (port,) = struct.unpack_from("!H", data, 2)
    if family == socket.AF_INET:
        return Address(family, data[4:8], port)
    if family == socket.AF_INET6 and len(data) >= 24:
        (scope,) = struct.unpack_from("=I", data, 24) if len(data) >= 28 else (0,)
        return Address(family, data[8:24], port, scope, v6only)
    return None


def address_of(url: str) -> Address:
    """The address that ``tcp://host:port`` names; host must be a number. Raises OSError (EINVAL)."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return Address(family, socket.inet_pton(family, host), int(port), v6only=False)
    except (OSError, ValueError):
        raise OSError(errno.EINVAL, "no numeric address and port") from None


def in_our_network(task: int) -> bool:
    """Whether what we bind is bound where `task` would bind it (network_namespaces(7)). Raises OSError."""
    return os.path.samefile(f"/proc/{task}/ns/net", "/proc/self/ns/net")


def may_bind(task: int, port: int) -> bool:
    """Whether `task` may bind `port`. Capabilities count only where they were given: everybody can have them all in
    a user namespace of their own (user_namespaces(7)). Raises OSError."""
    if not wants_privilege(port):
        return True
    return may_bind_low_ports(task) and os.path.samefile(f"/proc/{task}/ns/user", "/proc/self/ns/user")


def may_bind_low_ports(task: int) -> bool:
    """Whether `task` has CAP_NET_BIND_SERVICE (capabilities(7))."""
    try:
        with open(f"/proc/{task}/status", "rb") as file:
            for line in file:
                if line.startswith(b"CapEff:"):
                    return bool(int(line.split()[1], 16) >> _CAP_NET_BIND_SERVICE & 1)
    except (OSError, ValueError):
        pass
    return False


def wants_privilege(port: int) -> bool:
    """Whether only the privileged may bind `port` (ip(7): ip_unprivileged_port_start)."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "rb") as file:
            return port < int(file.read())
    except (OSError, ValueError):
        return port < 1024


def v6only_by_default() -> bool:
    """What a new IPv6 socket has when the program says nothing (ipv6(7): bindv6only)."""
    try:
        with open("/proc/sys/net/ipv6/bindv6only", "rb") as file:
            return file.read().strip() == b"1"
    except OSError:
        return False
