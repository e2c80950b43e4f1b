"""Kill the daemon at random, while programs run, crash, print and are commanded. Nobody may notice.

Seeded: PMX_CHAOS_SEED repeats a run, PMX_CHAOS_KILLS makes it longer (`make chaos`).
"""

import os
import random
import signal
import subprocess

from tests.harness import APPS, Pmx, alive, eventually, wait_for_end

KILLS = int(os.environ.get("PMX_CHAOS_KILLS", "6"))
SEED = int(os.environ.get("PMX_CHAOS_SEED", str(random.randrange(1_000_000))))


def test_the_daemon_is_killed_again_and_again(pmx: Pmx) -> None:
    print(f"PMX_CHAOS_SEED={SEED}")
    chance = random.Random(SEED)
    pmx("start", str(APPS / "ready.py"), "-n", "steady", "-i", "3")
    pmx("start", "sh -c 'i=0; while :; do i=$((i+1)); echo $i; done'", "-n", "printer")
    pmx("start", "sleep", "-n", "victim", "--", "1000")
    pmx("start", "sh -c 'exit 1'", "-n", "loop", "--max-restarts", "-1", status=8)
    steady = pmx.pids("steady")
    printer = pmx.one("printer")["pid"]

    for _ in range(KILLS):
        _, daemon = pmx.keeper_and_daemon()
        act = chance.choice(("nothing", "kill a program", "stop one", "restart one", "start one"))
        doing = _act(pmx, act)
        os.kill(daemon, signal.SIGKILL)
        wait_for_end(daemon)
        if doing is not None:
            doing.communicate(timeout=60)
            assert doing.returncode in (0, 4, 7, 8), act  # carried out, in the way, or told that it is unknown
        processes = {each["name"]: each for each in pmx.jlist()}
        assert pmx.pids("steady") == steady
        assert processes["printer"]["pid"] == printer
        assert processes["loop"]["pm2_env"]["pmx_status"] in ("backoff", "starting", "online")
    _check_the_end(pmx, printer)


def _act(pmx: Pmx, act: str) -> "subprocess.Popen[str] | None":
    """Begin something that the daemon dies in the middle of."""
    match act:
        case "kill a program":
            pid = pmx.one("victim")["pid"]
            if pid:
                os.kill(pid, signal.SIGKILL)
            return None
        case "stop one":
            arguments = ["stop", "victim"]
        case "restart one":
            arguments = ["restart", "victim"]
        case "start one":
            arguments = ["start", "victim"]
        case _:
            return None
    return subprocess.Popen(
        pmx.argv(*arguments), env=pmx.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _check_the_end(pmx: Pmx, printer: int) -> None:
    """Commands work as ever, one process an instance, and the printer's lines are all there, once and in order."""
    pmx("restart", "victim")
    processes = pmx.jlist()
    pids = [each["pid"] for each in processes if each["pid"]]
    assert len(pids) == len(set(pids))
    assert len([each for each in processes if each["name"] == "victim"]) == 1
    victims = [pid for pid, command in pmx.processes().items() if command.endswith("sleep 1000")]
    assert victims == [pmx.one("victim")["pid"]]
    pmx("stop", "printer")
    assert not alive(printer)
    eventually(lambda: pmx.one("printer")["pm2_env"]["status"] == "stopped")
    numbers = pmx.log("printer-out-1.log").split() or pmx.log("printer-out-3.log").split()
    assert numbers == [str(number + 1) for number in range(len(numbers))]


def test_fifty_crash_loopers_at_once_end_in_order(pmx: Pmx) -> None:
    """Each is given up after its restarts, none is forgotten, and the list answers all the while."""
    pmx("start", "sh -c 'exit 1'", "-n", "loop", "-i", "50", "--max-restarts", "3", status=8)
    eventually(lambda: all(each["pm2_env"]["status"] == "errored" for each in pmx.jlist()))
    assert [each["pm2_env"]["restart_time"] for each in pmx.jlist()] == [3] * 50


def test_fragments_and_garbage_at_the_control_socket(pmx: Pmx) -> None:
    """A client that sends half a frame, none at all, or nonsense, harms nobody."""
    import socket

    pmx("start", str(APPS / "ready.py"))
    chance = random.Random(SEED)
    for _ in range(30):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(pmx.home.control)
            client.send(chance.randbytes(chance.randrange(1, 300)))
    assert pmx.one("ready")["pm2_env"]["status"] == "online"
