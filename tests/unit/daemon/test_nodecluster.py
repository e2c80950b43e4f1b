"""Real workers of node's cluster module, whose primary we are."""

import asyncio
import errno
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pmx.daemon.nodecluster import NodeCluster
from tests.harness import free_port
from tests.unit.daemon.node import Cluster, Program, get, listener, node
from tests.unit.support import LIMIT

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("nothing_left")]

SERVER = """
const cluster = require('cluster'), http = require('http')
const where = JSON.parse(process.env.WHERE)
http.createServer((request, response) => response.end('worker ' + cluster.worker.id))
  .on('error', (e) => process.send({ code: e.code, syscall: e.syscall, port: e.port }))
  .listen(where, function () { process.send({ at: this.address() }) })
"""
MODULE = """
import cluster from 'node:cluster'
import http from 'node:http'
http.createServer((request, response) => response.end('worker ' + cluster.worker.id))
  .listen(JSON.parse(process.env.WHERE), function () { process.send({ at: this.address() }) })
"""

Scene = Callable[[Program, NodeCluster, Cluster], Awaitable[None]]


def play(directory: Path, code: str, scene: Scene, suffix: str = ".cjs", **env: str) -> None:
    """A worker with the id 3, served by an application that has made no listener yet."""

    async def main() -> None:
        app = Cluster()
        try:
            async with node(directory, code, suffix, NODE_UNIQUE_ID="3", **env) as program:
                await scene(program, app.join(program), app)
        finally:
            app.close()

    asyncio.run(main())


def heard(program: Program, key: str) -> list[object]:
    return [message[key] for message in program.ears.heard if isinstance(message, dict) and key in message]


async def listens(program: Program, count: int = 1) -> None:
    await program.ears.until(lambda: len(heard(program, "at")) == count)


def test_a_listener_does_not_block_when_it_is_handed_over() -> None:
    """Nothing runs at the other end here, which would set it, too."""

    async def main() -> None:
        kept, worker = socket.socketpair()
        program = Program(subprocess.Popen(["true"]), kept)
        app, url = Cluster(), "tcp://127.0.0.1:0"
        with kept, worker, listener(url) as sock:
            cluster = app.join(program)
            app.refuse["tcp://127.0.0.1:1"] = errno.EIO  # an answer that we give ourselves
            query = {"act": "queryServer", "seq": 1, "address": "127.0.0.1", "port": 1, "addressType": 4}
            assert cluster.heard({"cmd": "NODE_CLUSTER", **query})
            cluster.granted("tcp://127.0.0.1:1", os.dup(sock.fileno()))
            assert not os.get_blocking(sock.fileno())
            program.leave()
        assert await program.exit_status() == 0

    asyncio.run(main())


@pytest.mark.parametrize(("code", "suffix"), [(SERVER, ".cjs"), (MODULE, ".mjs")])
def test_a_worker_serves_from_the_listener_of_its_application(tmp_path: Path, code: str, suffix: str) -> None:
    port = free_port()

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await listens(program)
        assert app.asked == [f"tcp://[::]:{port}"]
        assert await get(port) == "worker 3"
        assert await get(port, "::1") == "worker 3"
        await program.ears.until(lambda: bool(app.listening))
        assert app.listening == [f"tcp://[::]:{port}"]

    play(tmp_path, code, scene, suffix, WHERE=str(port))


def test_it_knows_that_it_is_a_worker_and_its_children_do_not(tmp_path: Path) -> None:
    code = """
        const cluster = require('cluster')
        process.send([cluster.isWorker, cluster.isPrimary, cluster.worker.id, process.env.NODE_UNIQUE_ID ?? null])
        cluster.worker.on('message', (message) => cluster.worker.send({ echo: message }))
    """

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await program.ears.has([True, False, 3, None])
        assert program.channel is not None
        program.channel.send("hello")
        await program.ears.has({"echo": "hello"})

    play(tmp_path, code, scene)


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ('{"port": %d, "host": "127.0.0.1"}', "tcp://127.0.0.1:%d"),
        ('{"port": %d, "host": "::1"}', "tcp://[::1]:%d"),
        ('{"port": %d, "host": "localhost", "backlog": 5}', ""),  # as /etc/hosts has it
    ],
)
def test_it_listens_where_it_likes(tmp_path: Path, where: str, url: str) -> None:
    port = free_port()

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await listens(program)
        (asked,) = app.asked
        assert not url or asked == url % port
        assert await get(port, asked.removeprefix("tcp://").rpartition(":")[0].strip("[]")) == "worker 3"

    play(tmp_path, SERVER, scene, WHERE=where % port)


