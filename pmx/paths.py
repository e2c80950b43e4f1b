"""Every file name pmx uses, and the checks that make a home private.

A home (``$PMX_HOME``, default ``~/.pmx``) is a directory of its own, 0700, owned by the user of the daemon.
The sockets live in it unless its path is too long for a socket address (108 bytes with the closing NUL, unix(7));
then they live in a short private directory named after the home.
"""

import os
import stat

from pmx.errors import Refused, ResourceProblem

_SOCKET_PATH_MAX = 107


class Home:
    """The file names under one home. Creates nothing; see `create`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.logs = f"{root}/logs"
        self.keeper_log = f"{root}/keeper.log"
        self.daemon_log = f"{root}/daemon.log"
        self.snapshot = f"{root}/state.json"
        self.run = _run_directory(root)

    @property
    def control(self) -> str:
        return f"{self.run}/control.sock"

    @property
    def events(self) -> str:
        return f"{self.run}/events.sock"

    def log_file(self, name: str, instance_id: int, stream: str) -> str:
        """The default log of one stream (``out`` or ``error``) of one instance; PM2's names."""
        return f"{self.logs}/{name}-{stream}-{instance_id}.log"


def find() -> Home:
    """The home that this environment names."""
    return Home(os.path.abspath(os.environ.get("PMX_HOME") or os.path.expanduser("~/.pmx")))


def create(home: Home) -> None:
    """Make the directories of `home`, private to us. Raises Refused or ResourceProblem, having changed nothing."""
    _private_directory(home.root, "set PMX_HOME to a directory of your own")
    _private_directory(home.logs, "move it away, or set PMX_HOME to another directory")
    if home.run != home.root:
        _private_directory(home.run, "remove it, or set PMX_HOME to a shorter path")


def check_ours(home: Home) -> None:
    """Raise Refused when the home exists and is not private to this user."""
    try:
        status = os.stat(home.root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Refused(f"cannot use {home.root} as the home of pmx: {error.strerror}", "set PMX_HOME") from None
    _check(home.root, status, "set PMX_HOME to a directory of your own")


def _private_directory(path: str, hint: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        problem = Refused if isinstance(error, PermissionError) else ResourceProblem
        raise problem(f"cannot create {path}: {error.strerror}", hint) from None
    # lstat where others may write beside it: a link put there by somebody else must not lead us elsewhere.
    _check(path, os.lstat(path) if path.startswith("/tmp/") else os.stat(path), hint)


def _check(path: str, status: os.stat_result, hint: str) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(f"cannot use {path} as the home of pmx: it is not a directory", hint)
    if status.st_uid != os.geteuid():
        raise Refused(f"cannot use {path} as the home of pmx: it belongs to uid {status.st_uid}, not to you", hint)
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise Refused(
            f"cannot use {path} as the home of pmx: its mode {mode:04o} lets others in",
            f"chmod 700 {path} if it is meant for pmx alone, or {hint}",
        )


def _run_directory(root: str) -> str:
    if len(os.fsencode(f"{root}/control.sock")) <= _SOCKET_PATH_MAX:
        return root
    # FNV-1a: the name must be the same in every process, unlike hash(), and hashlib is a costly import.
    digest = 0xCBF29CE484222325
    for byte in os.fsencode(root):
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    # Not XDG_RUNTIME_DIR: it differs between a login, a cron job and sudo, and all must find the same sockets.
    return f"/tmp/pmx-{os.geteuid()}-{digest:016x}"
