"""The words for what cannot be broken on purpose here, and that nothing is broken here."""

import errno
import os
from pathlib import Path

import pytest

from pmx.doctor import parts
from pmx.doctor.parts import Broken, broken_part
from pmx.keeper import seccomp

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),  # Python 3.12, of fork
]


def test_nothing_is_broken_here() -> None:
    assert broken_part() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_nor_for_another_user() -> None:
    assert broken_part(65534) is None


@pytest.mark.parametrize(
    ("scope", "why", "change"),
    [
        ("1", "the memory of our own child cannot be read (EACCES)", "security module"),
        ("2", "as kernel.yama.ptrace_scope is 2", "ptrace_scope=1, or give pmx CAP_SYS_PTRACE"),
        ("3", "as kernel.yama.ptrace_scope is 3", "from 3 only a boot leads back"),
    ],
)
def test_yama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, why: str, change: str) -> None:
    (tmp_path / "scope").write_text(f"{scope}\n")
    monkeypatch.setattr(parts, "_YAMA", str(tmp_path / "scope"))
    said = Broken("memory", errno.EACCES).words()
    assert why in said[0]
    assert change in said[1]


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "HERE", None)
    broken = broken_part()
    assert broken == Broken("filter", errno.ENOSYS)
    assert "not known to pmx" in broken.words()[0]
    assert broken.words()[1] == "use x86-64 or aarch64"
