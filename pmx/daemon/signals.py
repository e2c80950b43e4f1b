"""Which signal asks a program to end, when its policy says auto.

Programs written for containers catch SIGTERM, programs written for PM2 catch SIGINT. The kernel tells which: the
SigCgt mask in /proc/PID/status (proc(5)). A program that catches neither dies of SIGTERM, as it would anywhere.
"""

import signal

from pmx.core.spec import AUTO_SIGNAL


def stop_signal(configured: str, pid: int | None) -> signal.Signals:
    """The signal to send to `pid` under a policy that says `configured`: a name with or without SIG, or auto."""
    if configured != AUTO_SIGNAL:
        return signal.Signals[configured if configured.startswith("SIG") else f"SIG{configured}"]
    caught = caught_signals(pid) if pid else 0
    if not _has(caught, signal.SIGTERM) and _has(caught, signal.SIGINT):
        return signal.SIGINT
    return signal.SIGTERM


def caught_signals(pid: int) -> int:
    """The signals that `pid` has a handler for, bit N-1 for signal N; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigCgt:"):
                    return int(line.split()[1], 16)
    except (OSError, ValueError):
        pass
    return 0


def name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _has(mask: int, number: int) -> bool:
    return bool(mask >> (number - 1) & 1)
