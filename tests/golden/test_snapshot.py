"""Snapshots of earlier versions must load; a torn one is set aside, and says so."""

import json
import logging
from pathlib import Path

import pytest

from pmx.core.lifecycle import Phase, Wanted
from pmx.daemon import snapshot
from pmx.daemon.fleet import Fleet

V1 = Path(__file__).parent / "snapshot-v1.json"


def test_version_1_loads(tmp_path: Path) -> None:
    data = json.loads(V1.read_text())
    data["boot"] = snapshot.boot_id()
    path = tmp_path / "state.json"
    path.write_text(json.dumps(data))
    fleet = Fleet()
    assert snapshot.load(str(path), fleet) is True
    web, loop = fleet.apps["web"], fleet.apps["loop"]
    assert [(i.id, i.number, i.machine.phase, i.machine.pid) for i in web.instances] == [
        (0, 0, Phase.ONLINE, 4711),
        (2, 1, Phase.STOPPED, None),
    ]
    machine = loop.instances[0].machine
    assert (machine.phase, machine.restarts, len(machine.record.crashes)) == (Phase.BACKOFF, 3, 3)
    assert machine.ended is not None
    assert machine.ended.code == 1
    assert fleet.next_id == 3
    written = json.loads(json.dumps(snapshot.dump(fleet)["apps"]))
    assert within(data["apps"], written), "what was loaded is written again as it was"


def within(old: object, new: object) -> bool:
    """Whether `new` says all that `old` says; it may say more, since versions only grow."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and within(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(within, old, new))
    return old == new


def test_after_another_boot_only_wishes_and_counters_are_left(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(V1.read_text())
    fleet = Fleet()
    assert snapshot.load(str(path), fleet) is False
    machine = fleet.by_id[0].machine
    assert (machine.phase, machine.wanted, machine.pid, machine.deadline) == (Phase.STOPPED, Wanted.UP, None, None)


@pytest.mark.parametrize("torn", ["", "{", '{"version": 1}', '{"version": 99}', "[]", V1.read_text()[:-300]])
def test_a_torn_snapshot_is_set_aside(tmp_path: Path, torn: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.json"
    path.write_text(torn)
    fleet = Fleet()
    with caplog.at_level(logging.ERROR):
        snapshot.load(str(path), fleet)
    assert fleet.by_id == {}
    assert "cannot read the snapshot" in caplog.text
    assert (tmp_path / "state.json.bad").read_text() == torn
    assert not path.exists()
