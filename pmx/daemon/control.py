"""The control socket: receive, authenticate, decode, dispatch, reply. It knows no verb by name."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import zmq
import zmq.asyncio

from pmx import errors
from pmx.wire.codec import CodecError, decode_request, encode_answer
from pmx.wire.messages import Answer, Failure, Progress, Reply, Request

log = logging.getLogger("pmx.control")

Tell = Callable[[str], Awaitable[None]]
"""Sends a line of progress to whoever asked."""
Dispatch = Callable[[Request, Tell], Awaitable[Any]]

_MAX_MESSAGE = 16 * 1024 * 1024


class Control:
    """The ROUTER socket. Each request runs in a task of its own, so a slow one holds up nobody."""

    def __init__(self, context: zmq.asyncio.Context, address: str, dispatch: Dispatch) -> None:
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE)
        self._socket.bind(address)
        self._dispatch = dispatch
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer requests until cancelled."""
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            task = asyncio.create_task(self._answer(frames))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the requests under way, and close; what was answered is still delivered."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        self._socket.close()

    async def _answer(self, frames: list[zmq.Frame]) -> None:
        identity, body = frames[0].bytes, frames[-1]
        try:
            request = decode_request(body.bytes)
        except CodecError as error:
            log.warning("a client sent something that is no request: %s", error)
            problem = errors.UsageProblem(f"cannot read the request: {error}", "the client may be of another version")
            await self._send(identity, Failure("", problem.to_wire()))
            return
        await self._send(identity, await self._carry_out(request, body, identity))

    async def _carry_out(self, request: Request, body: zmq.Frame, identity: bytes) -> Answer:
        async def tell(text: str) -> None:
            await self._send(identity, Progress(request.id, text))

        try:
            check_peer(body)
            return Reply(request.id, await self._dispatch(request, tell))
        except errors.PmxError as error:
            return Failure(request.id, error.to_wire())
        except Exception as error:  # a bug in one verb must not end the daemon; it is logged and told
            log.exception("%s failed", request.verb)
            bug = errors.InternalError(f"internal error: {type(error).__name__}: {error}", "daemon.log has the details")
            return Failure(request.id, bug.to_wire())

    async def _send(self, identity: bytes, answer: Answer) -> None:
        await self._socket.send_multipart([identity, encode_answer(answer)])


def check_peer(frame: zmq.Frame) -> None:
    """Raise Refused unless the sender is this user or root.

    libzmq asks the kernel (SO_PEERCRED) and tells it as ``localhost:uid:gid:pid``; without an answer nobody is let in.
    """
    try:
        uid = int(str(frame.get("Peer-Address")).split(":")[1])
    except (zmq.ZMQError, IndexError, ValueError):
        raise errors.Refused("cannot tell who is asking, so the request is refused") from None
    if uid not in (os.geteuid(), 0):
        log.warning("refused a request of uid %d", uid)
        raise errors.Refused(f"cannot obey uid {uid}: this daemon belongs to uid {os.geteuid()}")
