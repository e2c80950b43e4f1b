"""Durations and sizes, as people write them and as people read them.

A bare number is milliseconds for a duration (as in PM2) and bytes for a size. Inside pmx a duration is
seconds (float) and a size is bytes (int); these functions stand at the edge.
"""

import re

from pmx.errors import UsageProblem

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
# Fifteen digits are exact in a float, and cannot overflow one.
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_SIZE = re.compile(rf"({_NUMBER})\s*(?:([kmgt])i?)?b?", re.IGNORECASE | re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds meant by `text`: ``1500`` (ms), ``500ms``, ``10s``, ``1h30m``. Raises UsageProblem."""
    text = text.strip().lower()
    if _MILLISECONDS.fullmatch(text):
        return int(text) / 1000
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageProblem(
            f"cannot read the duration {text!r}: it is neither milliseconds nor a number with a unit",
            "write for example 1500, 500ms, 10s or 1h30m",
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(text: str) -> int:
    """Bytes meant by `text`: ``1024``, ``300M``, ``1.5G``; K, M, G and T are powers of 1024. Raises UsageProblem."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageProblem(
            f"cannot read the size {text!r}: it is neither bytes nor a number with a unit",
            "write for example 4096, 64K, 300M or 1.5G",
        )
    return int(float(match[1]) * _BYTES[(match[2] or "").lower()])


def format_duration(seconds: float) -> str:
    """A duration in one or two units for a table: ``420ms``, ``12s``, ``3m 4s``, ``2h 5m``, ``3d 4h``."""
    if seconds < 0.9995:  # anything longer would be rounded to 1000ms
        return f"{max(0, round(seconds * 1000))}ms"
    whole = max(1, int(seconds))
    for unit, size, small, small_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size}{unit} {rest}{small}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def format_size(size: int) -> str:
    """A size for a table, in powers of 1024: ``512b``, ``1.5kb``, ``34.2mb`` (PM2's form)."""
    if size < 1024:
        return f"{size}b"
    value = size / 1024
    for unit in ("kb", "mb", "gb"):
        if value < 1023.95:  # anything more would be rounded to 1024.0
            return f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}tb"
