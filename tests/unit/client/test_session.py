import json
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq

from pmx import errors
from pmx.client import session
from pmx.client.session import Session
from pmx.paths import Home, create
from pmx.wire.codec import encode_answer
from pmx.wire.messages import Answer, Failure, Progress, Reply
from tests.unit.support import LIMIT

pytestmark = pytest.mark.usefixtures("nothing_left")

Play = Callable[["Router"], None]


class Router:
    """A daemon's control socket, in a thread of the test."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", home: Home) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.bind(f"ipc://{home.control}")
        self.identity = b""

    def hear(self) -> dict[str, object]:
        assert self.socket.poll(int(LIMIT * 1000))
        self.identity, body = self.socket.recv_multipart()
        request: dict[str, object] = json.loads(body)
        return request

    def say(self, *answers: Answer | bytes) -> None:
        for answer in answers:
            self.socket.send_multipart([self.identity, answer if isinstance(answer, bytes) else encode_answer(answer)])


@pytest.fixture
def home(short_home: Home) -> Home:
    create(short_home)
    return short_home


@pytest.fixture
def daemon(home: Home) -> Iterator[Callable[[Play], None]]:
    """Run a daemon that plays the given part, then closes its socket."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    threads: list[threading.Thread] = []
    wrong: list[BaseException] = []

    def run(play: Play) -> None:
        router = Router(context, home)

        def act() -> None:
            try:
                play(router)
            except BaseException as error:  # noqa: BLE001  # told in the test's own thread
                wrong.append(error)
            finally:
                router.socket.close(linger=int(LIMIT * 1000))

        threads.append(threading.Thread(target=act))
        threads[-1].start()

    yield run
    for thread in threads:
        thread.join()
    context.term()
    assert wrong == []


Daemon = Callable[[Play], None]


def never() -> bool:
    return False


def test_the_result_of_a_verb(home: Home, daemon: Daemon) -> None:
    def play(router: Router) -> None:
        assert router.hear() == {"kind": "request", "id": "1", "verb": "ls", "args": {"full": True}, "version": 1}
        router.say(Reply("1", [1, 2]))
        assert router.hear()["id"] == "2"
        router.say(Reply("2", None))

    daemon(play)
    with Session(home, never) as asking:
        assert asking.ask("ls", {"full": True}) == [1, 2]
        assert asking.ask("ping") is None


def test_progress_is_passed_on_or_ignored(home: Home, daemon: Daemon) -> None:
    def play(router: Router) -> None:
        for number in ("1", "2"):
            router.hear()
            router.say(Progress(number, "half"), Progress(number, "done"), Reply(number, 0))

    daemon(play)
    told: list[str] = []
    with Session(home, never) as asking:
        assert asking.ask("stop", {}, told.append) == 0
        assert asking.ask("stop") == 0
    assert told == ["half", "done"]


def test_a_failure_is_raised_as_what_it_is(home: Home, daemon: Daemon) -> None:
    def play(router: Router) -> None:
        router.hear()
        router.say(Failure("1", errors.NotFound("cannot find web: no", "look").to_wire()))

    daemon(play)
    with Session(home, never) as asking, pytest.raises(errors.NotFound, match="cannot find web: no") as caught:
        asking.ask("stop")
    assert caught.value.hint == "look"


def test_a_failure_that_names_no_request_is_ours(home: Home, daemon: Daemon) -> None:
    """The daemon could not read the request, so it does not know its number."""

    def play(router: Router) -> None:
        router.hear()
        router.say(Failure("", errors.UsageProblem("cannot read the request: no").to_wire()))

    daemon(play)
    with Session(home, never) as asking, pytest.raises(errors.UsageProblem):
        asking.ask("stop")


def test_answers_to_other_requests_are_passed_over(home: Home, daemon: Daemon) -> None:
    def play(router: Router) -> None:
        router.hear()
        router.say(Reply("0", "old"), Failure("7", {}), Progress("9", "x"), Reply("1", "mine"))

    daemon(play)
    told: list[str] = []
    with Session(home, never) as asking:
        assert asking.ask("ls", {}, told.append) == "mine"
    assert told == []


def test_a_daemon_that_dies_over_a_request_is_told_at_once(home: Home, daemon: Daemon) -> None:
    def play(router: Router) -> None:
        router.hear()

    daemon(play)
    with Session(home, never) as asking, pytest.raises(errors.DaemonProblem, match="cannot tell what became of stop"):
        asking.ask("stop")


def test_a_daemon_that_is_busy_is_waited_for(home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PING_EVERY", 0.01)
    monkeypatch.setattr(session, "SILENCE", LIMIT)

    def play(router: Router) -> None:
        assert router.hear()["verb"] == "stop"
        for _ in range(3):
            ping = router.hear()
            assert ping["verb"] == "ping"
            router.say(Reply(str(ping["id"]), {}))
        router.say(Reply("1", "done"))

    daemon(play)
    with Session(home, never) as asking:
        assert asking.ask("stop") == "done"


def test_a_daemon_that_hangs_is_given_up(home: Home, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PING_EVERY", 0.01)
    monkeypatch.setattr(session, "SILENCE", 0.03)
    over = threading.Event()

    def play(router: Router) -> None:
        router.hear()
        assert over.wait(LIMIT)

    daemon(play)
    with Session(home, never) as asking, pytest.raises(errors.TookTooLong, match="has not answered"):
        asking.ask("stop")
    over.set()


def test_where_nobody_is_nobody_is_waited_for(home: Home) -> None:
    with pytest.raises(errors.DaemonProblem, match="there is no daemon any more"):
        Session(home, never)


def test_a_daemon_that_is_being_restarted_is_waited_for(home: Home, daemon: Daemon) -> None:
    looks: list[int] = []

    def play(router: Router) -> None:
        router.hear()
        router.say(Reply("1", "at last"))

    def alive() -> bool:
        looks.append(1)
        if len(looks) == 3:
            daemon(play)
        return True

    with Session(home, alive) as asking:
        assert asking.ask("ping") == "at last"
    assert len(looks) >= 3


def test_waiting_has_an_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_WITHIN", 0.05)
    with pytest.raises(errors.TookTooLong, match="cannot reach the daemon"):
        Session(home, lambda: True)


@pytest.mark.skipif(os.geteuid() != 0, reason="root takes the rights of a plain user here")
def test_a_socket_of_somebody_else_is_refused(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(home.control)
        listener.listen()
        os.setresuid(65534, 65534, 0)
        try:
            with pytest.raises(errors.Refused, match="Permission denied"):
                Session(home, never)
        finally:
            os.setresuid(0, 0, 0)
