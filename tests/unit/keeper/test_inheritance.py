"""What real programs find at birth: declared sockets, node's channel, a place to notify."""

import errno
import json
import os
import shutil
import socket
import stat
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from pmx.keeper import inheritance, protocol as p
from pmx.keeper.fdstore import FdStore
from pmx.keeper.poller import Poller
from pmx.keeper.slots import Slots
from tests.unit.keeper.puppet import Puppets, answer, connect, free_port, served
from tests.unit.keeper.stage import Stage
from tests.unit.support import LIMIT, await_readable, descriptors, read_until

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a program another user")


def declared(*urls: str) -> list[tuple[str, str]]:
    return [(f"n{number}", url) for number, url in enumerate(urls)]


# ── declared sockets (sd_listen_fds(3)) ──────────────────────────────────────────────────────────────────────────


def test_declared_sockets_are_passed_from_3_on_with_their_names(both: Puppets, short_dir: str) -> None:
    ports = [free_port() for _ in range(2)]
    for _ in range(20):  # whatever numbers the keeper has in use
        os.close(both.daemon.pipe(f"log:{_}"))
    urls = [f"tcp://127.0.0.1:{ports[0]}", f"tcp://[::1]:{ports[1]}"]
    program = both.start(sockets=declared(*urls))
    env = program("{name: os.environ.get(name) for name in ('LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES')}")
    assert env == {"LISTEN_FDS": "2", "LISTEN_PID": str(program.pid), "LISTEN_FDNAMES": "n0:n1"}
    passed = "[(os.get_inheritable(fd), socket(fileno=os.dup(fd)).getsockname()[:2]) for fd in (3, 4)]"
    assert program(passed) == [[True, ["127.0.0.1", ports[0]]], [True, ["::1", ports[1]]]]
    program("serve(socket(fileno=3)); serve(socket(fileno=4))")
    assert served(ports[0], 2) == served(ports[1], 2, "::1") == {program.name: 2}
    told = [both.daemon.find(p.Listening) for _ in urls]
    assert [(fact.url, fact.itself) for fact in told] == [(url, False) for url in urls]


def test_nothing_else_is_passed(puppets: Puppets) -> None:
    port = free_port()
    program = puppets.start(sockets=declared(f"tcp://127.0.0.1:{port}"), channel=True)
    puppets.server(port, 1)
    theirs = {fd for fd in descriptors(program.pid) if program(f"os.get_inheritable({fd})")}
    assert theirs == {0, 1, 2, 3, 4}


def test_who_listens_on_a_declared_socket_says_so_itself(puppets: Puppets) -> None:
    port = free_port()
    program = puppets.start(sockets=declared(f"tcp://127.0.0.1:{port}"))
    assert puppets.daemon.find(p.Listening).itself is False
    program("s = socket(fileno=3); s.listen(); serve(s)")
    assert puppets.daemon.find(p.Listening).itself is True
    assert served(port, 2) == {program.name: 2}


def test_each_slot_has_a_declared_socket_of_its_own(puppets: Puppets) -> None:
    port = free_port()
    workers = [puppets.start(slot, sockets=declared(f"tcp://127.0.0.1:{port}"), trap=False) for slot in (0, 1)]
    for worker in workers:
        worker("serve(socket(fileno=3))")
    assert served(port).keys() == {worker.name for worker in workers}
    clients = list[socket.socket]()
    workers[0].hold()
    while len(clients) < 40:
        clients.append(connect(port))
    puppets.kill(workers[0], "0")
    heir = puppets.start(0, sockets=declared(f"tcp://127.0.0.1:{port}"), run=2)
    heir("serve(socket(fileno=3))")
    assert {answer(client) for client in clients} == {heir.name, workers[1].name}


def test_a_declared_port_in_use_is_explained_and_nothing_is_left(puppets: Puppets, stage: Stage) -> None:
    free = free_port()
    before = descriptors(stage.process.pid)
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        taken = f"tcp://127.0.0.1:{foreign.getsockname()[1]}"
        order = puppets.order(sockets=declared(f"tcp://127.0.0.1:{free}", taken), channel=True)
        puppets.daemon.say(order)
        assert puppets.daemon.hear(p.Failed) == p.Failed(
            "0",
            1,
            errno.EADDRINUSE,
            f"cannot start {order.argv[0]}: cannot listen on {taken}: Address already in use (EADDRINUSE)",
        )
    puppets.daemon.say(p.Release("app"))
    assert puppets.daemon.settled() == [p.Released("app", -1)]
    assert len(descriptors(stage.process.pid)) == len(before)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("tcp://localhost:80", "no numeric address and port (EINVAL)"),
        ("tcp://127.0.0.1:http", "no numeric address and port (EINVAL)"),
        ("unix:///tmp/" + "x" * 200, "AF_UNIX path too long (unknown)"),
        ("unix:///nonexistent/x", "No such file or directory (ENOENT)"),
    ],
)
def test_what_is_no_address_is_explained(puppets: Puppets, url: str, why: str) -> None:
    order = puppets.order(sockets=declared(url))
    puppets.daemon.say(order)
    error = puppets.daemon.find(p.Failed).error
    assert error == f"cannot start {order.argv[0]}: cannot listen on {url}: {why}"


