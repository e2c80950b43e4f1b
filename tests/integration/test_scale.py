"""pmx scale: more and fewer instances of what runs; nobody lost, nobody left behind."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness import APPS, Pmx, alive, eventually, wait_for_end


def start(pmx: Pmx, instances: int, name: str = "web") -> None:
    pmx("start", str(APPS / "ready.py"), "-n", name, "-i", str(instances))


def numbers(pmx: Pmx, name: str = "web") -> list[int]:
    """The instance numbers that are online."""
    found = [each["pm2_env"] for each in pmx.jlist() if each["name"] == name]
    assert {each["status"] for each in found} <= {"online"}
    return sorted(each["NODE_APP_INSTANCE"] for each in found)


def on_record(pmx: Pmx, name: str = "web") -> tuple[int, list[int]]:
    """What the snapshot says: the number in the spec, and the instances."""

    def settled() -> dict[str, Any] | None:
        data = json.loads(Path(pmx.home.snapshot).read_text())
        (app,) = (each for each in data["apps"] if each["spec"]["name"] == name)
        listed = {each["pm_id"] for each in pmx.jlist() if each["name"] == name}
        return app if {each["id"] for each in app["instances"]} == listed else None

    app = eventually(settled) or {}
    return app["spec"]["instances"], sorted(each["number"] for each in app["instances"])


def test_up_and_down(pmx: Pmx) -> None:
    start(pmx, 2)
    before = pmx.pids("web")
    said = pmx("scale", "web", "4").stdout.splitlines()
    assert said[0] == "scaled web from 2 to 4"
    assert len(said) == 2 + 4
    assert pmx.pids("web")[:2] == before
    assert numbers(pmx) == [0, 1, 2, 3]
    assert on_record(pmx) == (4, [0, 1, 2, 3])
    new = pmx.pids("web")[2:]
    for number, pid in enumerate(new, 2):
        assert f"PMX_INSTANCE={number}" in Path(f"/proc/{pid}/environ").read_text().split("\0")
    assert pmx("scale", "web", "1").stdout.startswith("scaled web from 4 to 1\n")
    assert pmx.pids("web") == before[:1]
    assert not any(alive(pid) for pid in [before[1], *new])
    assert on_record(pmx) == (1, [0])


def test_relative_numbers_and_max(pmx: Pmx) -> None:
    start(pmx, 2)
    pmx("scale", "web", "+12")
    assert pmx("scale", "web", "-11").stdout.startswith("scaled web from 14 to 3\n")
    assert pmx("scale", "web", "-1").stdout.startswith("scaled web from 3 to 2\n")
    assert numbers(pmx) == [0, 1]
    cores = len(os.sched_getaffinity(0))
    pmx("scale", "0", "max")  # an id of one instance means its program
    assert len(numbers(pmx)) == cores
    assert pmx("scale", "web", str(cores)).stdout.startswith(f"web has {cores} instance")


def test_numbers_are_filled_and_ids_are_new(pmx: Pmx) -> None:
    start(pmx, 3)
    pmx("delete", "1")
    pmx("scale", "web", "+2")
    assert numbers(pmx) == [0, 1, 2, 3]
    assert {each["pm_id"] for each in pmx.jlist()} == {0, 2, 3, 4}
    pmx("scale", "web", "2")  # the highest numbers go, not the latest ids
    assert numbers(pmx) == [0, 1]
    assert {each["pm_id"] for each in pmx.jlist()} == {0, 3}


def test_start_with_only_a_number_scales_what_is_in_the_list(pmx: Pmx) -> None:
    start(pmx, 1)
    said = pmx("start", "web", "-i", "3")
    assert said.stdout.startswith("scaled web from 1 to 3\n")
    assert numbers(pmx) == [0, 1, 2]
    before = pmx.pids("web")
    refused = pmx("start", str(APPS / "ready.py"), "-n", "web", "-i", "5", status=4)
    assert "a program of that name is running" in refused.stderr
    assert "pmx scale web 5" in refused.stderr
    assert "pmx scale" not in pmx("start", str(APPS / "ready.py"), "-n", "web", status=4).stderr
    (pmx.work / "web").write_text("#!/bin/sh\nexec sleep 1000\n")
    assert "pmx scale web 2" in pmx("start", "web", "-i", "2", status=4).stderr  # the file is meant
    assert pmx.pids("web") == before


def test_start_scales_and_starts_at_once(pmx: Pmx) -> None:
    start(pmx, 1)
    (pmx.work / "other.py").write_text("import signal; signal.pause()\n")
    said = pmx("start", "other.py", "web", "-i", "2").stdout.splitlines()
    assert said[:2] == ["started other (2 instances)", "scaled web from 1 to 2"]
    assert numbers(pmx, "other") == numbers(pmx) == [0, 1]


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("wbe", "2"), 3, "did you mean 'web'"),
        (("web", "many"), 2, "it is no number"),
        (("web", "0"), 2, "pmx stop web"),
        (("web", "-2"), 2, "pmx delete web"),
        (("web", "10001"), 2, "10000 is the most"),
        (("shop", "2"), 2, "cannot scale 2 programs at once: db, web"),
        (("all", "2"), 2, "name one of them"),
        (("web",), 2, "missing argument"),
        (("web", "2", "3"), 2, "cannot scale"),
        (("web", "--count", "2"), 2, "cannot scale"),
    ],
)
def test_what_is_refused(pmx: Pmx, args: tuple[str, ...], status: int, words: str) -> None:
    for name in ("web", "db"):
        pmx("start", "sleep", "-n", name, "--namespace", "shop", "-i", "2", "--", "1000")
    before = [each["pid"] for each in pmx.jlist()]
    said = pmx("scale", *args, status=status)
    assert said.stdout == ""
    assert said.stderr.startswith("pmx: cannot ")
    assert words in said.stderr
    assert [each["pid"] for each in pmx.jlist()] == before


def test_there_is_nothing_to_scale(pmx: Pmx) -> None:
    assert "there is none yet" in pmx("scale", "all", "2", status=3).stderr


def test_a_stopped_program_is_started_first(pmx: Pmx) -> None:
    start(pmx, 2)
    pmx("stop", "web")
    assert "pmx start web" in pmx("scale", "web", "3", status=4).stderr
    assert len(pmx.jlist()) == 2
    pmx("start", "0")
    pmx("scale", "web", "3")  # one runs, so it is not stopped; the new one runs, too
    states = {each["pm2_env"]["NODE_APP_INSTANCE"]: each["pm2_env"]["status"] for each in pmx.jlist()}
    assert states == {0: "online", 1: "stopped", 2: "online"}
    pmx("scale", "web", "-2")
    assert numbers(pmx) == [0]


def test_what_cannot_be_executed_any_more_leaves_everything_as_it_was(pmx: Pmx) -> None:
    program = pmx.work / "tool"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    pmx("start", "./tool", "-i", "2")
    before = pmx.pids("tool")
    program.unlink()
    said = pmx("scale", "tool", "4", status=5)
    assert "ENOENT" in said.stderr
    assert pmx.pids("tool") == before
    assert on_record(pmx, "tool") == (2, [0, 1])
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    pmx("scale", "tool", "3")
    assert numbers(pmx, "tool") == [0, 1, 2]


def test_what_dies_at_once_is_told_and_kept(pmx: Pmx) -> None:
    program = pmx.work / "app.py"
    program.write_text("import signal; signal.pause()\n")
    pmx("start", "app.py", "--restart-delay", "1h")
    program.write_text("import nothing_of_that_name\n")
    said = pmx("scale", "app", "2", status=8)
    assert "nothing_of_that_name" in said.stderr
    assert [each["pm2_env"]["pmx_status"] for each in pmx.jlist()] == ["online", "backoff"]
    pmx("scale", "app", "1")  # what waits for its next try is removed, too
    assert [each["pm2_env"]["pmx_status"] for each in pmx.jlist()] == ["online"]


def test_a_log_that_cannot_be_written_is_told_before_anything_starts(pmx: Pmx) -> None:
    pmx("start", "sleep", "-n", "web", "-i", "2", "--output", "logs/out.log", "--", "1000")
    for entry in (pmx.work / "logs").iterdir():
        entry.unlink()
    (pmx.work / "logs").rmdir()
    (pmx.work / "logs").touch()
    said = pmx("scale", "web", "3", status=5)
    assert "cannot write the log" in said.stderr
    assert on_record(pmx) == (2, [0, 1])


def at_once(pmx: Pmx, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Exit status and standard error of commands that run side by side."""
    running = [
        subprocess.Popen(
            pmx.argv(*command), env=pmx.env, cwd=pmx.work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    return [(each.returncode, stderr) for each in running for _, stderr in [each.communicate(timeout=90)]]


def test_those_who_ask_at_once_are_all_obeyed(pmx: Pmx) -> None:
    start(pmx, 2)
    assert at_once(pmx, *[("scale", "web", "+1")] * 4) == [(0, "")] * 4
    assert numbers(pmx) == [0, 1, 2, 3, 4, 5]
    assert at_once(pmx, *[("scale", "web", "-1")] * 4) == [(0, "")] * 4
    assert numbers(pmx) == [0, 1]
    assert on_record(pmx) == (2, [0, 1])


def start_slow(pmx: Pmx, count: int) -> None:
    """A program that is slow to end."""
    pmx("start", str(APPS / "ignores_term.py"), "-n", "slow", "-i", str(count), "--kill-timeout", "3s")
    for number in range(count):
        eventually(lambda number=number: "ready" in pmx.log(f"slow-out-{number}.log"))  # type: ignore[misc]  # its own


def test_who_asks_while_another_takes_away_counts_only_what_stays(pmx: Pmx) -> None:
    """The program is slow to end, so the first request surely is not done when the second comes."""
    start_slow(pmx, 4)
    with pmx.events() as expect:
        first = subprocess.Popen(
            pmx.argv("scale", "slow", "-1"), env=pmx.env, cwd=pmx.work, stdout=subprocess.PIPE, text=True
        )
        expect(lambda change: change["to"] == "stopping")
        second = pmx("scale", "slow", "-1")
    out, _ = first.communicate(timeout=90)
    assert (first.returncode, out.splitlines()[0]) == (0, "scaled slow from 4 to 3")
    assert second.stdout.startswith("scaled slow from 3 to 2\n")
    assert numbers(pmx, "slow") == [0, 1]


def test_who_starts_what_was_to_end_has_the_last_word(pmx: Pmx) -> None:
    start_slow(pmx, 2)
    with pmx.events() as expect:
        scaling = subprocess.Popen(
            pmx.argv("scale", "slow", "1"), env=pmx.env, cwd=pmx.work, stderr=subprocess.PIPE, text=True
        )
        expect(lambda change: change["to"] == "stopping")
        pmx("start", "slow")
    _, error = scaling.communicate(timeout=90)
    assert (scaling.returncode, "somebody started what was to end" in error) == (4, True)
    eventually(lambda: all(each["pm2_env"]["status"] == "online" for each in pmx.jlist()))
    assert numbers(pmx, "slow") == [0, 1]
    assert pmx("scale", "slow", "-1").stdout.startswith("scaled slow from 2 to 1\n")  # it counts again


def test_scaling_while_others_delete_and_restart_leaves_nobody_behind(pmx: Pmx) -> None:
    start(pmx, 2)
    pmx("scale", "web", "6")
    pids = pmx.pids("web")
    said = at_once(pmx, ("scale", "web", "2"), ("delete", "5", "4"), ("restart", "web"), ("scale", "web", "+2"))
    assert {status for status, _ in said} <= {0, 3, 4}, said
    eventually(lambda: {each["pm2_env"]["status"] for each in pmx.jlist()} == {"online"})
    recorded, its_numbers = on_record(pmx)
    assert numbers(pmx) == its_numbers
    assert len(its_numbers) == len(set(its_numbers)) == recorded
    assert set(pmx.pids("web")) == {pid for pid, command in pmx.processes().items() if "ready.py" in command}
    said = at_once(pmx, ("scale", "web", "+3"), ("delete", "web"), ("scale", "web", "1"))
    assert {status for status, _ in said} <= {0, 3, 4}, said
    left = {pid for pid, command in pmx.processes().items() if "ready.py" in command}
    assert left == {each["pid"] for each in pmx.jlist()}
    for pid in set(pids) - left:
        wait_for_end(pid)
    assert "internal error" not in pmx.tell()
    assert "Traceback" not in pmx.tell()


def test_a_daemon_that_dies_finds_all_of_them_again(pmx: Pmx) -> None:
    start(pmx, 1)
    pmx("scale", "web", "3")
    pmx("scale", "web", "-1")
    before = pmx.pids("web")
    _, daemon = pmx.keeper_and_daemon()
    os.kill(daemon, 9)
    wait_for_end(daemon)
    assert eventually(lambda: pmx.pids("web")) == before
    pmx("scale", "web", "+1")
    assert numbers(pmx) == [0, 1, 2]
