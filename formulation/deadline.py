"""Deadline: the moment by which a call must have ended, handed down to whatever takes time.

Nothing is interrupted: before a step begins, its length is estimated from the steps measured before it, and a step that
does not fit is not begun. So a call passes its limit by no more than an estimate is wrong by.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from formulation.errors import TimeLimitReached


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock.

    Attributes:
        limit: the seconds that the caller allowed, for messages.
        end: the moment, in seconds of `time.monotonic`.
    """

    limit: float
    end: float

    @staticmethod
    def after(limit: float) -> Deadline:
        """The moment `limit` seconds from now."""
        return Deadline(limit, time.monotonic() + limit)

    def earlier(self, seconds: float) -> Deadline:
        """The same deadline, so many seconds before."""
        return replace(self, end=self.end - seconds)

    def remaining(self) -> float:
        """Seconds until the moment, negative after it."""
        return self.end - time.monotonic()

    def leaves(self, seconds: float) -> bool:
        """Whether a step of that length fits."""
        return self.remaining() > seconds

    def require(self, step: str, seconds: float = 0.0) -> None:
        """Raise TimeLimitReached unless a step of that length fits."""
        if not self.leaves(seconds):
            raise TimeLimitReached(
                f"the time limit of {self.limit:g} s leaves no time for {step}; "
                "raise time_limit, use fewer images, or a smaller network"
            )


NEVER = Deadline(math.inf, math.inf)


@dataclass(frozen=True)
class Aftermath:
    """Time to keep back for what follows a search.

    Attributes:
        seconds: of steps measured before.
        passes: how many forward passes over the scoring set.
        dual_bounds: how many computations of a dual bound.
    """

    seconds: float = 0.0
    passes: float = 0.0
    dual_bounds: float = 0.0
