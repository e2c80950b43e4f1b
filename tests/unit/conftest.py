import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest

from pmx.paths import Home
from tests.unit.support import await_end, leaving_nothing, processes_of


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """The test closes what it opens and buries what it starts."""
    with leaving_nothing():
        yield


@pytest.fixture
def short_dir() -> Iterator[str]:
    """A private directory whose path leaves room for a socket's name. At the end no process may know it."""
    path = tempfile.mkdtemp(prefix="pt-", dir="/tmp")
    yield path
    try:
        left = processes_of(path)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            await_end(pid)
    finally:
        shutil.rmtree(path)
    assert not left, f"processes left behind: {left}"


@pytest.fixture
def short_home(short_dir: str) -> Home:
    """A home that does not exist yet."""
    return Home(f"{short_dir}/h")
