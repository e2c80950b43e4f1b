import os
import socket
from collections.abc import Iterator

import pytest

from pmx.keeper import protocol as p
from pmx.keeper.link import Link
from tests.unit.support import await_readable

pytestmark = pytest.mark.usefixtures("nothing_left")

Received = list[tuple[p.Message, list[int]]]


class Pair:
    """A link, and the daemon's end of it."""

    def __init__(self) -> None:
        ours, self.far = socket.socketpair()
        self.link = Link(ours)
        self.decoder = p.Decoder()

    def receive(self) -> Received:
        """What the far end gets at once; empty at the end of the connection."""
        await_readable(self.far.fileno())
        data, fds, _, _ = socket.recv_fds(self.far, 1 << 20, p.MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        return self.decoder.feed(data, fds)

    def close(self) -> None:
        self.link.close()
        self.far.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_both_ways(pair: Pair) -> None:
    pair.link.send(p.Gone("0", 1))
    assert pair.receive() == [(p.Gone("0", 1), [])]
    assert pair.link.receive() == []
    pair.far.sendall(p.encode(p.Ready()) + p.encode(p.Drop("x")) + p.encode(p.Quit())[:3])
    assert pair.link.receive() == [p.Ready(), p.Drop("x")]
    pair.far.sendall(p.encode(p.Quit())[3:])
    assert pair.link.receive() == [p.Quit()]


def test_a_descriptor_is_sent_as_a_duplicate(pair: Pair) -> None:
    read_end, write_end = os.pipe()
    pair.link.send(p.Descriptor("x"), (write_end,))
    os.close(write_end)
    ((message, (received,)),) = pair.receive()
    assert message == p.Descriptor("x")
    os.write(received, b"hello")
    os.close(received)
    assert os.read(read_end, 10) == b"hello"
    assert os.read(read_end, 10) == b""  # nobody kept one
    os.close(read_end)


def test_what_the_socket_does_not_take_waits_in_order_with_its_descriptors(pair: Pair) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    big = "x" * 3_000_000  # more than the socket's buffer, so it is sent in parts
    for number in range(3):
        pair.link.send(p.Failed(big, number, 0, ""))
        pair.link.send(p.Descriptor(str(number)), (null,))
    waits = pair.link.backlogged
    assert waits
    received: Received = []
    while len(received) < 6:
        pair.link.flush()
        received += pair.receive()
    assert not pair.link.backlogged
    assert [len(fds) for _, fds in received] == [0, 1] * 3
    assert [message.run for message, _ in received if isinstance(message, p.Failed)] == [0, 1, 2]
    assert [message.name for message, _ in received if isinstance(message, p.Descriptor)] == ["0", "1", "2"]
    for fd in [null, *(fd for _, fds in received for fd in fds)]:
        os.close(fd)


def test_a_dead_daemon_is_an_end_and_no_error(pair: Pair) -> None:
    pair.far.close()
    null = os.open("/dev/null", os.O_RDONLY)
    pair.link.send(p.Descriptor("x"), (null,))
    pair.link.flush()
    os.close(null)
    assert pair.link.receive() is None  # and closing gives up what was not sent: see nothing_left


def test_a_daemon_that_died_with_unread_messages_is_an_end_too(pair: Pair) -> None:
    pair.link.send(p.Gone("0", 1))
    pair.far.close()  # ECONNRESET instead of an end of file
    assert pair.link.receive() is None


def test_garbage_is_a_protocol_error(pair: Pair) -> None:
    pair.far.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(p.ProtocolError):
        pair.link.receive()


def test_descriptors_from_the_daemon_are_refused_and_not_kept(pair: Pair) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    socket.send_fds(pair.far, [p.encode(p.Ready())], [null, null])
    os.close(null)
    with pytest.raises(p.ProtocolError, match="descriptors"):
        pair.link.receive()


def test_it_can_be_polled(pair: Pair) -> None:
    pair.far.sendall(p.encode(p.Ready()))
    await_readable(pair.link.fileno())
