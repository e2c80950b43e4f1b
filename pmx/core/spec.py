"""What a program is: frozen, normalised, free of paths to look up and of units to parse.

The command line (and later the ecosystem file) is the edge where a person's words become these values;
from there on they only travel. Durations are seconds, signals are names. Every field of a policy says in its
metadata what it means: the table of defaults in docs/reference/defaults.md is generated from here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

AUTO_SIGNAL = "auto"


def _doc(default: Any, text: str) -> Any:
    return field(default=default, metadata={"doc": text})


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a program that ended by itself is started again. PM2's names; `docs/explanation/restarts.md` tells why."""

    autorestart: bool = _doc(True, "start the program again when it ends by itself")
    min_uptime: float = _doc(1.0, "a run shorter than this is a crash that counts towards max_restarts")
    max_restarts: int = _doc(16, "restarts after such crashes; one more: errored. -1: no limit")
    restart_window: float = _doc(0.0, "how long a crash counts; 0: until a run of reset_after, whenever that is")
    restart_delay: float = _doc(0.0, "a fixed delay before each restart; 0 means the back-off below")
    backoff_initial: float = _doc(0.1, "first delay of the exponential back-off")
    backoff_factor: float = _doc(1.5, "each further delay is this much longer")
    backoff_max: float = _doc(15.0, "no delay is longer than this")
    backoff_jitter: float = _doc(0.1, "a delay is shortened by up to this share, so that a crowd spreads out")
    reset_after: float = _doc(30.0, "a run of this length, and of min_uptime, forgets earlier crashes")
    stop_exit_codes: tuple[int, ...] = _doc((), "exit codes that mean done: completed, not restarted")


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """How a program is told to end."""

    signal: str = _doc(
        AUTO_SIGNAL, "auto: SIGTERM when the program catches it, else SIGINT when it catches that, else SIGTERM"
    )
    kill_timeout: float = _doc(10.0, "time to end by itself before SIGKILL")
    treekill: bool = _doc(True, "the whole process group and descendants that left it end with the program")
    shutdown_with_message: bool = _doc(False, "a node program is told by the message 'shutdown' instead of the signal")


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """Where output goes: absolute paths, or empty for the default under the home, or /dev/null."""

    out_file: str = ""
    error_file: str = ""


@dataclass(frozen=True, slots=True)
class SharePolicy:
    """How the instances of an application share its ports. `docs/explanation/clusters.md` tells how it works."""

    share: bool = _doc(False, "pmx makes the listeners, one for each instance; on with instances, port or listen")
    balance: str = _doc("random", "how the kernel picks an instance: random, ip, least_conn, or shared, one queue")
    weights: tuple[int, ...] = _doc((), "share of connections by instance number, as in 3,1; 1 for those beyond")
    port: int = _doc(0, "the PORT variable of its environment; 0: not set")
    # (name for LISTEN_FDNAMES, url: tcp://host:port or unix:///path), opened before the first spawn
    listen: tuple[tuple[str, str], ...] = _doc((), "sockets opened before the first start, passed as LISTEN_FDS")


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """What only node and bun programs have."""

    channel: bool = _doc(False, "an IPC channel, for process.send and process.on('message'); on for node and bun")
    cluster: bool = _doc(False, "cluster.isWorker is true; its ports come over the channel")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a program runs as. None leaves the daemon's own; only root may say otherwise."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What is executed. `env` is the whole environment but for what pmx adds per instance; never shown."""

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str] = field(default_factory=dict, repr=False)
    script: str = ""
    interpreter: str = "none"
    umask: int = 0o022
    identity: Identity = Identity()
    # (RLIMIT name without the prefix, soft, hard); -1 is unlimited
    limits: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class AppSpec:
    """One application: a name, a command, and how many instances of it are wanted."""

    name: str
    command: Command
    namespace: str = "default"
    instances: int = 1
    restart: RestartPolicy = RestartPolicy()
    stop: StopPolicy = StopPolicy()
    logs: LogPolicy = LogPolicy()
    sharing: SharePolicy = SharePolicy()
    node: NodePolicy = NodePolicy()
    instance_var: str = "NODE_APP_INSTANCE"
    increment_var: str = ""  # a variable of `env` that each instance gets with its number added


def to_wire(value: Any) -> dict[str, Any]:
    """A spec, a policy or a machine as JSON-ready data. Shares dicts with `value`: do not change the result.

    dataclasses.asdict copies deeply, an environment included, and costs ten times as much; a snapshot is written
    after every change.
    """
    return {name: _plain(getattr(value, name)) for name in value.__slots__}


def _plain(value: Any) -> Any:
    return to_wire(value) if is_dataclass(value) else value


_T = TypeVar("_T")


def from_wire(cls: type[_T], data: object) -> _T:
    """The spec that `to_wire` described. Unknown keys, from a newer pmx, are dropped; a wrong type is a TypeError."""
    if not isinstance(data, dict):
        raise TypeError(f"{cls.__name__} is {type(data).__name__}, not dict")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # cls is always one of the dataclasses above
    return cls(**{key: _shape(hints[key], value, key) for key, value in data.items() if key in known})


def _shape(hint: Any, value: Any, key: str) -> Any:
    """`value`, as JSON has it, in the shape `hint` asks for: lists become tuples, dicts become dataclasses."""
    if is_dataclass(hint) and isinstance(value, dict):
        return from_wire(hint, value)  # type: ignore[arg-type]  # is_dataclass also admits instances
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return None if value is None else _shape(args[0], value, key)
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise TypeError(f"{key} has {len(value)} parts, not {len(inner)}")
        return tuple(_shape(each, item, key) for each, item in zip(inner, value, strict=True))
    if origin is dict and isinstance(value, dict) and not (_all(value, args[0]) and _all(value.values(), args[1])):
        raise TypeError(f"{key} holds something that is not {args[1].__name__}")
    wanted = (int, float) if hint is float else origin or hint
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{key} is {type(value).__name__}, not {getattr(hint, '__name__', hint)}")
    return value


def _all(values: Iterable[object], wanted: type) -> bool:
    return all(isinstance(value, wanted) for value in values)
