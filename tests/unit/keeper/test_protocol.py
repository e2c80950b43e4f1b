import array
import json
import os
import re
import socket
import struct
from typing import get_args

import pytest

from pmx.keeper import protocol as p
from tests.unit.support import await_readable

pytestmark = pytest.mark.usefixtures("nothing_left")

EVERY: tuple[p.Message, ...] = (
    p.Spawn("0", 1, ["/bin/true", "-x"], {"A": "b", "Ä": "\udcff"}, "/", "log:0:out", ""),
    p.Spawn("1", 2, ["x"], {}, "/", "", "", 0o22, 1, 2, [3], [("nofile", 1, 2)], "A=b", False),
    p.Spawn("2", 3, ["x"], {}, "/", "", "", group="web", slot=1, sockets=[("http", "tcp://[::]:80")], trap=True),
    p.Signal("0", 1, 15, "group"),
    p.Acknowledge("0", 1),
    p.Open("log:0:out"),
    p.Drop("log:0:out"),
    p.Steer("web", "random", [(0, 1), (1, 3)]),
    p.Release("web"),
    p.Listen("0", 1, "tcp://0.0.0.0:80"),
    p.Ready(),
    p.Quit(),
    p.Hello(1, 10, [("0", 1, 11)], [("1", 2)], ["log:0:out"]),
    p.Spawned("0", 1, 11),
    p.Failed("0", 1, 2, "cannot run x: no such file (ENOENT)"),
    p.Exited("0", 1, 11, -1, 9, True),
    p.Gone("0", 1),
    p.Listening("0", 1, "web", 0, "tcp://0.0.0.0:80", 12345, False),
    p.Unshared("0", 1, "another manager answers for its ports (EBUSY)"),
    p.Released("web", -1),
    p.Refused("0", 1, "tcp://0.0.0.0:80", 98),
    p.Descriptor("log:0:out"),
    p.Stopping("SIGTERM"),
)


def plain(message: p.Message) -> object:
    """As JSON has it: tuples in lists come back as lists."""
    return type(message).__name__, json.loads(json.dumps(message._asdict()))


def frame(body: bytes, fds: int = 0) -> bytes:
    return struct.pack("!IB", len(body), fds) + body


def test_the_samples_cover_every_message() -> None:
    assert {type(message) for message in EVERY} == set(get_args(p.Message))


