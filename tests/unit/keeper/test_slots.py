"""The listeners of an application: who gets what, and what is left when somebody has gone. The kernel is the judge."""

import errno
import os
import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from pmx.keeper import protocol as p, steering
from pmx.keeper.poller import Poller
from pmx.keeper.slots import Slot, Slots
from pmx.keeper.tracee import Address, address_of
from tests.unit.keeper.puppet import Puppets, answer, connect, free_port, served, waiting
from tests.unit.keeper.stage import Stage
from tests.unit.support import await_readable, children_of, descriptors, leaving_nothing

pytestmark = pytest.mark.usefixtures("nothing_left")


# ── real programs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_crash_costs_no_client_that_waits(both: Puppets) -> None:
    """They are in the queue of the slot, and whoever replaces the dead one serves them."""
    port = free_port()
    one, two = both.server(port, 0), both.server(port, 1)
    both.daemon.say(p.Steer("app", "random", [(0, 1), (1, 0)]))
    both.daemon.settled()
    one.hold()
    clients = [connect(port) for _ in range(30)]
    both.daemon.say(p.Steer("app", "random", []))
    both.daemon.settled()
    both.kill(one, "0")
    assert served(port) == {two.name: 40}, "nothing new goes to who has gone"
    heir = both.server(port, 0, run=2)
    assert Counter(map(answer, clients)) == {heir.name: 30}
    assert served(port).keys() == {heir.name, two.name}


def test_who_binds_what_its_predecessor_listened_on_need_not_listen(puppets: Puppets) -> None:
    """gunicorn asks whether its socket listens already, and then lets it be. It is no sign of readiness."""
    port = free_port()
    puppets.kill(puppets.server(port))
    assert puppets.daemon.find(p.Listening).itself is True
    heir = puppets.start(run=2)
    heir(f"s = socket(); s.bind(('127.0.0.1', {port})); serve(s)")
    assert heir("s.getsockopt(SOL_SOCKET, SO_ACCEPTCONN)") == 1
    told = puppets.daemon.find(p.Listening)
    assert (told.run, told.itself) == (2, False)
    assert served(port, 2) == {heir.name: 2}
    heir("s.listen(); s.listen()")
    assert puppets.daemon.settled() == [told._replace(itself=True)]


def test_when_all_have_crashed_clients_wait_for_who_comes_back(puppets: Puppets) -> None:
    port = free_port()
    for slot in (0, 1):
        puppets.kill(puppets.server(port, slot), str(slot))
    clients = [connect(port) for _ in range(20)]
    names = {puppets.server(port, slot, run=2).name for slot in (0, 1)}
    assert Counter(map(answer, clients)).keys() <= names


def test_a_slot_that_is_released_refuses_its_queue_and_the_others_go_on(puppets: Puppets) -> None:
    port = free_port()
    workers = [puppets.server(port, slot) for slot in range(3)]
    puppets.daemon.say(p.Steer("app", "random", [(0, 0), (1, 1), (2, 0)]))
    puppets.daemon.settled()
    workers[1].hold()
    with waiting(port, 5) as clients:
        puppets.daemon.say(p.Steer("app", "random", []))
        puppets.kill(workers[1], "1")
        puppets.daemon.say(p.Release("app", 1))
        puppets.daemon.settled()
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert served(port).keys() == {workers[0].name, workers[2].name}


def test_a_slot_in_use_is_not_released_but_with_all(puppets: Puppets) -> None:
    port = free_port()
    worker = puppets.server(port, 0)
    puppets.daemon.find(p.Listening)
    puppets.daemon.say(p.Release("app", 0))
    assert puppets.daemon.settled() == [p.Released("app", 0)]
    assert served(port, 2) == {worker.name: 2}
    puppets.kill(worker)
    puppets.daemon.say(p.Release("app"))
    assert puppets.daemon.settled() == [p.Released("app", -1)]
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    with socket.create_server(("127.0.0.1", port)):
        pass  # it is anybody's again


def test_weight_0_gets_nothing_and_weights_count(puppets: Puppets) -> None:
    port = free_port()
    names = [puppets.server(port, slot).name for slot in range(3)]
    puppets.daemon.say(p.Steer("app", "random", [(0, 1), (1, 0), (2, 9)]))
    puppets.daemon.settled()
    found = served(port, 200)
    assert found[names[1]] == 0
    assert 0 < found[names[0]] < found[names[2]]


