"""Trials on mechanisms that pretend to work: each must notice. Real denials are in tests/integration/test_doctor.py."""

import os
from collections.abc import Callable, Iterator

import pytest

from pmx.doctor import network, processes, sharing
from pmx.doctor.examination import _with_what_remains as with_what_remains
from pmx.doctor.finding import Finding
from pmx.doctor.trial import Trial, run_all
from pmx.keeper import linux, seccomp, steering
from pmx.keeper.slots import Name, Slots

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),  # Python 3.12, of fork
]


def findings(checks: tuple[str, ...], run: Callable[[], Iterator[Finding]]) -> dict[str, Finding]:
    return {each.check: each for each in run_all([Trial(checks, run)], 30.0)}


def test_all_is_well_when_nothing_is_changed() -> None:
    found = findings(sharing.CHECKS, sharing.trial)
    assert {each.state for check, each in found.items() if check != "elevation"} == {"ok"}


def test_a_kernel_that_takes_the_program_and_does_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "attach", lambda fd, program: None)
    found = findings(network.GROUP_CHECKS, network.groups)
    assert found["reuseport"] == Finding("reuseport")
    assert found["steering"].state == "missing"
    assert "connections went to the one closed" in found["steering"].why


def test_a_crashed_slot_that_still_gets_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slots, "leave", lambda self, user: None)
    found = findings(sharing.CHECKS, sharing.trial)
    assert found["sharing"].state == "ok"
    assert found["crash"].state == "restricted"
    assert "waits for the replacement" in found["crash"].why


def test_a_queue_that_is_lost_with_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Slots.leave

    def leave_and_close(self: Slots, user: Name) -> None:
        leave(self, user)
        self.release("doctor", int(user[0].removeprefix("s")))

    monkeypatch.setattr(Slots, "leave", leave_and_close)
    found = findings(sharing.CHECKS, sharing.trial)
    assert found["sharing"].state == "ok"
    assert found["crash"].state == "missing"


def test_a_socket_that_was_not_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "replace_fd", lambda *_: None)
    found = findings(sharing.CHECKS, sharing.trial)
    assert found["sharing"].state == "missing"
    assert "a socket cannot be put into another process" in found["sharing"].why


def test_orphans_that_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "become_subreaper", lambda: None)
    family = findings(processes.FAMILY_CHECKS, processes.families)["family"]
    assert (family.state, family.why) == ("missing", "a process whose parent died did not become our child")


def test_no_list_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: "/children" not in path and exists(path))
    family = findings(processes.FAMILY_CHECKS, processes.families)["family"]
    assert family.state == "restricted"
    assert family.change == "use a kernel with CONFIG_PROC_CHILDREN"


@pytest.mark.parametrize(
    ("declared", "reuseport", "tail"),
    [
        ("ok", "ok", "; until then only servers that take LISTEN_FDS (--listen) or set SO_REUSEPORT themselves share"),
        ("missing", "ok", "; until then only servers that set SO_REUSEPORT themselves share a port"),
        ("missing", "missing", "do this"),
    ],
)
def test_what_remains_without_the_trap(declared: str, reuseport: str, tail: str) -> None:
    found = [
        Finding("sharing", "missing", "why", "do this"),
        Finding("declared", "ok" if declared == "ok" else "missing"),
        Finding("reuseport", "ok" if reuseport == "ok" else "missing"),
    ]
    better = with_what_remains(found)
    assert better[1:] == found[1:]
    assert better[0].change.startswith("do this")
    assert tail in better[0].change
