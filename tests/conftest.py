"""Fixtures for everybody. What they are made of is in harness.py."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.harness import Pmx, private_pmx


@pytest.fixture
def pmx(request: pytest.FixtureRequest) -> Iterator[Pmx]:
    """The real command on a private home; afterwards nothing of it may be left."""
    with private_pmx() as it:
        yield it
        report = getattr(request.node, "pmx_report", None)
        if report is not None and report.failed:
            print(it.tell())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "call":
        item.pmx_report = report  # type: ignore[attr-defined]  # for the fixture above
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need node: missing node is a failure in CI, and a visible skip elsewhere."""
    if shutil.which("node") is None and not os.environ.get("CI"):
        for item in items:
            if item.get_closest_marker("node"):
                item.add_marker(pytest.mark.skip(reason="node is not installed"))
