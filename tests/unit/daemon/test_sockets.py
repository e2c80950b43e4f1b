import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pmx.daemon.sockets import Queue, connections, established, held, listeners
from tests.unit.support import ROOT, await_readable

pytestmark = pytest.mark.usefixtures("nothing_left")

FAMILIES = [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "::1")]
DUAL = (socket.AF_INET6, "::", "127.0.0.1")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listener(opened: ExitStack, family: int = socket.AF_INET, host: str = "127.0.0.1") -> tuple[socket.socket, int]:
    made = opened.enter_context(socket.socket(family))
    if host == "::":
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((host, 0))
    made.listen(77)
    return made, made.getsockname()[1]


def connect(opened: ExitStack, port: int, host: str = "127.0.0.1") -> socket.socket:
    return opened.enter_context(socket.create_connection((host, port)))


def accept(opened: ExitStack, listening: socket.socket) -> socket.socket:
    await_readable(listening.fileno())
    return opened.enter_context(listening.accept()[0])


def inode(held: socket.socket) -> int:
    return os.fstat(held.fileno()).st_ino


@pytest.mark.parametrize(("family", "host", "target"), [*FAMILIES, DUAL])
def test_a_listener_tells_how_many_wait_of_how_many(family: int, host: str, target: str, opened: ExitStack) -> None:
    made, port = listener(opened, family, host)
    assert listeners([port]) == {inode(made): Queue(0, 77)}
    for _ in range(3):
        connect(opened, port, target)
    assert listeners([port]) == {inode(made): Queue(3, 77)}
    accept(opened, made)
    assert listeners({port}) == {inode(made): Queue(2, 77)}


def test_only_listeners_of_the_ports_asked_for_and_all_of_a_group(opened: ExitStack) -> None:
    group = []
    port = 0
    for _ in range(3):
        member = opened.enter_context(socket.socket())
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        member.bind(("127.0.0.1", port))
        member.listen(5)
        port = member.getsockname()[1]
        group.append(inode(member))
    other, second = listener(opened)
    assert set(listeners([port])) == set(group)
    assert set(listeners([port, second])) == {*group, inode(other)}
    assert listeners([]) == {}


@pytest.mark.parametrize(("family", "host", "target"), [*FAMILIES, DUAL])
def test_connections_that_are_accepted_and_open_have_an_inode(
    family: int, host: str, target: str, opened: ExitStack
) -> None:
    made, port = listener(opened, family, host)
    clients = [connect(opened, port, target) for _ in range(3)]
    assert established(port) == set()
    served = [accept(opened, made) for _ in range(2)]
    assert established(port) == set(map(inode, served))
    clients[0].shutdown(socket.SHUT_WR)
    assert served[0].recv(1) == b""
    assert established(port) == set(map(inode, served)), "half closed, and the worker may still answer"
    served[0].close()
    assert established(port) == {inode(served[1])}


def test_the_clients_end_is_not_a_connection_to_the_port(opened: ExitStack) -> None:
    made, port = listener(opened)
    client = connect(opened, port)
    served = accept(opened, made)
    assert established(port) == {inode(served)}
    assert established(client.getsockname()[1]) == {inode(client)}


WORKER = """
import os, socket, sys
listening = socket.socket(fileno=int(sys.argv[1]))
held = [listening.accept()[0] for _ in range(int(sys.argv[2]))]
child = os.fork()
print(os.getpid() if child else "child", flush=True)
sys.stdin.read()
"""


def worker(opened: ExitStack, made: socket.socket, count: int) -> tuple[int, int]:
    """A process that has accepted `count` connections, and its child that has them as well."""
    started = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WORKER, str(made.fileno()), str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[made.fileno()], text=True,
    )  # fmt: skip
    opened.enter_context(started)  # closes its standard input, and waits
    assert started.stdout is not None
    assert {started.stdout.readline(), started.stdout.readline()} == {f"{started.pid}\n", "child\n"}
    with open(f"/proc/{started.pid}/task/{started.pid}/children", encoding="ascii") as file:
        return started.pid, int(file.read())


def test_connections_are_counted_by_worker_over_all_of_its_processes_once(opened: ExitStack) -> None:
    made, port = listener(opened)
    other, second = listener(opened, socket.AF_INET6, "::1")
    for _ in range(5):
        connect(opened, port)
    one = worker(opened, made, 2)
    two = worker(opened, made, 3)
    connect(opened, second, "::1")
    connect(opened, second, "::1")
    three = worker(opened, other, 1)
    pids = {
        "one": one,
        "two": two[:1],
        "child of two": two[1:],
        "three": three,
        "all": [*one, *two],
        "none": [],
        "gone": [2**22 + 1],
    }
    expected = {"one": 2, "two": 3, "child of two": 3, "three": 0, "all": 5, "none": 0, "gone": 0}
    assert connections([port], pids) == expected
    assert connections([port, second], pids) == {**expected, "three": 1}
    assert connections([], pids) == dict.fromkeys(pids, 0)


def test_a_thousand_connections_take_more_than_one_message(opened: ExitStack) -> None:
    made, port = listener(opened)
    made.listen(1000)
    served = set()
    for _ in range(1000):
        connect(opened, port)
        served.add(inode(accept(opened, made)))
    assert established(port) == served
    assert held([port], {7: [os.getpid()], 8: []}) == {7: served, 8: set()}


REFUSED = """
import ctypes, errno, logging, struct, sys
sys.path.insert(0, sys.argv[1])
from pmx.daemon import sockets
logging.basicConfig(format="%(message)s", stream=sys.stdout)
libc = ctypes.CDLL(None, use_errno=True)
code = ctypes.create_string_buffer(bytes.fromhex(sys.argv[2]))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, struct.pack("HP", len(code) // 8, ctypes.addressof(code))) == 0  # PR_SET_SECCOMP, filter
for _ in range(3):
    print(sockets.listeners([80]), sockets.established(80), sockets.connections([80], {"a": [1]}))
"""


def test_without_netlink_there_is_nothing_and_one_line_in_the_log() -> None:
    """As under a container's seccomp profile that refuses socket(AF_NETLINK)."""
    number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
    filtered = [
        (0x20, 0, 0, 0),  # the system call
        (0x15, 0, 3, number),
        (0x20, 0, 0, 16),  # its first argument
        (0x15, 0, 1, socket.AF_NETLINK),
        (0x06, 0, 0, 0x00050000 | 1),  # SECCOMP_RET_ERRNO, EPERM
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
    code = b"".join(struct.pack("=HBBI", *each) for each in filtered).hex()
    done = subprocess.run([sys.executable, "-c", REFUSED, ROOT, code], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    complaint, *results = done.stdout.splitlines()
    assert complaint.startswith("cannot see the TCP sockets of this machine: EPERM")
    assert results == ["{} set() {'a': 0}"] * 3
