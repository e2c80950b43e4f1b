"""Write every generated file: ``python tools/generate.py``; with ``--check``, say which are stale and exit with 1."""

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import commands, completions, diagram, reference, transitions  # noqa: E402


def generated() -> dict[str, Callable[[], str]]:
    """Each generated file, relative to the repository, and what makes its text."""
    described = commands.described()
    found = transitions.explore()
    return {
        "completions/pmx.bash": lambda: completions.bash(described),
        "completions/_pmx": lambda: completions.zsh(described),
        "completions/pmx.fish": lambda: completions.fish(described),
        "docs/reference/cli.md": lambda: reference.cli(described),
        "docs/reference/defaults.md": lambda: reference.defaults(described),
        "docs/reference/lifecycle.md": lambda: reference.lifecycle(found),
        "docs/reference/lifecycle.svg": lambda: diagram.draw(found),
    }


def main(argv: list[str]) -> int:
    if argv not in ([], ["--check"]):
        sys.stderr.write("usage: python tools/generate.py [--check]\n")
        return 2
    stale = {name: text for name, make in generated().items() if (text := make()) != _present(name)}
    for name, text in stale.items():
        if argv:
            sys.stdout.writelines(_difference(name, text))
        else:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    if argv and stale:
        sys.stderr.write(f"{len(stale)} generated files are stale: run  make generate\n")
    return 1 if argv and stale else 0


def _present(name: str) -> str:
    file = ROOT / name
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _difference(name: str, text: str) -> list[str]:
    old, new = _present(name).splitlines(keepends=True), text.splitlines(keepends=True)
    return list(difflib.unified_diff(old, new, name, f"{name} as it should be"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
