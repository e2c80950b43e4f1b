"""Wall-clock time, for what people read. Decisions use the loop's monotonic clock (style.md section 9)."""

import time


def wall() -> float:
    """Seconds since the epoch."""
    return time.time()  # noqa: TID251  # the one place
