"""Lines of JSON over a socket that outlives its reader; with real node programs at the other end."""

import array
import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pmx.daemon import channel as ch
from pmx.daemon.channel import Channel, ChannelFull
from tests.unit.daemon.node import Ears, Program, node
from tests.unit.support import LIMIT

pytestmark = pytest.mark.usefixtures("nothing_left")


async def turn() -> None:
    """Let the loop go round."""
    for _ in range(3):
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(done.set_result, None)
        await done


class Stage:
    """A channel, the program's end of it, and the keeper's copy of the daemon's end."""

    def __init__(self) -> None:
        self.kept, self.program = socket.socketpair()
        self.program.setblocking(False)
        self.came, self.fds = b"", list[int]()  # to the program, and not looked at yet
        self.ears = Ears()
        self.channel = self.daemon(self.ears.hear)

    def daemon(self, hear: Callable[[object], None]) -> Channel:
        return Channel(os.dup(self.kept.fileno()), hear, self.ears.end)

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.program, data)

    async def line(self) -> tuple[object, list[int]]:
        """The next line that came to the program, and the descriptor with it when it says that there is one."""
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.program, readable.set)
        async with asyncio.timeout(LIMIT):
            while b"\n" not in self.came:
                await readable.wait()
                readable.clear()
                try:
                    piece, said, _, _ = self.program.recvmsg(1 << 20, socket.CMSG_SPACE(4))
                except BlockingIOError:
                    continue
                self.came += piece
                for _, _, got in said:
                    self.fds += array.array("i", got)
        asyncio.get_running_loop().remove_reader(self.program)
        line, _, self.came = self.came.partition(b"\n")
        message = json.loads(line)
        handle = isinstance(message, dict) and message["cmd"] == "NODE_HANDLE"
        return message, [self.fds.pop(0)] if handle else []

    def close(self) -> None:
        self.channel.close()
        self.kept.close()
        self.program.close()


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    faults: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        stage = Stage()
        try:
            await scene(stage)
        finally:
            stage.close()

    asyncio.run(main())
    assert not faults


def unread(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


# ── hearing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_line_is_a_value() -> None:
    async def scene(stage: Stage) -> None:
        await stage.say(b'"ready"\n{"a":[1,null]}\n7\n')
        await stage.ears.until(lambda: len(stage.ears.heard) == 3)
        assert stage.ears.heard == ["ready", {"a": [1, None]}, 7]

    play(scene)


def test_what_is_no_json_is_skipped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        await stage.say(b"oops\n\xff\xfe\n\n" + b"[" * 100_000 + b"\n1" + b"0" * 5000 + b"\n" + b'"after"\n')
        await stage.ears.has("after")
        assert stage.ears.heard == ["after"]

    play(scene)
    assert [record.getMessage() for record in caplog.records] == [
        "ignoring what is no JSON from a program's channel: b'oops' (Expecting value: line 1 column 1 (char 0));"
        " further ones in silence"
    ]


def test_the_end_is_told_once_and_after_the_last_message() -> None:
    async def scene(stage: Stage) -> None:
        await stage.say(b'"last"\n')
        stage.program.close()
        await stage.ears.last()
        assert stage.ears.heard == ["last"]
        for _ in range(3):
            stage.channel.send("into the void")
        await turn()
        assert stage.ears.ended == 1

    play(scene)


def test_a_reset_is_the_end_too() -> None:
    async def scene(stage: Stage) -> None:
        stage.channel.send("never read")
        stage.program.close()  # with something unread: ECONNRESET
        await stage.ears.last()
        assert stage.ears.heard == []

    play(scene)


def test_half_a_line_stays_for_the_next_daemon() -> None:
    async def scene(stage: Stage) -> None:
        whole = json.dumps({"text": "x" * 1000}).encode() + b"\n"
        await stage.say(b'"before"\n' + whole[:500])
        await stage.ears.has("before")
        await turn()
        stage.channel.close()
        assert unread(stage.kept) == whole[:500]
        await stage.say(whole[500:])
        next_ears = Ears()
        stage.channel = stage.daemon(next_ears.hear)
        await next_ears.has({"text": "x" * 1000})
        assert stage.ears.heard == ["before"]
        assert len(next_ears.heard) == 1

    play(scene)


def test_a_daemon_that_dies_while_hearing_has_a_successor_that_hears_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.channel.close()
        seen: list[object] = []

        def die(message: object) -> None:
            seen.append(message)
            stage.channel.close()

        stage.channel = stage.daemon(die)
        await stage.say(b'"ready"\n"more"\n')
        while not seen:
            await turn()
        stage.channel = stage.daemon(stage.ears.hear)
        await stage.ears.has("more")
        assert seen == ["ready"]
        assert stage.ears.heard == ["ready", "more"]

    play(scene)


def test_a_fault_over_one_message_costs_no_other() -> None:
    async def scene(stage: Stage) -> None:
        stage.channel.close()
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))

        def hear(message: object) -> None:
            if message == "bad":
                raise KeyError("bad")
            stage.ears.hear(message)

        stage.channel = stage.daemon(hear)
        await stage.say(b'"bad"\n"good"\n')
        await stage.ears.has("good")
        assert [type(fault) for fault in faults] == [KeyError]

    play(scene)


