"""The stop signal that a real process gets, by what it really catches."""

import os
import signal
import subprocess
import sys

import pytest

from pmx.daemon.signals import caught_signals, name_of, stop_signal


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("signal.signal(signal.SIGTERM, lambda *_: None)", signal.SIGTERM),
        ("signal.signal(signal.SIGTERM, lambda *_: None); signal.signal(signal.SIGINT, print)", signal.SIGTERM),
        ("signal.signal(signal.SIGINT, lambda *_: None)", signal.SIGINT),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL)", signal.SIGTERM),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", signal.SIGTERM),
    ],
)
def test_auto(code: str, expected: int) -> None:
    script = f"import signal\n{code}\nprint(flush=True)\nsignal.pause()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert stop_signal("auto", child.pid) == expected
        child.kill()


@pytest.mark.parametrize(("configured", "expected"), [("SIGQUIT", 3), ("QUIT", 3), ("SIGTERM", 15), ("HUP", 1)])
def test_what_is_configured_is_sent(configured: str, expected: int) -> None:
    assert stop_signal(configured, os.getpid()) == expected


def test_who_is_gone_catches_nothing() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert caught_signals(gone.pid) == 0
    assert stop_signal("auto", gone.pid) == stop_signal("auto", None) == signal.SIGTERM


def test_names() -> None:
    assert name_of(9) == "SIGKILL"
    assert name_of(40) == "signal 40"