def test_two_workers_share_a_listener(tmp_path: Path) -> None:
    port = free_port()

    async def main() -> None:
        app = Cluster()
        env = {"WHERE": str(port)}
        async with (
            node(tmp_path, SERVER, NODE_UNIQUE_ID="1", **env) as one,
            node(tmp_path, SERVER, NODE_UNIQUE_ID="2", **env) as two,
        ):
            for program in (one, two):
                app.join(program)
            for program in (one, two):
                await listens(program)
            assert await get(port) in ("worker 1", "worker 2")
            one.process.kill()
            await one.exit_status()
            assert await get(port) == "worker 2"
        app.close()

    asyncio.run(main())


def test_a_unix_socket(tmp_path: Path, short_dir: str) -> None:
    path = f"{short_dir}/web.sock"

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await listens(program)
        assert app.asked == [f"unix://{path}"]
        assert await get(path) == "worker 3"
        await program.ears.until(lambda: app.listening == [f"unix://{path}"])

    play(tmp_path, SERVER, scene, WHERE=f'{{"path": "{path}"}}')


def test_several_servers_closed_and_opened_again(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    code = """
        const http = require('http')
        const ports = JSON.parse(process.env.WHERE)
        const servers = ports.map((port) => http.createServer((q, r) => r.end('at ' + port)))
        servers.forEach((server, i) => server.listen(ports[i], '127.0.0.1', () => process.send({ at: i })))
        process.on('message', () => servers[0].close(() => {
          process.send('closed')
          servers[0].listen(ports[0], '127.0.0.1', () => process.send({ at: 'again' }))
        }))
    """

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await listens(program, 2)
        for port in ports:
            assert await get(port) == f"at {port}"
        assert program.channel is not None
        program.channel.send("close and open")
        await listens(program, 3)
        assert "closed" in program.ears.heard
        for port in ports:
            assert await get(port) == f"at {port}"
        assert sorted(app.asked) == sorted(f"tcp://127.0.0.1:{port}" for port in (*ports, ports[0]))

    play(tmp_path, code, scene, WHERE=str(list(ports)))


@pytest.mark.parametrize(("number", "name"), [(errno.EADDRINUSE, "EADDRINUSE"), (errno.EACCES, "EACCES")])
def test_a_refusal_is_the_error_that_it_would_be_alone(tmp_path: Path, number: int, name: str) -> None:
    port = free_port()

    async def main() -> None:
        app = Cluster()
        app.refuse[f"tcp://[::]:{port}"] = number
        async with node(tmp_path, SERVER, NODE_UNIQUE_ID="1", WHERE=str(port)) as program:
            app.join(program)
            await program.ears.has({"code": name, "syscall": "bind", "port": port})
        assert app.asked == [f"tcp://[::]:{port}"]

    asyncio.run(main())


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    port = free_port()
    foreign = listener(f"tcp://127.0.0.1:{port}")

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await program.ears.has({"code": "EADDRINUSE", "syscall": "bind", "port": port})

    with foreign:
        play(tmp_path, SERVER, scene, WHERE=f'{{"port": {port}, "host": "127.0.0.1"}}')


def test_one_port_twice_in_one_worker(tmp_path: Path) -> None:
    port = free_port()
    code = """
        const net = require('net'), port = +process.env.WHERE
        net.createServer().listen(port, () => net.createServer().on('error', (e) => process.send(e.code)).listen(port))
    """

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await program.ears.has("EADDRINUSE")
        assert len(app.asked) == 1

    play(tmp_path, code, scene, WHERE=str(port))


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_machine_without_ipv6(tmp_path: Path, number: int) -> None:
    port = free_port()

    async def main() -> None:
        app = Cluster()
        app.refuse[f"tcp://[::]:{port}"] = number
        async with node(tmp_path, SERVER, NODE_UNIQUE_ID="1", WHERE=str(port)) as program:
            app.join(program)
            await listens(program)
            assert await get(port) == "worker 1"
            await program.ears.until(lambda: app.listening == [f"tcp://0.0.0.0:{port}"])
        app.close()

    asyncio.run(main())


@pytest.mark.parametrize("where", ['{"port": 0}', '{"port": 0, "host": "127.0.0.1"}'])
def test_any_port_is_one_of_its_own(tmp_path: Path, where: str) -> None:
    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await listens(program)
        (at,) = heard(program, "at")
        assert isinstance(at, dict)
        assert await get(at["port"]) == "worker 3"
        assert app.asked == []
        host = "[::]" if "host" not in where else "127.0.0.1"
        await program.ears.until(lambda: app.listening == [f"tcp://{host}:{at['port']}"])

    play(tmp_path, SERVER, scene, WHERE=where)


def test_an_exclusive_listener_is_the_workers_own_affair(tmp_path: Path) -> None:
    port = free_port()

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await listens(program)
        assert await get(port) == "worker 3"
        assert app.asked == []

    play(tmp_path, SERVER, scene, WHERE=f'{{"port": {port}, "host": "127.0.0.1", "exclusive": true}}')


def test_udp_is_not_shared_but_any_port_of_its_own_is_fine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    code = """
        const dgram = require('dgram')
        const bind = (port) => {
          const socket = dgram.createSocket('udp4')
          socket.on('error', (e) => { process.send({ code: e.code, message: e.message }); socket.close() })
          socket.on('message', (data, from) => { process.send({ got: String(data) }); socket.close() })
          socket.bind(port, '127.0.0.1', () => process.send({ at: socket.address().port }))
        }
        bind(+process.env.WHERE)
        bind(0)
    """

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await program.ears.has({"code": "ENOTSUP", "message": f"bind ENOTSUP 127.0.0.1:{port}"})
        await listens(program)
        (own,) = heard(program, "at")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"hello", ("127.0.0.1", own))
        await program.ears.has({"got": "hello"})
        assert app.asked == []

    play(tmp_path, code, scene, WHERE=str(port))
    assert f"UDP port {port} is not shared" in caplog.text


