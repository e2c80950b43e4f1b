"""A WSGI application: for gunicorn, waitress and granian."""

import os
from collections.abc import Callable
from typing import Any


def app(_: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    body = b"pid=%d\n" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
