"""Output reaches its files whole, and `pmx logs` shows it."""

import os
import signal
import subprocess

from tests.harness import APPS, Pmx, eventually


def test_stdout_and_stderr_have_files_of_their_own(pmx: Pmx) -> None:
    pmx("start", "sh -c 'echo to out; echo to err >&2; sleep 1000'", "-n", "both")
    assert pmx("logs", "both", "--nostream", "--raw", "--out").stdout == "to out\n"
    assert pmx("logs", "both", "--nostream", "--raw", "--err").stdout == "to err\n"
    assert pmx.log("both-out-0.log") == "to out\n"
    assert pmx.log("both-error-0.log") == "to err\n"


def test_lines_show_whose_they_are(pmx: Pmx) -> None:
    pmx("start", "sh -c 'echo hello; sleep 1000'", "-n", "web", "-i", "2")
    assert sorted(pmx("logs", "--nostream").stdout.splitlines()) == ["0|web | hello", "1|web | hello"]


def test_the_last_lines(pmx: Pmx) -> None:
    pmx("start", "sh -c 'seq 100; sleep 1000'", "-n", "count")
    assert pmx("logs", "count", "--nostream", "--raw", "--lines", "3").stdout.split() == ["98", "99", "100"]
    assert len(pmx("logs", "count", "--nostream", "--raw").stdout.split()) == 15


def test_chosen_files_and_no_files(pmx: Pmx) -> None:
    pmx("start", "sh -c 'echo one; sleep 1000'", "-n", "a", "-o", "logs/deep/out.log", "-e", "NULL")
    eventually(lambda: (pmx.work / "logs/deep/out.log").read_text() == "one\n")
    assert pmx("logs", "a", "--nostream", "--raw").stdout == "one\n"
    assert pmx.one("a")["pm2_env"]["pm_err_log_path"] == "/dev/null"


def test_a_flood_is_complete_and_in_order(pmx: Pmx) -> None:
    lines = 200_000
    pmx("start", str(APPS / "numbers.py"), "--no-autorestart", "--", str(lines))
    eventually(lambda: pmx.log("numbers-out-0.log").endswith("end\n"))
    found = pmx.log("numbers-out-0.log").splitlines()
    assert len(found) == lines + 1
    assert all(line.startswith(f"line {number:08d} x") for number, line in enumerate(found[:-1]))


def test_following_shows_what_comes_and_ctrl_c_leaves_at_once(pmx: Pmx) -> None:
    fifo = pmx.work / "fifo"
    os.mkfifo(fifo)
    pmx("start", f"sh -c 'cat {fifo}; sleep 1000'", "-n", "talker")
    with subprocess.Popen(pmx.argv("logs", "talker"), env=pmx.env, stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        with open(fifo, "w") as mouth:
            for word in ("first", "second"):
                print(word, file=mouth, flush=True)
                assert viewer.stdout.readline() == f"0|talker | {word}\n"
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(30) == 130


def test_following_a_program_through_its_restart(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"))
    first = pmx.one("ready")["pid"]
    with subprocess.Popen(pmx.argv("logs", "ready", "--raw"), env=pmx.env, stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        assert viewer.stdout.readline() == f"ready {first}\n"
        pmx("restart", "ready")
        assert viewer.stdout.readline() == "bye\n"
        assert viewer.stdout.readline() == f"ready {pmx.one('ready')['pid']}\n"
        viewer.send_signal(signal.SIGINT)
        viewer.wait(30)


def test_a_reader_that_has_seen_enough(pmx: Pmx) -> None:
    pmx("start", "sh -c 'seq 100000; sleep 1000'", "-n", "count")
    command = " ".join(pmx.argv("logs", "count", "--nostream", "--raw", "--lines", "50000"))
    done = subprocess.run(f"{command} | head -1", shell=True, env=pmx.env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().isdigit()
    assert done.stderr == ""


def test_a_program_that_prints_outlives_the_daemon_and_no_line_is_lost(pmx: Pmx) -> None:
    """Pipes are open for reading at the keeper too: nobody gets EPIPE, and what is in flight waits."""
    pmx("start", "sh -c 'i=0; while :; do i=$((i+1)); echo $i; done'", "-n", "count")
    _, daemon = pmx.keeper_and_daemon()
    pid = pmx.one("count")["pid"]
    os.kill(daemon, signal.SIGKILL)
    assert pmx.one("count")["pid"] == pid
    pmx("stop", "count")
    numbers = pmx.log("count-out-0.log").split()
    assert numbers == [str(number + 1) for number in range(len(numbers))]
    assert len(numbers) > 1000
