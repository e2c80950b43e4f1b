"""A real node program with an IPC channel, started as the keeper starts it; and a keeper's part in making listeners."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pmx.daemon.channel import Channel
from pmx.daemon.nodecluster import NodeCluster
from tests.unit.support import LIMIT

NODE = os.environ.get("PMX_TEST_NODE") or shutil.which("node") or "node"
"""PMX_TEST_NODE: another node than the machine's, to try its version."""


class Ears:
    """What a channel said, and a way to wait for more."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.ended = 0
        self._more = asyncio.Event()

    def hear(self, message: object) -> None:
        self.heard.append(message)
        self.wake()

    def end(self) -> None:
        self.ended += 1
        self.wake()

    def wake(self) -> None:
        self._more.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                while not enough():
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"it did not come; heard: {self.heard!s:.2000}") from None

    async def has(self, message: object) -> None:
        await self.until(lambda: message in self.heard)

    async def last(self) -> None:
        await self.until(lambda: bool(self.ended))


class Program:
    """A running node program. `kept` is the keeper's end of its channel."""

    def __init__(self, process: subprocess.Popen[bytes], kept: socket.socket) -> None:
        self.process = process
        self.kept = kept
        self.ears = Ears()
        self.channel: Channel | None = None

    def attach(self, hear: Callable[[object], None] | None = None) -> Channel:
        """A daemon comes, and takes over from the one before."""
        self.leave()
        self.channel = Channel(os.dup(self.kept.fileno()), hear or self.ears.hear, self.ears.end)
        return self.channel

    def leave(self) -> None:
        """The daemon dies."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    async def exit_status(self) -> int:
        return await asyncio.to_thread(self.process.wait, LIMIT)


@asynccontextmanager
async def node(directory: Path, code: str, suffix: str = ".cjs", **env: str) -> AsyncIterator[Program]:
    script = directory / f"app-{len(list(directory.iterdir()))}{suffix}"
    script.write_text(code)
    kept, theirs = socket.socketpair()
    with kept, theirs:
        process = subprocess.Popen(
            [NODE, str(script)],
            env={
                "PATH": os.environ["PATH"],
                "NODE_CHANNEL_FD": str(theirs.fileno()),
                "NODE_CHANNEL_SERIALIZATION_MODE": "json",
                **env,
            },
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        program = Program(process, kept)
        try:
            yield program
        finally:
            program.leave()
            process.kill()
            await asyncio.to_thread(process.wait)


class Cluster:
    """What the daemon and the keeper are to the workers of one application: one listener for each URL."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuse: dict[str, int] = {}
        self.listeners: dict[str, socket.socket] = {}
        self.listening: list[str] = []

    def join(self, program: Program) -> NodeCluster:
        """Serve `program`; what is not node's own goes to its ears."""

        def hear(message: object) -> None:
            if not cluster.heard(message):
                program.ears.hear(message)

        def ask(url: str) -> None:
            self.asked.append(url)
            asyncio.get_running_loop().call_soon(self._answer, cluster, url)

        def listens(url: str) -> None:
            self.listening.append(url)
            program.ears.wake()

        cluster = NodeCluster(program.attach(hear), ask, listens)
        return cluster

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()

    def _answer(self, cluster: NodeCluster, url: str) -> None:
        if url in self.refuse:
            cluster.refused(url, self.refuse[url])
            return
        try:
            if url not in self.listeners:
                self.listeners[url] = listener(url)
        except OSError as error:
            cluster.refused(url, error.errno or 0)
            return
        cluster.granted(url, os.dup(self.listeners[url].fileno()))


def listener(url: str) -> socket.socket:
    if url.startswith("unix://"):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(url.removeprefix("unix://"))
    else:
        host, _, port = url.removeprefix("tcp://").rpartition(":")
        host = host.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, int(port)))
        except OSError:
            sock.close()
            raise
    sock.listen(511)
    return sock


async def get(port: int | str, host: str = "127.0.0.1", path: str = "/") -> str:
    """The body of an HTTP answer; a port that is a path is a Unix socket's."""
    async with asyncio.timeout(LIMIT):
        if isinstance(port, str):
            reader, writer = await asyncio.open_unix_connection(port)
        else:
            reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return _unchunked(body) if b"chunked" in head else body.decode()


def _unchunked(body: bytes) -> str:
    text = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        text, body = text + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return text.decode()