def test_a_client_stays_with_its_worker_by_address(puppets: Puppets) -> None:
    port = free_port()
    for slot in range(3):
        puppets.server(port, slot, host="0.0.0.0")
    puppets.daemon.say(p.Steer("app", "ip", []))
    puppets.daemon.settled()
    by_client = {}
    for number in range(1, 30):
        source = (f"127.0.1.{number}", 0)
        names = {answer(socket.create_connection(("127.0.0.1", port), 30, source)) for _ in range(3)}
        (by_client[number],) = names
    assert len(set(by_client.values())) == 3


def test_a_new_daemon_is_told_of_every_listener(puppets: Puppets, stage: Stage) -> None:
    ports = [free_port() for _ in range(2)]
    workers = [puppets.server(ports[0], slot) for slot in (0, 1)]
    workers[1](f"t = listener({ports[1]})")
    told = [puppets.daemon.find(p.Listening, key) for key in ("0", "1", "1")]
    puppets.kill(workers[0], "0")
    puppets.daemon.say(p.Acknowledge("0", 1))
    puppets.daemon.settled()
    puppets.daemon.die()
    heir = stage.ready()
    orphan = told[0]._replace(key="", run=0, itself=False)
    assert {heir.hear(p.Listening) for _ in range(3)} == {orphan, *told[1:]}


def test_a_long_life_leaves_no_descriptors_behind(puppets: Puppets, stage: Stage) -> None:
    port = free_port()
    puppets.server(port, 9)

    def cycle(run: int) -> list[str]:
        """What the keeper has open after one program that ended and one that could not be executed."""
        order = puppets.order(0, run=run, channel=True, notify=True, sockets=[("x", f"tcp://127.0.0.1:{port}")])
        puppets.daemon.say(order._replace(argv=["/bin/true"]), order._replace(key="1", argv=["/nonexistent"]))
        puppets.daemon.find(p.Exited)
        puppets.daemon.find(p.Failed, "1")
        while len(children_of(stage.process.pid)) > 2:
            os.sched_yield()  # until the second is buried, too
        puppets.daemon.say(p.Acknowledge("0", run), p.Release("app", 0))
        puppets.daemon.settled()
        return sorted(what.partition(":")[0] for what in descriptors(stage.process.pid).values())

    before = cycle(1)
    for run in range(2, 52):
        after = cycle(run)
    assert after == before, (stage.log(), descriptors(stage.process.pid))


def test_the_descriptor_of_a_filter_is_kept_as_long_as_anybody_has_the_filter(puppets: Puppets, stage: Stage) -> None:
    program = puppets.start()
    program("r, w = os.pipe()\nif os.fork() == 0:\n os.setsid(); os.close(w); os.read(r, 1); os._exit(0)")

    def filters() -> int:
        return list(descriptors(stage.process.pid).values()).count("anon_inode:seccomp notify")

    assert filters() == 1
    with open(f"/proc/{program.pid}/fd/{program('w')}", "wb", buffering=0) as pipe:
        assert puppets.kill(program).signal == 9
        puppets.daemon.settled()
        assert filters() == 1
        assert pipe
    while filters():  # the end of the grandchild is told by the descriptor itself
        os.sched_yield()
    puppets.daemon.settled()


# ── the table alone, against the kernel ──────────────────────────────────────────────────────────────────────────


@contextmanager
def table() -> Iterator[tuple[Slots, list[str]]]:
    logged: list[str] = []
    slots = Slots(Poller(), logged.append)
    try:
        yield slots, logged
    finally:
        slots.close()


def here(port: int) -> Address:
    return address_of(f"tcp://127.0.0.1:{port}")


def who_gets(sockets: dict[int, socket.socket], port: int) -> int:
    """Which of `sockets` a new client comes to."""
    with connect(port):
        ready, _, _ = select.select(list(sockets.values()), [], [], 30)
        (chosen,) = ready
        chosen.accept()[0].close()
    return next(number for number, sock in sockets.items() if sock is chosen)


def order_in_kernel(slots: Slots, listening: list[Slot], port: int) -> list[int]:
    """The numbers of the slots in the order in which the kernel has them."""
    order = []
    for index in range(len(listening)):
        steering.attach(listening[0].sock.fileno(), [(0x06, 0, 0, index)])
        order.append(who_gets({slot.number: slot.sock for slot in listening}, port))
    return order