def test_a_tls_server_gets_its_ticket_keys_back(tmp_path: Path) -> None:
    code = """
        require('tls').createServer({}).listen(+process.env.WHERE, () => process.send('up'))
    """

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await program.ears.has("up")

    play(tmp_path, code, scene, WHERE=str(free_port()))


SLOW = """
const http = require('http')
http.createServer((request, response) => {
  response.write('begun ')
  process.send('begun')
  process.once('message', () => response.end('done'))
}).listen(+process.env.WHERE)
"""


def test_disconnect_lets_a_request_finish_and_the_worker_ends_by_itself(tmp_path: Path) -> None:
    port = free_port()

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        await program.ears.until(lambda: bool(app.listening))
        request = asyncio.ensure_future(get(port))
        await program.ears.has("begun")
        cluster.disconnect()
        assert program.channel is not None
        program.channel.send("finish")  # heard only while it still lives
        assert await request == "begun done"
        assert await program.exit_status() == 0
        await program.ears.last()

    play(tmp_path, SLOW, scene, WHERE=str(port))


@pytest.mark.parametrize(
    ("how", "status"),
    [("cluster.worker.disconnect()", 0), ("cluster.worker.kill()", 0), ("process.exit(4)", 4)],
)
@pytest.mark.parametrize("first", ["require('net').createServer().listen(0, then)", "then()"])
def test_a_worker_that_leaves_by_itself_does_not_hang(tmp_path: Path, how: str, status: int, first: str) -> None:
    code = f"const cluster = require('cluster'); function then() {{ {how} }}; {first}"

    async def scene(program: Program, cluster: NodeCluster, app: Cluster) -> None:
        assert await program.exit_status() == status
        await program.ears.last()

    play(tmp_path, code, scene)


def test_a_question_that_a_daemon_died_over_is_answered_by_the_next(tmp_path: Path) -> None:
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    where = f'{{"port": {port}, "host": "127.0.0.1"}}'

    async def main() -> None:
        app, asked = Cluster(), asyncio.Event()
        async with node(tmp_path, SERVER, NODE_UNIQUE_ID="1", WHERE=where) as program:

            def hear(message: object) -> None:
                dying.heard(message)

            dying = NodeCluster(program.attach(hear), lambda _: asked.set(), program.ears.hear)
            async with asyncio.timeout(LIMIT):
                await asked.wait()
            cluster = app.join(program)
            app.listeners[url] = listener(url)
            cluster.granted(url, os.dup(app.listeners[url].fileno()))  # the answer to the one that died
            await listens(program)
            assert await get(port) == "worker 1"
            await program.ears.until(lambda: bool(app.listening))
            app.join(program)  # and one that knows nothing of what is open
            assert await get(port) == "worker 1"
        app.close()

    asyncio.run(main())