def test_a_declared_path_is_made_and_removed(both: Puppets, short_dir: str) -> None:
    directory = f"{short_dir}/d"
    os.mkdir(directory)
    os.chmod(directory, 0o777)
    path = f"{directory}/s"
    workers = [both.start(slot, sockets=declared(f"unix://{path}")) for slot in (0, 1)]
    for worker in workers:
        worker("s = socket(fileno=3); serve(s)")
    made = os.stat(path)
    assert stat.S_IMODE(made.st_mode) == 0o660
    assert made.st_uid == os.stat(f"/proc/{workers[0].pid}").st_uid
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT)
        client.connect(path)
        assert client.recv(100).decode() in {worker.name for worker in workers}
    for slot, worker in enumerate(workers):
        both.kill(worker, str(slot))
    assert os.path.exists(path), "who comes back serves it"
    both.daemon.say(p.Release("app"))
    both.daemon.settled()
    assert not os.path.exists(path)


@ROOT_ONLY
def test_a_declared_path_belongs_to_the_user_of_the_program(puppets: Puppets, short_dir: str) -> None:
    puppets.start(sockets=declared(f"unix://{short_dir}/s"), uid=65534, gid=65533, groups=[])
    made = os.stat(f"{short_dir}/s")
    assert (made.st_uid, made.st_gid) == (65534, 65533)


# ── node's channel ───────────────────────────────────────────────────────────────────────────────────────────────

TALKS = """
process.on('message', m => {
  process.send({got: m, fd: process.env.NODE_CHANNEL_FD === undefined})
  process.disconnect()
})
process.send('ready')
"""


@pytest.mark.node
def test_node_talks_over_its_channel(puppets: Puppets) -> None:
    node = shutil.which("node")
    assert node is not None
    order = puppets.order(argv=[node, "-e", TALKS], channel=True, sockets=declared(f"tcp://127.0.0.1:{free_port()}"))
    puppets.daemon.say(order)
    puppets.daemon.find(p.Spawned)
    with socket.socket(fileno=puppets.daemon.pipe("ipc:0:1")) as channel:
        assert read_until(channel.fileno()) == b'"ready"\n'
        channel.sendall(b'{"a":1}\n')
        assert json.loads(read_until(channel.fileno())) == {"got": {"a": 1}, "fd": True}
        assert puppets.daemon.find(p.Exited).code == 0
        puppets.daemon.say(p.Acknowledge("0", 1))
        puppets.daemon.settled()
        assert channel.recv(1) == b""


def test_the_channel_is_kept_until_the_end_is_acknowledged(puppets: Puppets, stage: Stage) -> None:
    program = puppets.start(channel=True)
    assert program("os.environ['NODE_CHANNEL_SERIALIZATION_MODE']") == "json"
    program("socket(fileno=int(os.environ['NODE_CHANNEL_FD'])).sendall(b'last words')")
    puppets.kill(program)
    puppets.daemon.die()
    heir = stage.daemon()
    assert heir.find(p.Hello, "").descriptors == ["ipc:0:1"]
    heir.say(p.Ready())
    with socket.socket(fileno=heir.pipe("ipc:0:1")) as channel:
        assert read_until(channel.fileno(), b"never") == b"last words"
    heir.say(p.Acknowledge("0", 1))
    heir.settled()
    heir.die()
    assert stage.ready_with().descriptors == []


def test_a_program_that_was_never_executed_leaves_no_channel(puppets: Puppets, stage: Stage) -> None:
    puppets.daemon.say(puppets.order(channel=True, argv=["/nonexistent"]))
    puppets.daemon.find(p.Failed)
    puppets.daemon.settled()
    puppets.daemon.die()
    assert stage.ready_with().descriptors == []


# ── notify ───────────────────────────────────────────────────────────────────────────────────────────────────────

NOTIFY = """
s = socket(AF_UNIX, SOCK_DGRAM)
s.sendto(b'READY=1', b'\\0' + os.environ['NOTIFY_SOCKET'][1:].encode())
"""


def sender(fd: int) -> tuple[bytes, int, int]:
    """A notification, and pid and uid of who sent it."""
    await_readable(fd)
    with socket.socket(fileno=os.dup(fd)) as ours:
        data, ancillary, _, _ = ours.recvmsg(100, 100)
    ((_, kind, credentials),) = ancillary
    assert kind == socket.SCM_CREDENTIALS
    pid, uid, _ = struct.unpack("=iII", credentials)
    return data, pid, uid


