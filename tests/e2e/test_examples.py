"""Each example runs under pmx as its README line says: served, listed, stopped."""

import http.client
import json

import pytest

from tests.harness import EXAMPLES, Pmx, eventually, free_port


def get(port: int, path: str = "/") -> str:
    """The body that 127.0.0.1:`port` answers with; empty while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    except ConnectionError:
        return ""
    finally:
        connection.close()


def test_hello_on_every_core_behind_one_port(pmx: Pmx) -> None:
    port = free_port()
    pmx("start", str(EXAMPLES / "hello.py"), "-i", "2", "--", str(port))
    pids = {str(pid) for pid in pmx.pids("hello")}
    assert len(pids) == 2
    answered: set[str] = set()

    def all_have_answered() -> bool:
        answered.add(get(port).rpartition("pid ")[2].strip(" )\n"))
        return pids <= answered

    eventually(all_have_answered)
    pmx("stop", "hello")
    assert get(port) == ""
    assert "bye" in pmx("logs", "hello", "--nostream").stdout


@pytest.mark.node
def test_a_node_server(pmx: Pmx) -> None:
    port = free_port()
    pmx("start", str(EXAMPLES / "node_http.js"), env={**pmx.env, "PORT": str(port)})
    assert pmx.one("node_http")["pm2_env"]["exec_interpreter"].endswith("node")
    assert "hello" in eventually(lambda: get(port))
    pmx("restart", "node_http")
    assert eventually(lambda: get(port))
    pmx("stop", "node_http")
    assert pmx.one("node_http")["pm2_env"]["exit_code"] == 0


def test_fastapi(pmx: Pmx) -> None:
    port = free_port()
    pmx("start", str(EXAMPLES / "fastapi_app.py"), env={**pmx.env, "PORT": str(port)})
    assert json.loads(eventually(lambda: get(port, "/health")))
    pmx("stop", "fastapi_app")
    assert get(port) == ""


def test_a_crash_looper_is_told_at_once_and_given_up_in_the_end(pmx: Pmx) -> None:
    pmx("start", str(EXAMPLES / "crash_loop.py"), "--max-restarts", "2", status=8)
    with pmx.events() as expect:
        if pmx.one("crash_loop")["pm2_env"]["status"] != "errored":
            expect(lambda change: change["to"] == "errored")
    assert pmx.one("crash_loop")["pm2_env"]["restart_time"] == 2


def test_a_worker_without_a_port(pmx: Pmx) -> None:
    pmx("start", str(EXAMPLES / "worker.py"))
    eventually(lambda: pmx.log("worker-out-0.log").count("\n") >= 2)
    pmx("stop", "worker")
    assert pmx.one("worker")["pm2_env"]["exit_code"] == 0
