import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import zmq
import zmq.asyncio

from pmx import errors
from pmx.client.zmtp import Socket
from pmx.daemon.control import Control, Tell, check_peer
from pmx.wire.codec import decode_answer, encode_request
from pmx.wire.messages import Answer, Failure, Progress, Reply, Request
from tests.unit.support import LIMIT

pytestmark = pytest.mark.usefixtures("nothing_left")

Ask = Callable[..., list[Answer]]


async def dispatch(request: Request, tell: Tell) -> Any:
    """Verbs of a daemon that has none of its own."""
    match request.verb:
        case "echo":
            return request.args
        case "progress":
            await tell("half")
            await tell("done")
            return None
        case "refuse":
            raise errors.Conflict("cannot do it: somebody else does", "wait")
        case "bug":
            raise ZeroDivisionError("in a verb")
        case "unsendable":
            return object()
        case "wait":
            await asyncio.Event().wait()
    return None


def serve(directory: str, talk: Callable[[str], None]) -> None:
    """Run a control socket, and `talk` in a thread of its own as its client."""

    async def main() -> None:
        context = zmq.asyncio.Context()
        try:
            path = f"{directory}/c"
            control = Control(context, f"ipc://{path}", dispatch)
            serving = asyncio.create_task(control.serve())
            try:
                await asyncio.to_thread(talk, path)
            finally:
                serving.cancel()
                await control.finish()
        finally:
            context.destroy(linger=0)

    asyncio.run(main())


def ask(socket: Socket, frame: bytes) -> list[Answer]:
    """Send, and take everything until the answer that is the last."""
    socket.send(frame)
    answers: list[Answer] = []
    while not answers or isinstance(answers[-1], Progress):
        answers.append(decode_answer(socket.receive(LIMIT)[-1]))
    return answers


def conversation(directory: str, *frames: bytes) -> list[list[Answer]]:
    """The answers to each of `frames`, over one connection."""
    got: list[list[Answer]] = []

    def talk(path: str) -> None:
        client = Socket(path, "DEALER", LIMIT)
        try:
            got.extend(ask(client, frame) for frame in frames)
        finally:
            client.close()

    serve(directory, talk)
    return got


def request(verb: str, number: str = "1", **args: Any) -> bytes:
    return encode_request(Request(number, verb, args))


def test_a_request_is_dispatched_and_answered(short_dir: str) -> None:
    assert conversation(short_dir, request("echo", a=[1, "ä"])) == [[Reply("1", {"a": [1, "ä"]})]]


def test_progress_comes_before_the_answer(short_dir: str) -> None:
    assert conversation(short_dir, request("progress")) == [
        [Progress("1", "half"), Progress("1", "done"), Reply("1", None)]
    ]


def test_a_problem_is_answered_as_it_is(short_dir: str) -> None:
    ((answer,),) = conversation(short_dir, request("refuse"))
    assert isinstance(answer, Failure)
    error = errors.from_wire(answer.error)
    assert isinstance(error, errors.Conflict)
    assert (error.message, error.hint) == ("cannot do it: somebody else does", "wait")


@pytest.mark.parametrize("frame", [b"", b"\xff", b"{", b"[]", b'{"id":"1"}', json.dumps({"id": 1}).encode()])
def test_what_is_no_request_is_answered_and_harms_nobody(short_dir: str, frame: bytes) -> None:
    (failure,), (reply,) = conversation(short_dir, frame, request("echo", "2"))
    assert isinstance(failure, Failure)
    assert failure.id == ""
    assert isinstance(errors.from_wire(failure.error), errors.UsageProblem)
    assert reply == Reply("2", {})


def test_a_bug_in_a_verb_is_told_and_logged_and_the_daemon_goes_on(
    short_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    (failure,), (reply,) = conversation(short_dir, request("bug"), request("echo", "2"))
    assert isinstance(failure, Failure)
    error = errors.from_wire(failure.error)
    assert isinstance(error, errors.InternalError)
    assert error.message == "internal error: ZeroDivisionError: in a verb"
    assert reply == Reply("2", {})
    assert "Traceback" in caplog.text


def test_a_slow_request_holds_up_nobody(short_dir: str) -> None:
    def talk(path: str) -> None:
        slow, quick = Socket(path, "DEALER", LIMIT), Socket(path, "DEALER", LIMIT)
        try:
            slow.send(request("progress", "0"))
            assert decode_answer(slow.receive(LIMIT)[-1]) == Progress("0", "half")
            quick.send(request("echo"))
            assert decode_answer(quick.receive(LIMIT)[-1]) == Reply("1", {})
        finally:
            slow.close()
            quick.close()

    serve(short_dir, talk)


def test_a_client_that_leaves_is_nobodys_trouble(short_dir: str) -> None:
    def talk(path: str) -> None:
        gone = Socket(path, "DEALER", LIMIT)
        gone.send(request("progress"))
        gone.close()
        client = Socket(path, "DEALER", LIMIT)
        try:
            assert ask(client, request("echo")) == [Reply("1", {})]
        finally:
            client.close()

    serve(short_dir, talk)


# ── who is asking ────────────────────────────────────────────────────────────────────────────────────────────────


def received(directory: str, uid: int) -> "zmq.Frame":
    """A real frame from a client that runs as `uid`."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    try:
        os.chmod(directory, 0o755)
        router.bind(f"ipc://{directory}/r")
        os.chmod(f"{directory}/r", 0o777)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setresuid(uid, uid, uid)
                client = Socket(f"{directory}/r", "DEALER", LIMIT)
                client.send(b"hello")
                client.receive(LIMIT)
                status = 0
            finally:
                os._exit(status)
        assert router.poll(int(LIMIT * 1000))
        identity, frame = router.recv_multipart(copy=False)
        router.send_multipart([identity.bytes, b"bye"])
        assert os.waitpid(pid, 0)[1] == 0
        assert isinstance(frame, zmq.Frame)
        return frame
    finally:
        router.close()
        context.term()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_user_of_the_daemon_is_let_in(short_dir: str) -> None:
    check_peer(received(short_dir, os.geteuid()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
def test_somebody_else_is_refused(short_dir: str) -> None:
    with pytest.raises(errors.Refused, match="cannot obey uid 65534: this daemon belongs to uid 0"):
        check_peer(received(short_dir, 65534))


def test_who_cannot_be_told_is_refused() -> None:
    with pytest.raises(errors.Refused, match="cannot tell who is asking"):
        check_peer(zmq.Frame(b"from nowhere"))


def test_finishing_waits_for_the_requests_under_way(short_dir: str) -> None:
    answers: list[Answer] = []

    async def main() -> None:
        context = zmq.asyncio.Context()
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slow(asked: Request, tell: Tell) -> str:
            began.set()
            await go_on.wait()
            return "at last"

        control = Control(context, f"ipc://{short_dir}/c", slow)
        serving = asyncio.create_task(control.serve())
        asking = asyncio.create_task(asyncio.to_thread(client))
        await began.wait()
        finishing = asyncio.create_task(control.finish())
        go_on.set()
        await finishing
        await asking
        serving.cancel()
        context.destroy(linger=0)

    def client() -> None:
        socket = Socket(f"{short_dir}/c", "DEALER", LIMIT)
        try:
            answers.extend(ask(socket, request("slow")))
        finally:
            socket.close()

    asyncio.run(main())
    assert answers == [Reply("1", "at last")]
