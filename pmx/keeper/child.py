"""What runs between fork and exec. Nothing here returns: it ends in the program, or in `os._exit`.

The keeper is single-threaded, so Python code may run after the fork; it must still be short, because an exception
that escaped would go on as a second keeper. Whatever fails is written to the report, a socket whose other end sees
end of file when exec succeeds (it is close-on-exec).
"""

import fcntl
import os
import resource
import signal
import socket

from pmx.keeper import seccomp
from pmx.keeper.inheritance import Inheritance
from pmx.keeper.protocol import Spawn

# An ignored signal stays ignored across exec (signal(7)): Python ignores SIGPIPE, a script's "pmx start &" SIGQUIT.
_RESETTABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def become(order: Spawn, given: Inheritance, report: int, nofile: tuple[int, int]) -> None:
    """Become the program of `order`, with what it is `given`."""
    step = "start"
    try:
        step = "session"
        os.setsid()
        _reset_signals()
        step = "limits"
        _set_limits(order, nofile)
        step = "output"
        _connect(order, given.stdout, given.stderr)
        step = "sockets"
        report = _pass_on(given.passed, report)
        order.env.update(given.env)
        if order.sockets:
            order.env["LISTEN_PID"] = str(os.getpid())
        if order.trap:
            _ask_about_ports(report)
        step = "identity"
        _take_identity(order)
        step = "cwd"
        os.chdir(order.cwd)
        step = "exec"
        os.execvpe(order.argv[0], order.argv, order.env)
    except OSError as error:
        _report(report, step, error.errno or 0, error.strerror or "")
    except BaseException as error:  # noqa: BLE001  # nothing may escape into a second keeper
        _report(report, step, 0, f"{type(error).__name__}: {error}")
    finally:
        os._exit(127)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _RESETTABLE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _set_limits(order: Spawn, nofile: tuple[int, int]) -> None:
    # The keeper raised its own limit; select(2) in an old program breaks with descriptors above 1023.
    resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
    for name, soft, hard in order.limits or ():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))


def _connect(order: Spawn, stdout: int, stderr: int) -> None:
    """Descriptors 0, 1 and 2. Everything else is close-on-exec (PEP 446)."""
    null = os.open("/dev/null", os.O_RDWR)
    # A description of its own for each run: see fdstore. Opened while we still may, before the identity changes.
    targets = [null, *(null if fd < 0 else os.open(f"/proc/self/fd/{fd}", os.O_RDWR) for fd in (stdout, stderr))]
    if order.uid >= 0:
        for fd in {stdout, stderr} - {-1}:
            os.fchown(fd, order.uid, order.gid)  # so that the program itself may open /dev/stdout
    # Above 2 first, or a target could be overwritten before it is used (when the keeper's own 0-2 were closed).
    targets = [fd if fd > 2 else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in targets]
    for number, fd in enumerate(targets):
        os.dup2(fd, number, inheritable=True)


def _pass_on(fds: list[int], report: int) -> int:
    """Make `fds` descriptors 3 and up. Returns the report's, which may have been in the way."""
    above = 3 + len(fds)
    report, *high = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in (report, *fds))
    for number, fd in enumerate(high, 3):
        os.dup2(fd, number, inheritable=True)
    return report


def _ask_about_ports(report: int) -> None:
    """Install the filter and hand its descriptor to the keeper. While root: nobody else may without consequences.

    Without it the program runs all the same, and has its ports for itself.
    """
    try:
        told = seccomp.install()
    except OSError as error:
        os.write(report, f"unshared\0{error.errno}\0{error.strerror}".encode("utf-8", "replace"))
        return
    with socket.socket(fileno=os.dup(report)) as to_keeper:
        socket.send_fds(to_keeper, [b"trap"], [told])
    os.close(told)


def _take_identity(order: Spawn) -> None:
    if order.umask >= 0:
        os.umask(order.umask)
    if order.groups is not None:
        os.setgroups(order.groups)
    if order.gid >= 0:
        os.setgid(order.gid)
    if order.uid >= 0:
        os.setuid(order.uid)


def _report(report: int, step: str, number: int, text: str) -> None:
    try:
        os.write(report, f"{step}\0{number}\0{text}".encode("utf-8", "replace"))
    except OSError:
        pass  # the keeper is gone; nobody is left to tell
