"""Datagrams of sd_notify(3) on a socket as the keeper makes it: abstract, named by the kernel, with credentials."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from pmx.daemon import notify
from pmx.daemon.notify import Notification, Notify
from tests.unit.support import LIMIT, ROOT

pytestmark = pytest.mark.usefixtures("nothing_left")


class Stage:
    def __init__(self) -> None:
        self.kept = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kept.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.kept.bind("")
        self.address: bytes = self.kept.getsockname()
        self.heard: list[Notification] = []
        self.more = asyncio.Event()
        self.notify = self.daemon()

    def daemon(self) -> Notify:
        return Notify(os.dup(self.kept.fileno()), self.hear)

    def hear(self, notification: Notification) -> None:
        self.heard.append(notification)
        self.more.set()

    def say(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self.address)
            socket.send_fds(sock, [data], list(fds))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.heard) < count:
                self.more.clear()
                await self.more.wait()

    def env(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": "@" + os.fsdecode(self.address[1:]), "PYTHONPATH": ROOT}

    def close(self) -> None:
        self.notify.close()
        self.kept.close()


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = Stage()
        try:
            await scene(stage)
        finally:
            stage.close()

    asyncio.run(main())


def me(**fields: str) -> Notification:
    return Notification(os.getpid(), os.getuid(), fields)


def test_everything_is_heard_in_order_with_its_sender() -> None:
    async def scene(stage: Stage) -> None:
        # No more than the kernel queues for a socket (net.unix.max_dgram_qlen, 10), since nobody reads meanwhile.
        for number in range(5):
            stage.say(b"STATUS=%d" % number)
        stage.say(b"READY=1\nMAINPID=7\nX=y")
        await stage.until(6)
        expected = [me(STATUS=str(number)) for number in range(5)]
        assert stage.heard == [*expected, me(READY="1", MAINPID="7", X="y")]

    play(scene)


def test_garbage_is_passed_over() -> None:
    async def scene(stage: Stage) -> None:
        for data in (b"", b"nonsense", b"READY=1\0X=1", b"\xff" * 9, b"READY=1\n" + b"x" * notify._LONGEST):
            stage.say(data)
        stage.say(b"READY=1")
        await stage.until(1)
        assert stage.heard == [me(READY="1")]

    play(scene)


def test_a_barrier_lifts_when_what_came_before_was_heard() -> None:
    async def scene(stage: Stage) -> None:
        read_end, write_end = os.pipe()
        stage.say(b"READY=1")
        stage.say(b"BARRIER=1", (write_end,))
        os.close(write_end)
        lifted = asyncio.Event()
        asyncio.get_running_loop().add_reader(read_end, lifted.set)
        async with asyncio.timeout(LIMIT):
            await lifted.wait()
        asyncio.get_running_loop().remove_reader(read_end)
        os.close(read_end)
        assert stage.heard == [me(READY="1"), me(BARRIER="1")]

    play(scene)


def test_descriptors_are_never_taken() -> None:
    async def scene(stage: Stage) -> None:
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            stage.say(b"FDSTORE=1", (0, 1, 2))
        await stage.until(3)
        assert os.listdir("/proc/self/fd") == before

    play(scene)


def test_what_a_daemon_died_over_is_heard_by_the_next() -> None:
    async def scene(stage: Stage) -> None:
        stage.notify.close()
        heard: list[Notification] = []

        def die(notification: Notification) -> None:
            heard.append(notification)
            stage.more.set()
            dying.close()

        dying = Notify(os.dup(stage.kept.fileno()), die)
        stage.say(b"READY=1")
        stage.say(b"STATUS=x")
        async with asyncio.timeout(LIMIT):
            await stage.more.wait()
        stage.notify = stage.daemon()
        await stage.until(2)
        assert heard == [me(READY="1")]
        assert stage.heard == [me(READY="1"), me(STATUS="x")]

    play(scene)


def test_a_fault_over_one_costs_no_other() -> None:
    async def scene(stage: Stage) -> None:
        stage.notify.close()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: stage.more.set())

        def hear(notification: Notification) -> None:
            if "STATUS" in notification.fields:
                raise KeyError("STATUS")
            stage.hear(notification)

        stage.notify = Notify(os.dup(stage.kept.fileno()), hear)
        stage.say(b"STATUS=x")
        stage.say(b"READY=1")
        await stage.until(1)
        assert stage.heard == [me(READY="1")]

    play(scene)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_the_kernel_says_who_sent_it() -> None:
    code = "import os, pmx.app; os.setuid(1234); pmx.app.ready()"  # which may not be able to import any more

    async def scene(stage: Stage) -> None:
        process = subprocess.Popen([sys.executable, "-c", code], env=stage.env(), cwd=ROOT)
        await stage.until(1)
        assert await asyncio.to_thread(process.wait) == 0
        assert stage.heard == [Notification(process.pid, 1234, {"READY": "1"})]

    play(scene)


def test_a_program_with_pmx_app_is_understood() -> None:
    code = "import pmx.app as a; print(a.ready(), a.status('half\\nway'), a.stopping())"

    async def scene(stage: Stage) -> None:
        run = (sys.executable, "-c", code)
        process = subprocess.Popen(run, env=stage.env(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        await stage.until(3)
        out, _ = await asyncio.to_thread(process.communicate)
        assert out == "True True True\n"
        assert [each.fields for each in stage.heard] == [{"READY": "1"}, {"STATUS": "half way"}, {"STOPPING": "1"}]
        assert {each.pid for each in stage.heard} == {process.pid}

    play(scene)