STEPS = st.lists(st.tuples(st.sampled_from(["listen", "leave", "release", "shutdown"]), st.integers(0, 4)), max_size=12)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_the_numbers_of_the_slots_are_those_of_the_kernel(steps: list[tuple[str, int]]) -> None:
    """Whatever is opened, left, closed and shut down, in any order: who serves gets the connections, and no other."""
    with leaving_nothing():
        play(steps)


def play(steps: list[tuple[str, int]]) -> None:
    with table() as (slots, logged):
        address = here(free_port())
        port = address.port
        for step, number in steps:
            take(slots, address, step, number)
            group = slots.groups.get("app")
            it = group.ports.get(address) if group is not None else None
            if it is None or not it.order:
                with pytest.raises(ConnectionRefusedError):
                    connect(port)
                continue
            assert {slot.number for slot in it.order} == {slot.number for slot in it.slots.values() if slot.listening}
            serving = {slot.number: slot.sock for slot in it.order if slot.users}
            everyone = {slot.number: slot.sock for slot in it.order}
            if serving:
                assert {who_gets(everyone, port) for _ in range(6)} <= serving.keys()
            assert order_in_kernel(slots, it.order, port) == [slot.number for slot in it.order]
            it.steered = None
            slots.steer("app")
        assert logged == []


def take(slots: Slots, address: Address, step: str, number: int) -> None:
    user = (str(number), 1)
    match step:
        case "listen":
            slots.listen(slots.bind("app", number, address), 0, user)
        case "leave":
            slots.leave(user)
        case "release":
            slots.leave(user)
            slots.release("app", number)
        case "shutdown":
            slot = slots.find("app", number, address)
            if slot is not None and slot.listening:
                slot.sock.shutdown(socket.SHUT_RDWR)
                slots._poller.wait(None)


def test_the_first_of_a_group_does_not_join_a_strangers_port() -> None:
    with table() as (slots, _), socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        with pytest.raises(OSError, match="in use") as caught:
            slots.bind("app", 0, here(port))
        assert caught.value.errno == errno.EADDRINUSE
        assert slots.by_inode == {}
        assert slots.find("app", 0, here(port)) is None


def test_closing_all_leaves_nothing(short_dir: str) -> None:
    with table() as (slots, _):
        for number in range(3):
            slots.listen(slots.bind("a", number, here(free_port())), 0, ("x", number))
        slots.bind("b", 0, here(free_port()))
        slots.listen(slots.bind("b", 0, f"unix://{short_dir}/s"), 0, ("y", 1))
        assert Path(f"{short_dir}/s").is_socket()
        slots.close()
        assert slots.groups == {}
        assert slots.by_inode == {}
        assert os.listdir(short_dir) == []


def test_a_path_that_nobody_listens_on_is_taken_over_and_one_in_use_is_not(short_dir: str) -> None:
    path = f"{short_dir}/s"
    with table() as (slots, _), socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(path)
        foreign.listen()
        with pytest.raises(OSError, match="in use"):
            slots.bind("app", 0, f"unix://{path}")
        foreign.close()
        slots.listen(slots.bind("app", 0, f"unix://{path}"), 0, ("x", 1))
        assert os.stat(path).st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_file_that_is_no_socket_is_not_taken_over(short_dir: str) -> None:
    path = Path(f"{short_dir}/s")
    path.write_text("precious")
    with table() as (slots, _), pytest.raises(OSError, match="in use"):
        slots.bind("app", 0, f"unix://{path}")
    assert path.read_text() == "precious"


def test_all_share_one_path(short_dir: str) -> None:
    with table() as (slots, _):
        url = f"unix://{short_dir}/s"
        assert slots.bind("app", 0, url) is slots.bind("app", 3, url)


def test_a_connection_wakes_nobody() -> None:
    """The keeper watches its listeners for what becomes of them; each connection would cost it a turn."""
    poller = Poller()
    slots = Slots(poller, lambda _: None)
    address = here(free_port())
    slot = slots.bind("app", 0, address)
    slots.listen(slot, 0, ("0", 1))
    poller.wait(0.0)  # that it is bound and not connected
    woken: list[int] = []
    slots._edge = lambda slot: woken.append(slot.number)  # type: ignore[method-assign]
    with waiting(address.port, 3):
        await_readable(slot.sock.fileno())
        poller.wait(0.0)
    assert woken == []
    slots.close()
