"""Clock of a search: the time that is kept back for its last dual bound and for what follows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from formulation.deadline import Aftermath, Deadline

MOST_SLOWDOWN = 5.0
HICCUP = 0.25  # s: that a pass takes longer by less than this says little about a busy machine
WRITING = 0.2  # s: what linopy takes for a small program, until it has been measured
LATE = 0.04  # of the time limit, by which the last dual bound may pass its time
DUAL_BOUND = 3.0  # a dual bound takes about so many times a pass forwards; until one has been measured


@dataclass(eq=False)
class SearchClock:
    """The deadline of a search and how long its steps take, in seconds, by the last of each that was measured.

    Attributes:
        deadline: of the whole call, of which what follows the search is a part.
        aftermath: what follows the search.
        started: on the clock of `time.perf_counter`.
        first_pass, last_pass: a pass over the scoring set forwards.
        dual_bound_seconds, writing_seconds: a dual bound, and the writing of a program.
    """

    deadline: Deadline
    aftermath: Aftermath
    started: float = field(default_factory=time.perf_counter)
    first_pass: float = 0.0
    last_pass: float = 0.0
    dual_bound_seconds: float = 0.0
    writing_seconds: float = WRITING

    def first_pass_ended(self) -> None:
        """Take in the first pass, which began with the clock; what was never measured is estimated from it."""
        self.first_pass = self.last_pass = time.perf_counter() - self.started
        self.dual_bound_seconds = DUAL_BOUND * self.first_pass

    @property
    def afterwards(self) -> float:
        """Seconds that what follows the search will take, on a machine as busy as it was in the last pass."""
        after = self.aftermath
        slowdown = min(max(1.0, (self.last_pass + HICCUP) / (self.first_pass + HICCUP)), MOST_SLOWDOWN)
        return slowdown * (after.seconds + after.passes * self.first_pass + after.dual_bounds * self.dual_bound_seconds)

    @property
    def working(self) -> Deadline:
        """The deadline less the time that is kept back for the dual bound and for what follows."""
        return self.deadline.earlier(self.dual_bound_seconds + self.afterwards)

    @property
    def solver_seconds(self) -> float:
        """Seconds that a solver may still take: a pass over its answer follows."""
        return self.working.remaining() - self.last_pass

    def leaves_last_dual_bound(self) -> bool:
        """Whether there is time for the last dual bound, a little late where a round took longer than estimated."""
        late = LATE * self.deadline.limit
        return self.deadline.earlier(self.afterwards - late).leaves(self.dual_bound_seconds)
