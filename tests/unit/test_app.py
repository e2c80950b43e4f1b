"""What a program may call: told to whoever listens, and harmless when nobody does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pmx import app
from tests.unit.support import ROOT

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=["abstract", "path"])
def manager(request: pytest.FixtureRequest, short_dir: str, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind("" if request.param == "abstract" else f"{short_dir}/notify")
        name = sock.getsockname()
        monkeypatch.setenv("NOTIFY_SOCKET", name if isinstance(name, str) else "@" + os.fsdecode(name[1:]))
        yield sock


def test_somebody_is_told(manager: socket.socket) -> None:
    assert [app.ready(), app.status("23 of 40\nfiles"), app.stopping()] == [True, True, True]
    assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=23 of 40 files", b"STOPPING=1"]


def test_a_status_of_any_kind_and_length(manager: socket.socket) -> None:
    assert app.status("ü" * 1_000_000)
    assert app.status("\ud800")
    assert manager.recv(10_000) == b"STATUS=" + "ü".encode() * 1000
    assert manager.recv(10_000) == b"STATUS=?"


def test_a_manager_that_does_not_read_is_not_waited_for(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PATIENCE", 0.05)
    while app.status("again"):
        pass
    assert app.ready() is False
    manager.recv(100)
    assert app.ready() is True


@pytest.mark.parametrize("address", [None, "", "@nobody-is-there", "/no/such/socket", "vsock:2:1", "/" + "x" * 200])
def test_nobody_is_told(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert [app.ready(), app.status("x"), app.stopping()] == [False, False, False]


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("0", 0), ("", 0), ("x", 0), ("-1", 0), ("²", 0), (None, 0)])
def test_which_instance(monkeypatch: pytest.MonkeyPatch, text: str | None, number: int) -> None:
    monkeypatch.delenv("PMX_INSTANCE", raising=False)
    if text is not None:
        monkeypatch.setenv("PMX_INSTANCE", text)
    assert app.instance() == number


def test_the_import_costs_nothing(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {ROOT!r}); before = set(sys.modules); import pmx.app; "
    code += "print(*sorted(set(sys.modules) - before))"
    run = [sys.executable, "-I", "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.split() == [
        "_socket",
        "pmx",
        "pmx.app",
    ]
