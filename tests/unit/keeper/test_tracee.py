"""What /proc tells, asked about ourselves."""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pmx.keeper import tracee
from pmx.keeper.tracee import Address, address_of, parse

pytestmark = pytest.mark.usefixtures("nothing_left")
ME = os.getpid()


@pytest.mark.parametrize(
    ("family", "kind", "expected"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, socket.AF_INET),
        (socket.AF_INET6, socket.SOCK_STREAM, socket.AF_INET6),
        (socket.AF_INET, socket.SOCK_DGRAM, None),
        (socket.AF_INET6, socket.SOCK_DGRAM, None),
        (socket.AF_UNIX, socket.SOCK_STREAM, None),
    ],
)
def test_only_a_tcp_socket_is_a_stream(family: int, kind: int, expected: int | None) -> None:
    with socket.socket(family, kind) as sock:
        assert tracee.stream_family(ME, sock.fileno()) == expected


def test_what_is_no_socket_is_no_stream() -> None:
    assert tracee.stream_family(ME, 0) is None
    assert tracee.stream_family(ME, 1_000_000) is None
    assert tracee.stream_family(2**22 + 1, 0) is None


@pytest.mark.parametrize("protocol", ["MPTCP"])
def test_a_socket_of_many_paths_is_a_stream(protocol: str) -> None:
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)  # IPPROTO_MPTCP
    except OSError:
        pytest.skip("no MPTCP here")
    with sock:
        assert tracee.stream_family(ME, sock.fileno()) == socket.AF_INET6


def test_the_flags_of_a_descriptor() -> None:
    with socket.socket() as sock:
        for blocking in (True, False):
            for inheritable in (True, False):
                sock.setblocking(blocking)
                sock.set_inheritable(inheritable)
                flags = tracee.flags(ME, sock.fileno())
                assert bool(flags & os.O_NONBLOCK) is not blocking
                assert bool(flags & os.O_CLOEXEC) is not inheritable


def test_a_socket_is_known_by_its_inode_whoever_holds_it() -> None:
    with socket.socket() as sock:
        inode = tracee.socket_inode(ME, sock.fileno())
        assert inode == os.fstat(sock.fileno()).st_ino
        assert tracee.holds(ME, inode)
        copy = os.dup(sock.fileno())
    assert tracee.holds(ME, inode)
    os.close(copy)
    assert not tracee.holds(ME, inode)
    assert not tracee.holds(2**22 + 1, inode)


def test_memory_is_read_and_what_is_none_is_an_error() -> None:
    buffer = ctypes.create_string_buffer(b"in memory")
    assert tracee.memory(ME, ctypes.addressof(buffer), 9) == b"in memory"
    for address in (0, 1 << 46, 1 << 63, (1 << 64) - 1):
        with pytest.raises(OSError, match=r"address|error") as caught:
            tracee.memory(ME, address, 16)
        assert caught.value.errno in (errno.EIO, errno.EFAULT)


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_an_address_or_none(data: bytes, v6only: bool) -> None:
    address = parse(data, v6only)
    if address is not None:
        assert address.url().startswith("tcp://")
        assert address.port == int.from_bytes(data[2:4], "big")


@given(st.ip_addresses().filter(lambda it: it.version == 4 or it.scope_id is None), st.integers(0, 65535))
def test_an_address_has_a_url_and_the_other_way_round(ip: object, port: int) -> None:
    host = f"[{ip}]" if ":" in str(ip) else str(ip)
    address = address_of(f"tcp://{host}:{port}")
    assert (address.port, socket.inet_pton(address.family, str(ip))) == (port, address.host)
    assert address_of(address.url()) == address


def test_an_address_is_what_bind_gets() -> None:
    v4 = b"\x02\x00" + (80).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    assert parse(v4, True) == Address(socket.AF_INET, bytes([127, 0, 0, 1]), 80)
    host = bytes(15) + b"\1"
    v6 = b"\x0a\x00" + (80).to_bytes(2, "big") + bytes(4) + host + (3).to_bytes(4, sys.byteorder)
    assert parse(v6, True) == Address(socket.AF_INET6, host, 80, 3, True)
    assert parse(v6, False) == Address(socket.AF_INET6, host, 80, 3, False)
    assert parse(v6[:24], False) == Address(socket.AF_INET6, host, 80)  # RFC 2133 had no scope
    assert parse(v6[:23], False) is None
    assert parse(v4[:15], False) is None
    assert parse(b"\x01\x00/run/socket\0\0\0\0\0", False) is None


@pytest.mark.parametrize("url", ["tcp://localhost:80", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "tcp://:80", ""])
def test_what_is_no_numeric_address_is_an_error(url: str) -> None:
    with pytest.raises(OSError, match="numeric") as caught:
        address_of(url)
    assert caught.value.errno == errno.EINVAL


def test_low_ports_want_privilege() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    assert not tracee.wants_privilege(first)
    assert tracee.wants_privilege(first - 1)
    assert tracee.may_bind(ME, first)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has it")
def test_the_capability_is_what_counts() -> None:
    assert tracee.may_bind(ME, 80)
    for user, expected in ((None, True), (65534, False)):
        with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=user) as other:
            assert tracee.may_bind_low_ports(other.pid) is expected
            assert tracee.may_bind(other.pid, 80) is expected
            assert tracee.may_bind(other.pid, 8080)
            assert tracee.in_our_network(other.pid)


def test_who_is_gone_may_nothing() -> None:
    assert not tracee.may_bind_low_ports(2**22 + 1)


def test_the_default_of_ipv6_is_that_of_the_kernel() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        default = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert tracee.v6only_by_default() is bool(default)
