import os
import shutil
from collections.abc import Iterator

import pytest

from tests.unit.keeper.puppet import PYTHON, Puppets
from tests.unit.keeper.stage import Stage

SOMEBODY = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
"""A command that runs another as an ordinary user."""


@pytest.fixture
def stage(nothing_left: None, short_dir: str) -> Iterator[Stage]:
    """The keeper's loop in a process of its own; the test is its daemon."""
    made = Stage(short_dir)
    yield made
    made.close()


@pytest.fixture
def puppets(stage: Stage) -> Iterator[Puppets]:
    """Programs of that keeper which do what the test says."""
    made = Puppets(stage.ready(), stage.directory)
    yield made
    made.close()


@pytest.fixture
def theirs(nothing_left: None, short_dir: str) -> Iterator[Puppets]:
    """The same with a keeper that runs as an ordinary user without any capability."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or not os.path.exists(PYTHON):
        pytest.skip("only root can become an ordinary user; who is one has tested it already")
    stage = Stage(short_dir, SOMEBODY, PYTHON)
    made = Puppets(stage.ready(), short_dir, PYTHON)
    yield made
    made.close()
    stage.close()


@pytest.fixture(params=["ours", "theirs"])
def both(request: pytest.FixtureRequest) -> Puppets:
    """As the user of the tests, and as an ordinary one."""
    made: Puppets = request.getfixturevalue({"ours": "puppets", "theirs": "theirs"}[request.param])
    return made
