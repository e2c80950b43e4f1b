"""The client's own ZMTP against libzmq: what one says, the other understands."""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given, settings, strategies as st

from pmx.client.zmtp import Socket

PATIENCE = 20.0


@pytest.fixture
def path() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="pmxz-", dir="/tmp")  # pytest's own are too long for a socket
    yield f"{directory}/s"
    shutil.rmtree(directory)


Peer = Callable[[int], "zmq.Socket[bytes]"]


@pytest.fixture
def peer(path: str) -> Iterator[Peer]:
    """Makes sockets of libzmq that listen at `path`."""
    context = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def make(kind: int) -> "zmq.Socket[bytes]":
        made.append(context.socket(kind))
        made[-1].bind(f"ipc://{path}")
        return made[-1]

    yield make
    for each in made:
        each.close(linger=0)
    context.term()


def test_a_dealer_and_a_router(path: str, peer: Peer) -> None:
    router = peer(zmq.ROUTER)
    client = Socket(path, "DEALER", PATIENCE)
    for body in (b"", b"short", b"x" * 255, b"x" * 256, os.urandom(5_000_000)):
        # 5 MB is more than any buffer: somebody must read while we write.
        sender = threading.Thread(target=client.send, args=(body, b"second frame"))
        sender.start()
        identity, *frames = router.recv_multipart()
        sender.join()
        assert frames == [body, b"second frame"]
        router.send_multipart([identity, body, b""])
        assert client.receive(PATIENCE) == [body, b""]
    client.close()


def test_the_router_knows_who_asks(path: str, peer: Peer) -> None:
    router = peer(zmq.ROUTER)
    client = Socket(path, "DEALER", PATIENCE)
    client.send(b"who am I?")
    frame = router.recv_multipart(copy=False)[-1]
    assert str(frame.get("Peer-Address")).split(":")[1:] == [str(os.geteuid()), str(os.getegid()), str(os.getpid())]
    client.close()


def test_a_subscriber_gets_what_it_asked_for(path: str, peer: Peer) -> None:
    publisher = peer(zmq.XPUB)
    client = Socket(path, "SUB", PATIENCE)
    client.send(b"\x01log.")
    assert publisher.recv() == b"\x01log."
    publisher.send_multipart([b"process.1.", b"not for us"])
    publisher.send_multipart([b"log.1.", b"for us"])
    assert client.receive(PATIENCE) == [b"log.1.", b"for us"]
    client.close()


def test_an_end_is_noticed(path: str, peer: Peer) -> None:
    router = peer(zmq.ROUTER)
    client = Socket(path, "DEALER", PATIENCE)
    router.close(linger=0)
    with pytest.raises(ConnectionError):
        client.receive(PATIENCE)
    client.close()


def test_silence_is_a_timeout_and_harms_nothing(path: str, peer: Peer) -> None:
    router = peer(zmq.ROUTER)
    client = Socket(path, "DEALER", PATIENCE)
    with pytest.raises(TimeoutError):
        client.receive(0.01)
    client.send(b"still there?")
    identity, _ = router.recv_multipart()
    router.send_multipart([identity, b"yes"])
    assert client.receive(PATIENCE) == [b"yes"]
    client.close()


def test_silence_between_two_frames_of_a_message_loses_neither(path: str) -> None:
    """libzmq sends in pieces of 8 KB, which may end between the topic of an event and its data."""
    ready = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        thread = threading.Thread(target=lambda: peers.append(server.accept()[0]))
        peers: list[socket.socket] = []
        thread.start()

        def greet() -> None:
            thread.join()
            peers[0].sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32) + ready)

        greeter = threading.Thread(target=greet)
        greeter.start()
        client = Socket(path, "SUB", PATIENCE)
        greeter.join()
        with peers[0]:
            peers[0].sendall(b"\x01\x05topic\x00")
            with pytest.raises(TimeoutError):
                client.receive(0.01)
            peers[0].sendall(b"\x04data\x00\x03two")
            assert client.receive(PATIENCE) == [b"topic", b"data"]
            assert client.receive(PATIENCE) == [b"two"]
        client.close()


def test_nobody_there(path: str) -> None:
    with pytest.raises(OSError):
        Socket(path, "DEALER", PATIENCE)
    Path(path).touch()
    with pytest.raises(ConnectionRefusedError):
        Socket(path, "DEALER", PATIENCE)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_whoever_does_not_speak_zmtp_is_refused(greeting: bytes) -> None:
    """Any bytes and then an end: a ConnectionError, and no descriptor left."""
    before = len(os.listdir("/proc/self/fd"))
    directory = tempfile.mkdtemp(prefix="pmxz-", dir="/tmp")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{directory}/s")
        server.listen()

        def answer() -> None:
            caller, _ = server.accept()
            with caller:
                caller.sendall(greeting)
                caller.shutdown(socket.SHUT_WR)
                while caller.recv(4096):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionError):
            Socket(f"{directory}/s", "DEALER", PATIENCE)
        thread.join()
    shutil.rmtree(directory)
    assert len(os.listdir("/proc/self/fd")) == before
