"""What the installer promises: one thing that cannot be had costs no other, and each server knows what it needs."""

from pathlib import Path

import pytest

from tests.matrix import install
from tests.matrix.catalogue import FEW, SERVERS, Installed, installed


def test_a_step_that_fails_gives_its_reason_to_all_of_its_things(tmp_path: Path) -> None:
    def fails(_: Path) -> dict[str, Installed]:
        install.run(["sh", "-c", "echo no such registry; exit 3"])
        return {}

    found = install.take(install.Step(("a", "b"), fails), tmp_path)
    assert found.keys() == {"a", "b"}
    assert all(not each.ok and "ended with 3: no such registry" in each.why for each in found.values())


def test_one_that_cannot_be_had_costs_no_other() -> None:
    have: list[str] = []

    def take(wanted: list[str]) -> None:
        if "bad" in wanted:
            raise install.Failure("bad is not to be had")
        have.extend(wanted)

    install._each_if_not_all(["good", "bad", "better"], take)
    assert have == ["good", "better"]


def test_what_is_compiled_is_compiled_again_only_when_its_source_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "SERVERS_DIR", tmp_path)
    (tmp_path / "x.c").write_text("one")
    builds: list[str] = []

    def build(_: Path) -> str:
        builds.append((tmp_path / "x.c").read_text())
        return "gcc 12"

    step = install.compiled("x", "x.c", build)
    assert step(tmp_path) == step(tmp_path) == {"x": Installed(True, version="gcc 12")}
    (tmp_path / "x.c").write_text("two")
    step(tmp_path)
    assert builds == ["one", "two"]


def test_every_server_needs_something_that_is_installed_by_a_step() -> None:
    known = {name for step in install.STEPS for name in step.names}
    assert {server.needs for server in SERVERS} <= known
    assert set(FEW) <= {server.name for server in SERVERS}
    assert len({server.name for server in SERVERS}) == len(SERVERS)


def test_nothing_is_installed_where_the_installer_never_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMX_MATRIX", str(tmp_path))
    assert installed() == {}
