"""The event bus: every change goes out once, numbered, on a PUB socket. Nobody has to listen."""

import zmq
import zmq.asyncio

from pmx.daemon.clock import wall
from pmx.wire.codec import encode_event
from pmx.wire.messages import Event

_HIGH_WATER = 10_000
"""Events kept for a slow subscriber; beyond it the newest are dropped for that one, which sees a gap in `seq`."""


class Bus:
    def __init__(self, context: zmq.asyncio.Context, address: str) -> None:
        # Synchronous: PUB never blocks, it drops. Made by the context, which otherwise would wait for it for ever.
        self._socket: zmq.Socket[bytes] = context.socket(zmq.PUB, socket_class=zmq.Socket)  # type: ignore[arg-type, assignment]
        self._socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.bind(address)
        self._seq = 0

    def publish(self, topic: str, kind: str, data: dict[str, object]) -> None:
        """Tell everybody who subscribed to a prefix of `topic`."""
        self._seq += 1
        self._socket.send_multipart([topic.encode(), encode_event(Event(self._seq, wall(), kind, data))], zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close()
