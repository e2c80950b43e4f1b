"""The servers of the matrix: what each needs, and the command line that a person would give to pmx start."""

import json
import os
from pathlib import Path
from typing import NamedTuple

SERVERS_DIR = Path(__file__).resolve().parent / "servers"


class Server(NamedTuple):
    """One server. `command` names {port}, {servers}, {work}, {python}, and {venv}, {npm}, {bin} of the installation."""

    name: str
    needs: str  # what of installed.json
    command: str
    host: str = "127.0.0.1"  # where the client connects to
    env: str = ""  # an assignment for --env


_GUNICORN = "{venv}/bin/gunicorn --chdir {servers} --bind 127.0.0.1:{port}"
_UVICORN = "{venv}/bin/uvicorn --app-dir {servers} --port {port} --no-access-log asgi:app"
_GRANIAN = "{venv}/bin/granian --working-dir {servers} --port {port}"
_PYTHON_PATH = "PYTHONPATH={servers}"
_NODE_PATH = "NODE_PATH={npm}/node_modules"

SERVERS = (
    Server("node-http", "node", "node {servers}/node_http.js {port} 127.0.0.1"),
    Server("node-http-dual", "node", "node {servers}/node_http.js {port}"),
    Server("node-http-dual-v6", "node", "node {servers}/node_http.js {port}", host="::1"),
    Server("node-cluster", "node", "{servers}/node_cluster.js"),
    Server("express", "express", "{servers}/express_app.js", env=_NODE_PATH),
    Server("fastify", "fastify", "{servers}/fastify_app.js", env=_NODE_PATH),
    Server("bun", "bun", "{npm}/node_modules/.bin/bun {servers}/bun_serve.ts {port}"),
    Server("python-http", "python", "{python} {servers}/http_server.py {port} HTTPServer"),
    Server("python-http-threading", "python", "{python} {servers}/http_server.py {port} ThreadingHTTPServer"),
    Server("flask-dev", "flask", "{venv}/bin/flask --app {servers}/flask_app.py run --port {port}"),
    Server("uvicorn-asyncio", "uvicorn", f"{_UVICORN} --loop asyncio"),
    Server("uvicorn-uvloop", "uvloop", f"{_UVICORN} --loop uvloop"),
    Server("uvicorn-workers-2", "uvicorn", f"{_UVICORN} --workers 2"),
    Server("gunicorn-sync", "gunicorn", f"{_GUNICORN} wsgi:app"),
    Server("gunicorn-prefork-2", "gunicorn", f"{_GUNICORN} --workers 2 wsgi:app"),
    Server("gunicorn-gthread", "gunicorn", f"{_GUNICORN} --worker-class gthread --threads 2 wsgi:app"),
    Server("gunicorn-uvicorn", "uvicorn-worker", f"{_GUNICORN} -k uvicorn_worker.UvicornWorker asgi:app"),
    Server("hypercorn", "hypercorn", "{venv}/bin/hypercorn --bind 127.0.0.1:{port} asgi:{servers}/asgi.py:app"),
    Server("waitress", "waitress", "{venv}/bin/waitress-serve --listen=127.0.0.1:{port} wsgi:app", env=_PYTHON_PATH),
    Server("aiohttp", "aiohttp", "{venv}/bin/python {servers}/aiohttp_app.py {port}"),
    Server("tornado", "tornado", "{venv}/bin/python {servers}/tornado_app.py {port}"),
    Server("twisted", "twisted", "{venv}/bin/python {servers}/twisted_app.py {port}"),
    Server("granian-1", "granian", f"{_GRANIAN} --interface wsgi wsgi:app"),
    Server("granian-2", "granian", f"{_GRANIAN} --interface asgi --workers 2 asgi:app"),
    Server("go-net-http", "go", "{bin}/go_server {port}"),
    Server("java-httpserver", "java", "java -XX:TieredStopAtLevel=1 -cp {bin} JavaServer {port}"),
    Server("rust-std", "rust", "{bin}/rust_server {port}"),
    Server("c-static", "c", "{bin}/c_server {port}"),
    Server("php", "php", "php -S 127.0.0.1:{port} {servers}/answer.php"),
    Server("ruby-puma", "puma", "puma --quiet --bind tcp://127.0.0.1:{port} {servers}/config.ru"),
    Server("ruby-webrick", "webrick", "ruby {servers}/webrick_app.rb {port}"),
    Server("nginx", "nginx", "nginx -e stderr -p {work} -c {work}/nginx.conf"),
)

FEW = ("node-http", "python-http", "uvicorn-asyncio", "gunicorn-prefork-2", "c-static", "nginx")
"""Enough of them to try in each mode: one process, its children, an event loop, a blocking listener, no library."""


class Installed(NamedTuple):
    """What installed.json says of one thing. `why` is the reason when it is not `ok`; `version` may be empty."""

    ok: bool
    why: str = ""
    version: str = ""


def directory() -> Path:
    """Where tests.matrix.install puts things and everybody looks for them: PMX_MATRIX, or in the user's cache."""
    return Path(os.environ.get("PMX_MATRIX") or os.path.expanduser("~/.cache/pmx-matrix"))


def installed() -> dict[str, Installed]:
    """Empty when tests.matrix.install never ran."""
    try:
        found = json.loads((directory() / "installed.json").read_text())
    except FileNotFoundError:
        return {}
    return {name: Installed(**each) for name, each in found.items()}
