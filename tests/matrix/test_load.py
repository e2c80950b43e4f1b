"""The load client itself: each way in which a request can fail has its class, and nothing is counted twice."""

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.harness import free_port, wait_for_end
from tests.matrix.traffic import Traffic

OURS = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npid=42\n"


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Calls `answer` with each connection, once its first request is read, and closes it. Yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reset, "reset"),
        (lambda connection: None, "eof"),
        (lambda connection: connection.sendall(OURS[:-1]), "eof"),
        (lambda connection: connection.sendall(OURS.replace(b"200", b"503")), "status"),
        (lambda connection: connection.sendall(OURS.replace(b"pid", b"pdi")), "garbage"),
        (lambda connection: connection.sendall(b"SSH-2.0\r\n"), "garbage"),
    ],
)
def test_a_failure_has_its_class(answer: Callable[[socket.socket], None], kind: str) -> None:
    with server(answer) as port, Traffic("127.0.0.1", port, "--requests", "8") as traffic:
        seen = traffic.end()
    assert (seen.answered, seen.failures) == (0, {kind: 8})
    assert seen.first.startswith(kind)


def test_nobody_listens() -> None:
    with Traffic("127.0.0.1", free_port(), "--requests", "3", "--clients", "1") as traffic:
        assert traffic.end().failures == {"refused": 3}


def test_answers_are_counted_by_pid_and_stop_is_the_end() -> None:
    with server(lambda connection: connection.sendall(OURS)) as port, Traffic("127.0.0.1", port) as traffic:
        counted = traffic.until(lambda seen: seen.answered >= 100, "answers")
        last = traffic.stop()
        wait_for_end(traffic.process.pid)
    assert last.answered >= counted.answered and last.pids == {42: last.answered} and not last.failures


def test_keep_alive_is_one_connection_for_each_client() -> None:
    connections: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        connections.append(connection)
        connection.sendall(OURS)
        while connection.recv(4096):
            connection.sendall(OURS)

    options = ("--keep-alive", "--clients", "1", "--requests", "50")
    with server(answer) as port, Traffic("127.0.0.1", port, *options) as traffic:
        assert traffic.end().pids == {42: 50}
    assert len(connections) == 1


def test_sigterm_ends_it_with_a_report() -> None:
    with server(lambda connection: connection.sendall(OURS)) as port, Traffic("127.0.0.1", port) as traffic:
        traffic.until(lambda seen: seen.answered > 0, "an answer")
        os.kill(traffic.process.pid, signal.SIGTERM)
        assert traffic.end().answered > 0
