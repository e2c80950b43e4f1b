"""pmx doctor: which guarantee holds on this machine, and what to change where one does not. Starts no daemon."""

import json
import sys
from typing import Annotated

import typer

from pmx import paths
from pmx.cli.render.table import Cell, Column, Style, key_value, paint, render, screen, visible
from pmx.client.launch import is_running
from pmx.doctor.examination import examine
from pmx.doctor.finding import Finding
from pmx.errors import PmxError

_MARKS = {"ok": ("✓", "green"), "restricted": ("!", "yellow"), "missing": ("✗", "red")}
_UNTRIED = ("-", "dim")


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON instead of a table.")] = False,
) -> None:
    home = paths.find()
    found = examine(home, is_running(home))
    if as_json:
        print(json.dumps([_record(each) for each in found], ensure_ascii=False))
    else:
        width, style = screen(sys.stdout)
        print(_table(found) if style == "plain" else _for_a_person(found, width, style))
    missing = [each.check for each in found if each.state == "missing"]
    if missing:
        sys.stdout.flush()
        raise PmxError(
            f"cannot give every guarantee on this machine: {', '.join(missing)}", "what to change stands beside each"
        )


def _record(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "state": finding.state,
        "guarantee": finding.guarantee,
        "why": finding.why,
        "change": finding.change,
    }


def _table(found: list[Finding]) -> str:
    """For programs: everything about a check in its line."""
    columns = [Column(name) for name in ("state", "check", "guarantee", "why", "change")]
    rows = [(each.state, each.check, each.guarantee, each.why, each.change) for each in found]
    return render(columns, rows, width=0, style="plain")


def _for_a_person(found: list[Finding], width: int, style: Style) -> str:
    """All guarantees, then what there is to say of some."""
    columns = [Column(""), Column("check", priority=1), Column("guarantee", shrink=True, priority=2)]
    rows: list[tuple[Cell, ...]] = [(_mark(each), each.check, each.guarantee) for each in found]
    parts = [render(columns, rows, width=width, style=style)]
    for each in found:
        mark, colour = _mark(each)
        if each.state != "ok":
            title = f"{mark} {each.check}: {each.guarantee}"
            parts.append(key_value(title, [("why", each.why), ("change", each.change)], width=width, style=style))
        elif each.why:
            parts.append(f"{paint(mark, colour, style)} {each.check}: {visible(each.why)}")
    return "\n".join(parts)


def _mark(finding: Finding) -> tuple[str, str]:
    return _MARKS[finding.state] if finding.tried else _UNTRIED
