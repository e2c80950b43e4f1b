"""Every command in the README and in docs/ runs, in order, page by page, as it stands there.

The README's two set-up commands are the exception: .ci/run takes them from the README and runs them.
"""

import os
import re
import shutil
import subprocess

import pytest

from tests.harness import ROOT, Pmx

SETUP = 2
"""The first blocks of the README, which make an environment."""

PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "```sh\n" in page.read_text() and "decisions" not in page.parts
]


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page(pmx: Pmx, page: os.PathLike[str]) -> None:
    with open(page) as file:
        commands = blocks(file.read())[SETUP if os.path.basename(page) == "README.md" else 0 :]
    assert commands
    shutil.copytree(ROOT / "examples", pmx.work / "examples")
    where = pmx.work if "cd examples" in "".join(commands) else pmx.work / "examples"
    script = "set -euo pipefail\n" + "\n".join(commands)
    done = subprocess.run(["bash", "-c", script], cwd=where, env=pmx.env, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_links_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken
