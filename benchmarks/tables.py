"""A table as text, and the figures in it."""

from collections.abc import Iterable


class Table:
    """Rows of text under a title; the first column is left-aligned, figures are right-aligned."""

    def __init__(self, title: str, *columns: str) -> None:
        self.title = title
        self.columns = columns
        self.rows: list[tuple[str, ...]] = []
        self.remarks: list[tuple[str, str]] = []

    def add(self, *cells: str) -> None:
        self.rows.append(cells)

    def remark(self, name: str, text: str) -> None:
        """A row for a contender that has no figures."""
        self.remarks.append((name, text))

    def __str__(self) -> str:
        names = [name for name, *_ in (*self.rows, *self.remarks)]
        first = max(map(len, ["", *names]))
        rest = list(zip(*([self.columns, *(row[1:] for row in self.rows)]), strict=True))
        widths = [max(map(len, column)) for column in rest]
        lines = [_line("", self.columns, first, widths)]
        lines += [_line(row[0], row[1:], first, widths) for row in self.rows]
        lines += [f"  {name.ljust(first)}  {text}" for name, text in self.remarks]
        return "\n".join([self.title, *lines, ""])


def _line(name: str, cells: Iterable[str], first: int, widths: list[int]) -> str:
    figures = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"  {name.ljust(first)}  {figures}".rstrip()


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs"


def mebibytes(value: float) -> str:
    return f"{value:.1f} MiB"


def percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def against(text: str, value: float, target: float | None) -> str:
    """A figure with its target, if it has one."""
    if target is None:
        return text
    return f"{text} ({'ok' if value <= target else 'over'}: {target:g})"
