"""The words of core.lifecycle: what a program is wanted to be and is, what happens to it, what is to be done.

Commands are imperative, facts are past participles. Every fact and every action names the run it is about.
"""

from dataclasses import dataclass
from enum import StrEnum

from pmx.core.restart import Exit, Record
from pmx.core.spec import RestartPolicy, StopPolicy


class Wanted(StrEnum):
    UP = "up"
    DOWN = "down"


class Phase(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    ONLINE = "online"
    STOPPING = "stopping"
    KILLING = "killing"
    CLEANING = "cleaning"
    BACKOFF = "backoff"
    COMPLETED = "completed"
    ERRORED = "errored"


RESTING = frozenset({Phase.STOPPED, Phase.COMPLETED, Phase.ERRORED})
"""Phases that nothing but a command leaves. No process exists in them, nor in BACKOFF."""


@dataclass(frozen=True, slots=True)
class Policy:
    restart: RestartPolicy = RestartPolicy()
    stop: StopPolicy = StopPolicy()


@dataclass(frozen=True, slots=True)
class Machine:
    policy: Policy = Policy()
    salt: int = 0
    wanted: Wanted = Wanted.DOWN
    phase: Phase = Phase.STOPPED
    run: int = 0
    pid: int | None = None
    since: float = 0.0  # when the phase was entered, monotonic
    deadline: float | None = None
    restarts: int = 0
    record: Record = Record()
    ended: Exit | None = None  # how the latest finished run ended
    shown: str = ""  # the cause of the present phase, for people


@dataclass(frozen=True, slots=True)
class Start:
    cause: str = "start"


@dataclass(frozen=True, slots=True)
class Stop:
    cause: str = "stop"


@dataclass(frozen=True, slots=True)
class Restart:
    cause: str = "restart"


@dataclass(frozen=True, slots=True)
class Spawned:
    run: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    run: int
    error: str


@dataclass(frozen=True, slots=True)
class Exited:
    run: int
    code: int | None = None
    signal: str = ""
    leftover: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    run: int


@dataclass(frozen=True, slots=True)
class Elapsed:
    pass


Event = Start | Stop | Restart | Spawned | SpawnFailed | Exited | Gone | Elapsed


class Whom(StrEnum):
    """Whom a signal is for."""

    GROUP = "group"  # the process group of the living main process
    STRAYS = "strays"  # descendants that left the group; the group has had its signal
    ALL = "all"  # both


@dataclass(frozen=True, slots=True)
class Spawn:
    run: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send the stop signal of the policy."""

    run: int
    whom: Whom


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL to everything of the run."""

    run: int


@dataclass(frozen=True, slots=True)
class Changed:
    run: int
    old: Phase
    new: Phase
    cause: str


Action = Spawn | Terminate | Kill | Changed
Step = tuple[Machine, tuple[Action, ...]]


class Impossible(Exception):
    """An event that cannot happen in this phase. The machine is unchanged."""

    def __init__(self, machine: Machine, event: Event) -> None:
        super().__init__(f"internal error: {event} cannot happen while {machine.phase} in run {machine.run}")
