"""Processes that die, that will not die, that leave others behind: what pmx makes of them."""

import os
import signal
from pathlib import Path

import pytest

from tests.harness import APPS, Pmx, alive, eventually, wait_for_end


def test_a_killed_program_is_back_with_restart_count_1(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"))
    before = pmx.one("ready")["pid"]
    with pmx.events() as expect:
        os.kill(before, signal.SIGKILL)
        expect(lambda change: change["to"] == "online")
    after = pmx.one("ready")
    assert after["pm2_env"]["status"] == "online"
    assert after["pm2_env"]["restart_time"] == 1
    assert after["pid"] != before
    assert "SIGKILL" in pmx("describe", "ready").stdout


def test_stop_is_gentle_and_the_program_has_the_last_word(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"))
    pid = pmx.one("ready")["pid"]
    pmx("stop", "ready")
    wait_for_end(pid)
    assert "bye" in pmx("logs", "ready", "--nostream").stdout
    found = pmx.one("ready")
    assert (found["pm2_env"]["status"], found["pid"]) == ("stopped", 0)
    assert found["pm2_env"]["exit_code"] == 0


def test_a_program_written_for_pm2_gets_sigint(pmx: Pmx) -> None:
    pmx("start", str(APPS / "only_int.py"))
    eventually(lambda: "ready" in pmx.log("only_int-out-0.log"))
    pmx("stop", "only_int")
    assert "got SIGINT" in pmx("logs", "only_int", "--nostream").stdout


def test_who_ignores_the_signal_is_killed_after_kill_timeout(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ignores_term.py"), "--kill-timeout", "300")
    eventually(lambda: "ready" in pmx.log("ignores_term-out-0.log"))
    pid = pmx.one("ignores_term")["pid"]
    with pmx.events() as expect:
        pmx("stop", "ignores_term")
        assert "0.3 s" in expect(lambda change: change["to"] == "killing")["cause"]
        expect(lambda change: change["to"] == "stopped")
    assert not alive(pid)
    assert "no" in pmx.log("ignores_term-out-0.log").split()


@pytest.mark.parametrize("stubborn", [False, True])
def test_stop_ends_the_whole_family(pmx: Pmx, stubborn: bool) -> None:
    pids = start_family(pmx, stubborn)
    pmx("stop", "family")
    for pid in pids:
        wait_for_end(pid)


def test_a_crash_leaves_nobody_behind_to_hold_the_port(pmx: Pmx) -> None:
    main, child, grandchild = start_family(pmx, stubborn=False)
    with pmx.events() as expect:
        os.kill(main, signal.SIGKILL)
        assert "left behind" in expect(lambda change: change["to"] == "cleaning")["cause"]
        expect(lambda change: change["to"] == "online")
    assert not alive(child)
    assert not alive(grandchild)


def test_without_treekill_descendants_are_left_alone(pmx: Pmx) -> None:
    pids = start_family(pmx, False, "--no-treekill")
    pmx("stop", "family")
    assert [alive(pid) for pid in pids] == [False, True, True]
    for pid in pids[1:]:
        os.kill(pid, signal.SIGKILL)


def test_restart_counts_and_gives_a_new_process(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), "-i", "2")
    before = pmx.pids("ready")
    pmx("restart", "ready")
    after = pmx.jlist()
    assert {each["pid"] for each in after}.isdisjoint(before)
    assert [each["pm2_env"]["restart_time"] for each in after] == [1, 1]
    assert not any(alive(pid) for pid in before)


def test_restart_with_update_env(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), env={**pmx.env, "COLOUR": "red"})
    pmx("restart", "ready", env={**pmx.env, "COLOUR": "blue"})
    assert b"COLOUR=red\0" in Path(f"/proc/{pmx.one('ready')['pid']}/environ").read_bytes()
    pmx("restart", "ready", "--update-env", env={**pmx.env, "COLOUR": "blue"})
    assert b"COLOUR=blue\0" in Path(f"/proc/{pmx.one('ready')['pid']}/environ").read_bytes()


def test_the_restart_limit_has_no_hole(pmx: Pmx) -> None:
    """PM2 with --max-restarts 3 and a delay of min_uptime waits for ever (pm2.md section 0)."""
    pmx("start", "sh -c 'exit 3'", "-n", "loop", "--max-restarts", "3", "--restart-delay", "50", "--min-uptime", "50",
        status=8)  # fmt: skip
    with pmx.events() as expect:
        if pmx.one("loop")["pm2_env"]["status"] != "errored":
            expect(lambda change: change["to"] == "errored")
    found = pmx.one("loop")["pm2_env"]
    assert found["restart_time"] == 3
    assert found["exit_code"] == 3
    assert "crash 4" in pmx("describe", "loop").stdout
    pmx("start", "loop", status=8)  # starting it by hand begins anew
    pmx("delete", "loop")


def test_one_shot_programs(pmx: Pmx) -> None:
    pmx("start", "true", "-n", "good", "--no-autorestart")
    pmx("start", "false", "-n", "bad", "--no-autorestart", status=8)
    pmx("start", "sh -c 'exit 7'", "-n", "seven", "--stop-exit-codes", "0,7")
    states = {each["name"]: each["pm2_env"]["pmx_status"] for each in pmx.jlist()}
    assert states == {"good": "completed", "bad": "errored", "seven": "completed"}


def test_stop_in_the_middle_of_a_back_off(pmx: Pmx) -> None:
    pmx("start", "false", "-n", "loop", "--restart-delay", "1h", status=8)
    assert pmx.one("loop")["pm2_env"]["status"] == "waiting restart"
    assert "backoff" in pmx("ls").stdout
    pmx("stop", "loop")
    assert pmx.one("loop")["pm2_env"]["status"] == "stopped"


def test_the_list_is_empty_after_delete_and_ids_begin_anew(pmx: Pmx) -> None:
    pmx("start", "sleep", "-n", "a", "-i", "2", "--", "1000")
    pmx("start", "sleep", "-n", "b", "--namespace", "back", "--", "1000")
    pids = [each["pid"] for each in pmx.jlist()]
    pmx("delete", "1", "back")
    assert [each["pm_id"] for each in pmx.jlist()] == [0]
    pmx("delete", "all")
    assert pmx.jlist() == []
    assert not any(alive(pid) for pid in pids)
    pmx("start", "sleep", "-n", "c", "--", "1000")
    assert [each["pm_id"] for each in pmx.jlist()] == [0]


def test_selectors(pmx: Pmx) -> None:
    for name, namespace in (("web-a", "front"), ("web-b", "front"), ("db", "back")):
        pmx("start", "sleep", "-n", name, "--namespace", namespace, "--", "1000")

    def stopped() -> set[str]:
        found = {each["name"] for each in pmx.jlist() if each["pm2_env"]["status"] == "stopped"}
        pmx("start", "all")
        return found

    for selectors, names in (
        (["/^web/"], {"web-a", "web-b"}),
        (["front"], {"web-a", "web-b"}),
        (["2", "web-a"], {"web-a", "db"}),
        (["all"], {"web-a", "web-b", "db"}),
    ):
        pmx("stop", *selectors)
        assert stopped() == names


def start_family(pmx: Pmx, stubborn: bool, *options: str) -> list[int]:
    """Main, child in the group, grandchild that left it."""
    file = pmx.work / "pids"
    pmx(
        "start", str(APPS / "family.py"), "--kill-timeout", "500" if stubborn else "20s", *options,
        "--", str(file), "stubborn" if stubborn else "meek",
    )  # fmt: skip
    eventually(file.exists)
    pids = [int(word) for word in file.read_text().split()]
    assert len(pids) == 3
    assert all(alive(pid) for pid in pids)
    return pids