def test_what_is_notified_comes_with_who_said_it(both: Puppets) -> None:
    program = both.start(notify=True)
    program(NOTIFY)
    fd = both.daemon.pipe("notify:0")
    assert sender(fd) == (b"READY=1", program.pid, program("os.geteuid()"))
    os.close(fd)


@ROOT_ONLY
def test_any_user_may_notify_and_the_next_run_has_the_same_address(puppets: Puppets) -> None:
    first = puppets.start(notify=True)
    second = puppets.start(notify=True, run=2, uid=65534, gid=65534, groups=[])
    assert first("os.environ['NOTIFY_SOCKET']") == second("os.environ['NOTIFY_SOCKET']")
    second(NOTIFY)
    fd = puppets.daemon.pipe("notify:0")
    assert sender(fd) == (b"READY=1", second.pid, 65534)
    os.close(fd)


# ── asked for by the channel ─────────────────────────────────────────────────────────────────────────────────────


def listener(puppets: Puppets, url: str, key: str = "0") -> socket.socket:
    puppets.daemon.say(p.Listen(key, 1, url))
    return socket.socket(fileno=puppets.daemon.descriptor(f"listen:{key}:1:{url}"))


def refusal(puppets: Puppets, url: str, key: str = "0", run: int = 1) -> str:
    puppets.daemon.say(p.Listen(key, run, url))
    refused = puppets.daemon.find(p.Refused, key)
    assert (refused.run, refused.url) == (run, url)
    return errno.errorcode[refused.errno]


@pytest.mark.parametrize("trap", [True, False])
def test_a_listener_that_is_asked_for_is_that_of_the_slot(puppets: Puppets, trap: bool) -> None:
    port = free_port()
    other = puppets.server(port, 1)
    puppets.start(0, trap=trap)
    with listener(puppets, f"tcp://127.0.0.1:{port}") as sock:
        if trap:
            assert served(port) == {other.name: 40}, "nothing comes until the program listens"
            return
        names = set[str]()
        while len(names) < 2:
            client = connect(port)
            try:
                sock.setblocking(False)
                sock.accept()[0].close()
                client.close()
                names.add("ours")
            except BlockingIOError:
                names.add(answer(client))


def test_what_cannot_be_listened_on_is_refused(puppets: Puppets, short_dir: str) -> None:
    puppets.start(0)
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        assert refusal(puppets, f"tcp://127.0.0.1:{foreign.getsockname()[1]}") == "EADDRINUSE"
    assert refusal(puppets, "tcp://192.0.2.1:8000") == "EADDRNOTAVAIL"
    assert refusal(puppets, "tcp://[fe80::1%lo]:8000") == "EINVAL"
    assert refusal(puppets, f"tcp://127.0.0.1:{free_port()}", "nobody") == "ESRCH"
    assert refusal(puppets, f"tcp://127.0.0.1:{free_port()}", run=7) == "ESRCH"
    listener(puppets, f"unix://{short_dir}/s").close()


@ROOT_ONLY
def test_asking_gives_no_more_rights_than_binding(puppets: Puppets, short_dir: str) -> None:
    nobody = {"uid": 65534, "gid": 65534, "groups": []}
    puppets.start(0, **nobody)
    assert refusal(puppets, "tcp://127.0.0.1:85") == "EACCES"
    assert refusal(puppets, f"unix://{short_dir}/s") == "EACCES"
    assert not os.path.exists(f"{short_dir}/s")
    puppets.start(1, **nobody, ports=[85])
    listener(puppets, "tcp://127.0.0.1:85", "1").close()


# ── the preparation alone ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def made() -> Iterator[tuple[FdStore, Slots]]:
    store, slots = FdStore(), Slots(Poller(), lambda _: None)
    yield store, slots
    store.close()
    slots.close()


def order(**more: Any) -> p.Spawn:
    return p.Spawn("0", 1, ["x"], {}, "/", "", "", group="app")._replace(**more)


def test_the_channel_comes_behind_the_sockets(made: tuple[FdStore, Slots]) -> None:
    sockets = declared(f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}")
    it = inheritance.prepare(order(sockets=sockets, channel=True), *made)
    assert it.env["NODE_CHANNEL_FD"] == "5"
    assert it.passed[2:] == [each.fileno() for each in it.lent]
    assert len(it.passed) == 3
    assert (it.stdout, it.stderr) == (-1, -1)
    for each in it.lent:
        each.close()


def test_who_asks_for_nothing_gets_nothing(made: tuple[FdStore, Slots]) -> None:
    assert inheritance.prepare(order(trap=True), *made) == inheritance.Inheritance(-1, -1, [], {}, [])
    assert made[0].names() == []
