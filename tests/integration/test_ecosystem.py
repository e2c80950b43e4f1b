"""pmx start ecosystem.yaml: all of its programs, or none."""

import json
import os
from pathlib import Path

import pytest

from tests.harness import APPS, Pmx

FILE = f"""\
apps:
  - name: web
    script: {APPS}/ready.py
    instances: 2
    cwd: sub
    args: --port 80
    env: {{GREETING: hello, VERSION: 1.10}}
  - name: worker
    script: sleep 1000
    namespace: back
"""


def write(pmx: Pmx, text: str, name: str = "ecosystem.yaml") -> Path:
    (pmx.work / "sub").mkdir(exist_ok=True)
    file = pmx.work / name
    file.write_text(text)
    return file


def test_every_program_of_a_file_is_started(pmx: Pmx) -> None:
    write(pmx, FILE)
    said = pmx("start", "../ecosystem.yaml", cwd=pmx.work / "sub")
    assert said.stdout.startswith("started web (2 instances), worker\n")
    web = [each for each in pmx.jlist() if each["name"] == "web"]
    assert [each["pm2_env"]["status"] for each in web] == ["online", "online"]
    for number, each in enumerate(web):
        pid = each["pid"]
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        assert {"GREETING=hello", "VERSION=1.10", f"PMX_INSTANCE={number}"} <= set(variables)
        assert os.readlink(f"/proc/{pid}/cwd") == str(pmx.work / "sub")
        assert Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"ready.py\0--port\x0080\0")
    worker = pmx.one("worker")
    assert (worker["pm2_env"]["status"], worker["pm2_env"]["namespace"]) == ("online", "back")
    assert os.readlink(f"/proc/{worker['pid']}/cwd") == str(pmx.work)


def test_a_file_with_clusters_reaches_the_daemon(pmx: Pmx) -> None:
    """What is asked for is on record as it was written; tests of clusters see that it is obeyed."""
    write(pmx, FILE + "    share: off\n    listen: [{name: web, url: unix:web.sock}]\n    instances: 2\n")
    pmx("start", "ecosystem.yaml")
    data = json.loads(Path(pmx.home.snapshot).read_text())
    web, worker = (app["spec"] for app in data["apps"])
    assert (web["sharing"]["share"], worker["sharing"]["share"]) == (True, False)
    assert worker["sharing"]["listen"] == [["web", f"unix://{pmx.work}/web.sock"]]


def test_a_mistake_about_clusters_is_pointed_at(pmx: Pmx) -> None:
    write(pmx, FILE + "    port: 70000\n    balance: fair\n    node_cluster: true\n")
    said = pmx("start", "ecosystem.yaml", status=2)
    assert "ecosystem.yaml:11:11: port: cannot use the port 70000: it must be from 1 to 65535" in said.stderr
    assert "ecosystem.yaml:12:14: balance: cannot balance by 'fair': there is no such way" in said.stderr
    assert pmx.jlist() == []


def test_a_json_file_and_a_script_together(pmx: Pmx) -> None:
    write(pmx, json.dumps([{"exec": "sleep", "args": [1000], "name": "sleeper"}], indent="\t"), "apps.json")
    pmx("start", "apps.json", str(APPS / "ready.py"))
    assert {each["name"] for each in pmx.jlist()} == {"sleeper", "ready"}


def test_a_typo_is_pointed_at_and_nothing_is_started(pmx: Pmx) -> None:
    write(pmx, FILE + "    max_restrts: 3\n    min_uptime: soon\n")
    said = pmx("start", str(APPS / "ready.py"), "ecosystem.yaml", status=2)
    assert said.stdout == ""
    assert "ecosystem.yaml:11:5: there is no key 'max_restrts'; did you mean 'max_restarts'?" in said.stderr
    assert "ecosystem.yaml:12:17: min_uptime: cannot read the duration 'soon'" in said.stderr
    assert "nothing was started" in said.stderr
    assert pmx.jlist() == []


def test_a_missing_program_is_pointed_at_and_nothing_is_started(pmx: Pmx) -> None:
    write(pmx, FILE + "  - script: ./missing.py\n")
    said = pmx("start", "ecosystem.yaml", status=5)
    assert "ecosystem.yaml:11:13: cannot start ./missing.py: there is no file" in said.stderr
    assert pmx.jlist() == []


def test_a_second_start_is_a_conflict(pmx: Pmx) -> None:
    write(pmx, FILE)
    pmx("start", "ecosystem.yaml")
    before = pmx.pids("web")
    said = pmx("start", "ecosystem.yaml", status=4)
    assert "cannot start web: a program of that name is running" in said.stderr
    assert pmx.pids("web") == before


@pytest.mark.parametrize("options", [["--name", "x"], ["-i", "2"], ["--env", "A=b"], ["--", "x"]])
def test_options_about_one_program_do_not_go_with_a_file(pmx: Pmx, options: list[str]) -> None:
    write(pmx, FILE)
    said = pmx("start", "ecosystem.yaml", *options, status=2)
    assert "cannot start ecosystem.yaml with" in said.stderr
    assert pmx.jlist() == []
