"""Every error a person can meet, and the exit status it ends a command with.

    PmxError            1   the command failed; the parent of all others
    ├── UsageProblem    2   the command line is wrong
    ├── NotFound        3   nothing matches the selector
    ├── Conflict        4   the name is taken, or another operation is in the way
    ├── ProgramProblem  5   the program cannot be run: missing file, no permission, bad interpreter
    ├── Refused         6   not permitted: a home that is not ours, a foreign user at the socket
    ├── DaemonProblem   7   the daemon cannot be started or reached
    ├── ProgramDied     8   the program was started and died at once
    ├── TookTooLong     9   something did not finish in its time
    ├── ResourceProblem 10  the machine has none left: disk, descriptors, memory, processes
    └── InternalError   70  a bug in pmx

130 is the status of a command that was interrupted with Ctrl-C.

The message is one sentence of the form "cannot <do> <what>: <why>"; the hint says what to do next.
An error crosses the control socket as ``{"code", "message", "hint"}`` and comes out as the same class.
"""

INTERRUPTED = 130


class PmxError(Exception):
    """Something a person should be told, in one sentence, with what to do next in `hint`."""

    code = "failed"
    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_wire(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


class UsageProblem(PmxError):
    code = "usage"
    exit_status = 2


class NotFound(PmxError):
    code = "not_found"
    exit_status = 3


class Conflict(PmxError):
    code = "conflict"
    exit_status = 4


class ProgramProblem(PmxError):
    code = "program"
    exit_status = 5


class Refused(PmxError):
    code = "refused"
    exit_status = 6


class DaemonProblem(PmxError):
    code = "daemon"
    exit_status = 7


class ProgramDied(PmxError):
    code = "died"
    exit_status = 8


class TookTooLong(PmxError):
    code = "timeout"
    exit_status = 9


class ResourceProblem(PmxError):
    code = "resource"
    exit_status = 10


class InternalError(PmxError):
    code = "internal"
    exit_status = 70


BY_CODE: dict[str, type[PmxError]] = {
    cls.code: cls
    for cls in (
        PmxError,
        UsageProblem,
        NotFound,
        Conflict,
        ProgramProblem,
        Refused,
        DaemonProblem,
        ProgramDied,
        TookTooLong,
        ResourceProblem,
        InternalError,
    )
}


def from_wire(data: dict[str, str]) -> PmxError:
    """The error that `to_wire` described. An unknown code, from a newer daemon, becomes a plain PmxError."""
    cls = BY_CODE.get(data.get("code", ""), PmxError)
    return cls(data.get("message", "unknown error"), data.get("hint", ""))
