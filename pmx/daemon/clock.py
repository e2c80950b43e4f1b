"""Wall-clock time, for what people read; decisions use the loop's monotonic clock (style.md section 9)."""

import asyncio
import time


def wall() -> float:
    """Seconds since the epoch."""
    return time.time()  # noqa: TID251  # the one place


def monotonic() -> float:
    """Seconds by the clock of the running loop, which its timers go by."""
    return asyncio.get_running_loop().time()