@pytest.mark.parametrize("message", EVERY, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_journey(message: p.Message) -> None:
    ((received, fds),) = p.Decoder().feed(p.encode(message), [])
    assert plain(received) == plain(message)
    assert fds == []


def test_the_text_at_the_top_names_every_message() -> None:
    assert p.__doc__ is not None
    words = set(re.findall(r"\w+", p.__doc__))
    assert {cls.__name__.lower() for cls in get_args(p.Message)} <= words


def test_bytes_may_come_one_at_a_time() -> None:
    decoder, received = p.Decoder(), []
    for byte in b"".join(map(p.encode, EVERY)):
        received += decoder.feed(bytes((byte,)), [])
    assert [plain(message) for message, _ in received] == [plain(message) for message in EVERY]


def test_messages_may_come_all_at_once() -> None:
    received = p.Decoder().feed(b"".join(map(p.encode, EVERY)), [])
    assert [type(message) for message, _ in received] == [type(message) for message in EVERY]


def send(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    """With the descriptors on the first byte, and the rest in small pieces."""
    sock.sendmsg([data[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    for start in range(1, len(data), 20):
        sock.send(data[start : start + 20])


def receive(sock: socket.socket, decoder: p.Decoder) -> list[tuple[p.Message, list[int]]]:
    await_readable(sock.fileno())
    data, fds, _, _ = socket.recv_fds(sock, 7, p.MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    return decoder.feed(data, fds)


def test_descriptors_arrive_with_their_own_frame() -> None:
    ours, theirs = socket.socketpair()
    pipes = [os.pipe() for _ in range(3)]
    decoder = p.Decoder()
    received: list[tuple[p.Message, list[int]]] = []
    with ours, theirs:
        for number, (_, write_end) in enumerate(pipes):
            send(ours, p.encode(p.Gone("in between", number)), [])
            send(ours, p.encode(p.Descriptor(f"pipe {number}"), 1), [write_end])
        send(ours, p.encode(p.Descriptor("two"), 2), [pipes[0][1], pipes[1][1]])
        while len(received) < 7:
            received += receive(theirs, decoder)
    with_fds = {message.name: fds for message, fds in received if isinstance(message, p.Descriptor)}
    assert [len(fds) for fds in with_fds.values()] == [1, 1, 1, 2]
    for number, (read_end, write_end) in enumerate(pipes):
        os.write(with_fds[f"pipe {number}"][0], b"hello")
        assert os.read(read_end, 10) == b"hello"
        os.close(read_end)
        os.close(write_end)
    assert decoder.pending_fds() == []
    for fds in with_fds.values():
        for fd in fds:
            os.close(fd)


def test_a_frame_that_claims_more_descriptors_than_came_is_refused() -> None:
    with pytest.raises(p.ProtocolError, match="claims"):
        p.Decoder().feed(p.encode(p.Descriptor("x"), 1), [])


def test_a_descriptor_whose_frame_never_came_can_be_closed() -> None:
    decoder, fd = p.Decoder(), os.open("/dev/null", os.O_RDONLY)
    assert decoder.feed(p.encode(p.Descriptor("x"), 1)[:-1], [fd]) == []
    assert decoder.pending_fds() == [fd]
    assert decoder.pending_fds() == []
    os.close(fd)


def test_descriptors_of_an_unknown_kind_are_closed() -> None:
    decoder, fd = p.Decoder(), os.open("/dev/null", os.O_RDONLY)
    ready = p.encode(p.Ready())
    assert decoder.feed(frame(b'{"kind":"hologram"}', 1) + ready, [fd]) == [(p.Ready(), [])]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_descriptors_decoded_before_an_error_are_not_lost() -> None:
    decoder, fd = p.Decoder(), os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(p.ProtocolError):
        decoder.feed(p.encode(p.Descriptor("x"), 1) + frame(b"?"), [fd])
    assert decoder.pending_fds() == [fd]
    os.close(fd)


def test_a_message_too_long_to_be_sent_is_refused() -> None:
    with pytest.raises(p.ProtocolError, match="too long"):
        p.encode(p.Open("x" * p.MAX_BODY))


def test_a_frame_too_long_is_refused_by_its_head() -> None:
    with pytest.raises(p.ProtocolError, match="claims"):
        p.Decoder().feed(struct.pack("!IB", p.MAX_BODY + 1, 0), [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"spawn"',
        b"7",
        b"{}",
        b"{",
        b"\xff\xfe",
        b'{"kind":"spawned"}',
        b'{"kind":[]}',
        b'{"kind":{"a":1}}',
        b"[" * 100_000,
        b'{"kind":"gone","key":"0","run":' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_message_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(p.ProtocolError, match="no message"):
        p.Decoder().feed(frame(body), [])


def test_an_unknown_kind_is_skipped() -> None:
    data = frame(b'{"kind":"hologram","x":1}') + p.encode(p.Ready()) + frame(b'{"kind":null}')
    assert p.Decoder().feed(data, []) == [(p.Ready(), [])]


def test_unknown_keys_are_ignored_and_missing_ones_have_their_default() -> None:
    body = {"kind": "spawn", "key": "0", "run": 1, "argv": ["x"], "env": {}, "cwd": "/", "stdout": "", "stderr": ""}
    ((message, _),) = p.Decoder().feed(frame(json.dumps({**body, "since_version": 9}).encode()), [])
    assert message == p.Spawn("0", 1, ["x"], {}, "/", "", "")
