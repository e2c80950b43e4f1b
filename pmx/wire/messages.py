"""The words on the control socket (ROUTER in the daemon, DEALER in the client) and on the event bus (PUB, SUB).

One ZeroMQ frame is one JSON object. A request names a verb and may be answered by any number of Progress messages
and then by exactly one Reply or Failure, all with its id. Versions, newest last; fields are only ever added, and a
reader ignores what it does not know:

    1   request reply failure progress; verbs ping version ls describe start stop restart delete scale logs kill

An event is two frames: the topic (see `topics`) and the JSON object.
"""

from typing import Any, NamedTuple

VERSION = 1


class Request(NamedTuple):
    id: str
    verb: str
    args: dict[str, Any]
    version: int = VERSION


class Reply(NamedTuple):
    """The request was carried out; `result` is the verb's own."""

    id: str
    result: Any
    version: int = VERSION


class Failure(NamedTuple):
    """The request failed; `error` is what `pmx.errors.from_wire` reads."""

    id: str
    error: dict[str, str]
    version: int = VERSION


class Progress(NamedTuple):
    """Something to show a person while the work goes on."""

    id: str
    text: str
    version: int = VERSION


class Event(NamedTuple):
    """Something happened. `seq` grows by one with each event of a daemon; `at` is seconds since the epoch."""

    seq: int
    at: float
    kind: str
    data: dict[str, Any]


Answer = Reply | Failure | Progress
