import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from pmx.daemon.keeperlink import KeeperLink
from pmx.keeper import protocol as p
from tests.unit.support import LIMIT

pytestmark = pytest.mark.usefixtures("nothing_left")


class Ears:
    """What was heard, and a way to wait for more."""

    def __init__(self) -> None:
        self.heard: list[tuple[p.Message, list[int]]] = []
        self.lost: list[str] = []
        self._more = asyncio.Event()

    def hear(self, message: p.Message, fds: list[int]) -> None:
        self.heard.append((message, fds))
        self._more.set()

    def lose(self, why: str) -> None:
        self.lost.append(why)
        self._more.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not enough():
                self._more.clear()
                await self._more.wait()


async def turn() -> None:
    """Let the loop go round once."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


Scene = Callable[[KeeperLink, socket.socket, Ears], Awaitable[None]]


def play(scene: Scene) -> None:
    """A link, and the keeper's end of it."""

    async def main() -> None:
        ours, keeper = socket.socketpair()
        with keeper:
            keeper.setblocking(False)
            link, ears = KeeperLink(ours.detach()), Ears()
            try:
                link.listen(ears.hear, ears.lose)
                await scene(link, keeper, ears)
            finally:
                link.close()

    asyncio.run(main())


def test_messages_are_heard_in_order() -> None:
    async def scene(link: KeeperLink, keeper: socket.socket, ears: Ears) -> None:
        data = b"".join(p.encode(p.Gone(str(number), number)) for number in range(50))
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), 100):
            await loop.sock_sendall(keeper, data[start : start + 100])
        await ears.until(lambda: len(ears.heard) == 50)
        assert ears.heard == [(p.Gone(str(number), number), []) for number in range(50)]
        assert ears.lost == []

    play(scene)


def test_a_descriptor_comes_with_its_message_and_is_closed_on_exec() -> None:
    async def scene(link: KeeperLink, keeper: socket.socket, ears: Ears) -> None:
        read_end, write_end = os.pipe()
        keeper.setblocking(True)
        for name in ("a", "b"):
            socket.send_fds(keeper, [p.encode(p.Descriptor(name), 1)], [write_end])
        os.close(write_end)
        await ears.until(lambda: len(ears.heard) == 2)
        for (message, (fd,)), name in zip(ears.heard, "ab", strict=True):
            assert message == p.Descriptor(name)
            assert not os.get_inheritable(fd)
            os.write(fd, name.encode())
            os.close(fd)
        assert os.read(read_end, 10) == b"ab"
        os.close(read_end)

    play(scene)


def test_sending_never_waits_and_keeps_the_order() -> None:
    async def scene(link: KeeperLink, keeper: socket.socket, ears: Ears) -> None:
        big = "x" * 2_000_000  # more than the socket's buffer
        for number in range(3):
            link.send(p.Drop(f"{number}{big}"))
            link.send(p.Open(str(number)))
        decoder, got = p.Decoder(), list[p.Message]()
        async with asyncio.timeout(LIMIT):
            while len(got) < 6:
                data = await asyncio.get_running_loop().sock_recv(keeper, 1 << 20)
                got += [message for message, _ in decoder.feed(data, [])]
        assert [message.name[:1] for message in got if isinstance(message, (p.Drop, p.Open))] == list("001122")
        link.send(p.Ready())
        async with asyncio.timeout(LIMIT):
            assert await asyncio.get_running_loop().sock_recv(keeper, 100) == p.encode(p.Ready())

    play(scene)


def test_the_end_of_the_keeper_is_told_once() -> None:
    async def scene(link: KeeperLink, keeper: socket.socket, ears: Ears) -> None:
        keeper.close()
        await ears.until(lambda: bool(ears.lost))
        assert ears.lost == ["the keeper closed the connection"]
        for _ in range(3):
            link.send(p.Ready())  # into the void
        await turn()
        assert len(ears.lost) == 1

    play(scene)


def test_garbage_is_the_end_of_the_connection() -> None:
    async def scene(link: KeeperLink, keeper: socket.socket, ears: Ears) -> None:
        await asyncio.get_running_loop().sock_sendall(keeper, b"GET / HTTP/1.1\r\n\r\n")
        await ears.until(lambda: bool(ears.lost))
        assert "claims" in ears.lost[0]
        assert ears.heard == []

    play(scene)
