"""The words each contender understands: which command lines start it, fill it, list it and end it.

Nothing is run here: benchmarks.session runs the commands, so that all are timed in the same way.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import installs

Argv = list[str]


class Contender(Protocol):
    """A process manager. `home` is a private directory of one session; a method may write configuration into it."""

    @property
    def name(self) -> str: ...

    def environment(self, home: Path) -> dict[str, str]:
        """What its commands need beside the clean environment."""

    def start_daemon(self, home: Path) -> Argv:
        """Start a daemon without programs."""

    def ping(self, home: Path) -> Argv:
        """Succeeds once the daemon takes commands."""

    def start_programs(self, home: Path, count: int, argv: Argv) -> Argv:
        """One command that makes a running daemon start `count` processes of `argv`."""

    def cold_start(self, home: Path, argv: Argv) -> Argv:
        """One command from no daemon to one running program."""

    def listings(self, home: Path) -> dict[str, Argv]:
        """What people and scripts ask for, the list for people first."""

    def stop(self, home: Path) -> Argv:
        """End all programs and the daemon."""


@dataclass(frozen=True)
class Pmx:
    command: Path
    name: str = "pmx"

    def environment(self, home: Path) -> dict[str, str]:
        return {"PMX_HOME": str(home)}

    def start_daemon(self, home: Path) -> Argv:
        return [str(self.command), "ping"]

    ping = start_daemon

    def start_programs(self, home: Path, count: int, argv: Argv) -> Argv:
        return [str(self.command), "start", argv[0], "-n", "app", "-i", str(count), "--", *argv[1:]]

    def cold_start(self, home: Path, argv: Argv) -> Argv:
        return self.start_programs(home, 1, argv)

    def listings(self, home: Path) -> dict[str, Argv]:
        return {"ls": [str(self.command), "ls"], "jlist": [str(self.command), "jlist"]}

    def stop(self, home: Path) -> Argv:
        return [str(self.command), "kill"]


@dataclass(frozen=True)
class Pm2(Pmx):
    """The commands that pmx took over are the same; its limit of 16 crashes is lifted, or it would soon be idle."""

    name: str = "pm2"

    def environment(self, home: Path) -> dict[str, str]:
        return {"PM2_HOME": str(home)}

    def start_programs(self, home: Path, count: int, argv: Argv) -> Argv:
        command = [str(self.command), "start", argv[0], "-n", "app", "-i", str(count), "--max-restarts", "1000000"]
        return [*command, *(["--", *argv[1:]] if argv[1:] else [])]  # it takes a last "--" for a script's name


_SUPERVISOR = """\
[supervisord]
logfile = {home}/supervisord.log
pidfile = {home}/supervisord.pid
minfds = 8192
[unix_http_server]
file = {home}/s.sock
[supervisorctl]
serverurl = unix://{home}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
_SUPERVISOR_PROGRAM = """\
[program:app]
command = {command}
process_name = %(program_name)s_%(process_num)d
numprocs = {count}
startretries = 1000000
"""


@dataclass(frozen=True)
class Supervisor:
    bin: Path
    name: str = "supervisor"

    def _ctl(self, home: Path, verb: str) -> Argv:
        return [str(self.bin / "supervisorctl"), "-c", f"{home}/supervisord.conf", verb]

    def _configure(self, home: Path, program: str = "") -> None:
        (home / "supervisord.conf").write_text(_SUPERVISOR.format(home=home) + program)

    def environment(self, home: Path) -> dict[str, str]:
        return {}

    def start_daemon(self, home: Path) -> Argv:
        self._configure(home)
        return [str(self.bin / "supervisord"), "-c", f"{home}/supervisord.conf"]

    def ping(self, home: Path) -> Argv:
        return self._ctl(home, "pid")

    def start_programs(self, home: Path, count: int, argv: Argv) -> Argv:
        self._configure(home, _SUPERVISOR_PROGRAM.format(command=shlex.join(argv), count=count))
        return self._ctl(home, "update")

    def cold_start(self, home: Path, argv: Argv) -> Argv:
        command = self.start_daemon(home)
        self.start_programs(home, 1, argv)
        return command

    def listings(self, home: Path) -> dict[str, Argv]:
        return {"status": self._ctl(home, "status")}

    def stop(self, home: Path) -> Argv:
        return self._ctl(home, "shutdown")


_CIRCUS = """\
[circus]
endpoint = ipc://{home}/control.sock
pubsub_endpoint = ipc://{home}/events.sock
statsd = False
"""
_CIRCUS_PROGRAM = """\
[watcher:app]
cmd = {command}
numprocesses = {count}
max_retry = -1
"""


@dataclass(frozen=True)
class Circus:
    bin: Path
    name: str = "circus"

    def _ctl(self, home: Path, *words: str) -> Argv:
        # Its own limit of 5 s is too short for 1,000 processes.
        return [str(self.bin / "circusctl"), "--endpoint", f"ipc://{home}/control.sock", "--timeout", "120", *words]

    def _configure(self, home: Path, program: str = "") -> None:
        (home / "circus.ini").write_text(_CIRCUS.format(home=home) + program)

    def environment(self, home: Path) -> dict[str, str]:
        return {}

    def start_daemon(self, home: Path) -> Argv:
        self._configure(home)
        log = ["--log-output", f"{home}/circusd.log"]
        return [str(self.bin / "circusd"), "--daemon", *log, f"{home}/circus.ini"]

    def ping(self, home: Path) -> Argv:
        return self._ctl(home, "numwatchers")

    def start_programs(self, home: Path, count: int, argv: Argv) -> Argv:
        self._configure(home, _CIRCUS_PROGRAM.format(command=shlex.join(argv), count=count))
        return self._ctl(home, "reloadconfig", "--waiting")

    def cold_start(self, home: Path, argv: Argv) -> Argv:
        command = self.start_daemon(home)
        self.start_programs(home, 1, argv)
        return command

    def listings(self, home: Path) -> dict[str, Argv]:
        return {"status": self._ctl(home, "status"), "stats": self._ctl(home, "stats")}

    def stop(self, home: Path) -> Argv:
        return self._ctl(home, "quit", "--waiting")


def make(name: str, pmx: Path | None = None) -> Contender:
    """The contender of that name, installed when need be. Raises KeyError, or Unavailable."""
    return _MAKERS[name](pmx)


_MAKERS: dict[str, Callable[[Path | None], Contender]] = {
    "pmx": lambda pmx: Pmx(pmx or installs.pmx()),
    "pm2": lambda _: Pm2(installs.pm2()),
    "supervisor": lambda _: Supervisor(installs.supervisor()),
    "circus": lambda _: Circus(installs.circus()),
}
NAMES = tuple(_MAKERS)
