from collections.abc import Iterator

import pytest

from tests.unit.keeper.stage import Stage


@pytest.fixture
def stage(nothing_left: None, short_dir: str) -> Iterator[Stage]:
    """The keeper's loop in a process of its own; the test is its daemon."""
    made = Stage(short_dir)
    yield made
    made.close()
