"""The time that a busy machine may add to what a test waits for.

The tests that use it guard against waits without an end, or of minutes; they run beside others that keep every core
busy.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = 45.0  # seconds


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where this process and its children compute for longer, or wait for longer than a busy machine explains."""
    started, before = time.monotonic(), _computed()
    try:
        yield
    finally:  # what was caught outside took its time, too
        assert _computed() - before < seconds, "seconds of the CPU"
        assert time.monotonic() - started < seconds + BUSY, "seconds on the clock"


def _computed() -> float:
    return sum(os.times()[:4])