@pytest.mark.parametrize("size", [ch._LONG - 100, ch._PEEK, 5_000_000])
def test_a_line_longer_than_the_socket_holds(size: int) -> None:
    async def scene(stage: Stage) -> None:
        await stage.say(json.dumps("ü" * (size // 6)).encode() + b'\n"after"\n')
        await stage.ears.has("after")
        assert stage.ears.heard == ["ü" * (size // 6), "after"]

    play(scene)


def test_a_line_of_small_pieces_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece costs the sender's buffer far more than its bytes: it is full before the line is whole."""
    monkeypatch.setattr(ch, "GRACE", 0.01)

    async def scene(stage: Stage) -> None:
        for byte in json.dumps("x" * 2000).encode() + b"\n":
            await stage.say(bytes([byte]))
        await stage.ears.has("x" * 2000)

    play(scene)


def test_a_part_that_waits_does_not_keep_the_daemon_busy() -> None:
    async def scene(stage: Stage) -> None:
        await stage.say(b'"before"\n"par')
        await stage.ears.has("before")
        looks = 0

        def look() -> bool:
            nonlocal looks
            looks += 1
            return False

        stage.channel._in._turn = look  # type: ignore[method-assign]
        for _ in range(20):
            await turn()
        assert looks == 0
        await stage.say(b't"\n')
        while not looks:
            await turn()

    play(scene)


def test_a_line_without_end_is_the_end_of_the_channel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ch, "LONGEST", 1_000_000)

    async def scene(stage: Stage) -> None:
        saying = asyncio.ensure_future(stage.say(b'"' + b"x" * 10_000_000))
        await stage.ears.last()
        saying.cancel()
        assert stage.ears.heard == []
        assert stage.ears.ended == 1

    play(scene)
    assert "giving up the channel of a program: it sends a line of more than 1000000 bytes" in caplog.text


def test_what_is_held_is_heard_once_and_stays_for_a_successor() -> None:
    async def scene(stage: Stage) -> None:
        stage.channel.close()

        def hear(message: object) -> None:
            stage.ears.hear(message)
            if message == "question":
                stage.channel.hold()

        stage.channel = stage.daemon(hear)
        await stage.say(b'"a"\n"question"\n"b"\n')
        await stage.ears.has("question")
        await turn()
        assert unread(stage.kept) == b'"question"\n"b"\n'
        stage.channel.close()

        stage.channel = stage.daemon(hear)
        await stage.ears.until(lambda: stage.ears.heard.count("question") == 2)
        stage.channel.resume()
        assert unread(stage.kept) == b'"b"\n'
        await stage.ears.has("b")
        stage.channel.resume()  # of nothing
        assert stage.ears.heard == ["a", "question", "question", "b"]

    play(scene)


# ── saying ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sending_never_waits_and_is_bounded() -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(ChannelFull, match="cannot send a message of 1000003 bytes") as caught:
            for _ in range(20):
                stage.channel.send("x" * 1_000_000)
        assert caught.value.exit_status == 10
        for _ in range(8):
            assert await stage.line() == ("x" * 1_000_000, [])
        stage.channel.send("again")
        assert await stage.line() == ("again", [])

    play(scene)


@pytest.mark.parametrize("message", [float("nan"), b"bytes"])
def test_what_json_cannot_hold_is_refused_here(message: object) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises((ValueError, TypeError)):
            stage.channel.send(message)
        stage.channel.send("fine")
        assert await stage.line() == ("fine", [])

    play(scene)


HANDLE = {"cmd": "NODE_HANDLE", "type": "net.Native", "msg": {}}
ACK, NACK = b'{"cmd":"NODE_HANDLE_ACK"}\n', b'{"cmd":"NODE_HANDLE_NACK"}\n'


def test_a_descriptor_waits_for_the_acknowledgement_of_the_one_before_and_so_does_the_rest() -> None:
    async def scene(stage: Stage) -> None:
        read_end, write_end = os.pipe()
        for number in range(2):
            stage.channel.send({**HANDLE, "n": number}, [write_end])
            stage.channel.send(number)
        os.close(write_end)
        for number in range(2):
            message, (fd,) = await stage.line()
            assert message == {**HANDLE, "n": number}
            await turn()
            assert stage.came + unread(stage.program) == b""  # the next waits
            os.write(fd, b"%d" % number)
            os.close(fd)
            await stage.say(ACK)
            assert await stage.line() == (number, [])
        assert os.read(read_end, 10) == b"01"
        assert os.read(read_end, 10) == b""  # no copy is left anywhere
        os.close(read_end)
        assert stage.ears.heard == []

    play(scene)


def test_a_descriptor_that_did_not_arrive_is_sent_again_but_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        stage.channel.send(HANDLE, [stage.kept.fileno()])
        stage.channel.send("after")
        for _ in range(4):
            message, (fd,) = await stage.line()
            assert message == HANDLE
            os.close(fd)
            await stage.say(NACK)
        assert await stage.line() == ("after", [])

    play(scene)
    assert "it has no descriptor left" in caplog.text


def test_a_program_that_sends_a_descriptor_gets_its_answer_and_its_message_is_heard() -> None:
    async def scene(stage: Stage) -> None:
        wrapped = b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"take":"this"}}\n"after"\n'
        read_end, write_end = os.pipe()
        socket.send_fds(stage.program, [wrapped], [write_end])
        os.close(write_end)
        await stage.ears.has("after")
        assert stage.ears.heard == [{"take": "this"}, "after"]
        assert await stage.line() == ({"cmd": "NODE_HANDLE_ACK"}, [])
        assert os.read(read_end, 1) == b""  # nobody has it
        os.close(read_end)

    play(scene)


def test_a_long_line_with_a_descriptor_does_not_block_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peek never sees beyond a message with descriptors."""
    monkeypatch.setattr(ch, "GRACE", 1e6)

    async def scene(stage: Stage) -> None:
        long = json.dumps({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": "x" * 10_000}).encode() + b"\n"
        socket.send_fds(stage.program, [long[:5000]], [stage.kept.fileno()])
        await stage.say(long[5000:])
        await stage.ears.has("x" * 10_000)

    play(scene)


def test_copies_of_descriptors_end_with_the_channel() -> None:
    async def scene(stage: Stage) -> None:
        read_end, write_end = os.pipe()
        for _ in range(3):
            stage.channel.send(HANDLE, [write_end])
        os.close(write_end)
        stage.channel.close()
        _, (fd,) = await stage.line()
        os.close(fd)
        assert os.read(read_end, 1) == b""
        os.close(read_end)

    play(scene)


# ── node ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def node_scene(directory: Path, code: str, scene: Callable[[Program], Awaitable[None]], suffix: str = ".cjs") -> None:
    async def main() -> None:
        async with node(directory, code, suffix) as program:
            await scene(program)

    asyncio.run(main())


@pytest.mark.node
def test_node_and_we_hear_each_other(tmp_path: Path) -> None:
    code = """
        process.on('message', (message) => {
          process.send({ echo: message })
          if (message === 'bye') process.disconnect()
        })
        process.on('disconnect', () => { process.exitCode = 5 })
        process.send('ready')
    """

    async def scene(program: Program) -> None:
        channel = program.attach()
        await program.ears.has("ready")
        for message in ("grüße 🐍\n\u2028", {"a": [1, {"b": None}]}, 7, True, "x" * 1_048_576, "bye"):
            channel.send(message)
            await program.ears.has({"echo": message})
        await program.ears.last()
        assert await program.exit_status() == 5

    node_scene(tmp_path, code, scene)


@pytest.mark.node
def test_node_as_a_module_is_connected_and_can_be_told_to_shut_down(tmp_path: Path) -> None:
    code = """
        process.on('message', (message) => { if (message === 'shutdown') process.exit(7) })
        process.send({ connected: process.connected, fd: process.env.NODE_CHANNEL_FD ?? null })
    """

    async def scene(program: Program) -> None:
        channel = program.attach()
        await program.ears.has({"connected": True, "fd": None})
        channel.send("shutdown")
        assert await program.exit_status() == 7
        await program.ears.last()

    node_scene(tmp_path, code, scene, ".mjs")


@pytest.mark.node
def test_node_does_not_notice_that_a_daemon_died(tmp_path: Path) -> None:
    code = """
        process.on('disconnect', () => process.send('never'))
        process.on('message', (n) => process.send({ n }))
        process.send('x'.repeat(20_000))
        process.send('ready')
    """

    async def scene(program: Program) -> None:
        for number in range(3):
            channel = program.attach()
            if number == 0:
                await program.ears.has("ready")
            channel.send(number)
            await program.ears.has({"n": number})
            program.leave()
        program.kept.close()  # the keeper died: that it does notice
        assert await program.exit_status() == 1  # process.send throws

    node_scene(tmp_path, code, scene)


@pytest.mark.node
def test_a_handle_that_node_sends_does_not_stop_what_it_sends_next(tmp_path: Path) -> None:
    code = """
        const net = require('net')
        const server = net.createServer().listen(0, '127.0.0.1', () => {
          const client = net.connect(server.address().port)
          client.on('close', () => process.send('closed'))
        })
        server.on('connection', (socket) => {
          process.send({ take: 1 }, socket)
          process.send('after')
          server.close()
        })
    """

    async def scene(program: Program) -> None:
        program.attach()
        await program.ears.has("closed")
        assert program.ears.heard[:2] == [{"take": 1}, "after"]

    node_scene(tmp_path, code, scene)
