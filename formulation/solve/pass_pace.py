"""Pace of a pass over the scoring set: how long its steps take, and so how many cuts there is still time for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from formulation.deadline import Deadline
from formulation.network import Index

BACKWARD = 2.0  # a pass backwards takes about so many times one forwards; until one has been measured


@dataclass(eq=False)
class PassPace:
    """How long the steps of a pass take, in seconds, by the last of each that was measured.

    Attributes:
        batch: a pass of one batch forwards, the longest so far.
        loss_cut, cut: a loss cut's pass backwards for one image, and that of one cut.
        seconds, short: of this pass: its passes forwards, and whether cuts were left out.
    """

    batch: float = 0.0
    loss_cut: float = 0.0
    cut: float = 0.0
    seconds: float = 0.0
    short: bool = False
    clock: float = 0.0

    def started(self) -> PassPace:
        """Itself at the beginning of a pass."""
        self.seconds, self.short = 0.0, False
        return self

    def passed(self, seconds: float, images: int) -> None:
        """Take in a pass forwards; what was never measured is estimated from it."""
        self.batch = max(self.batch, seconds) if self.seconds else seconds
        self.seconds += seconds
        self.loss_cut, self.cut = (known or BACKWARD * seconds / images for known in (self.loss_cut, self.cut))
        self.clock = time.monotonic()

    def lap(self) -> float:
        """Seconds since this was asked last."""
        before, self.clock = self.clock, time.monotonic()
        return self.clock - before

    def blocks(self, cuts: Index, at_once: int, spare: Deadline) -> Iterator[Index]:
        """The cuts in blocks, all of `at_once` while there is time, smaller ones towards the end of it."""
        while len(cuts):
            count, left = min(at_once, len(cuts)), spare.remaining()
            if count * self.cut > left:
                count = int(left / (2 * self.cut))
            if count < 1:
                self.short = True
                return
            self.lap()
            yield cuts[:count]
            self.cut, cuts = self.lap() / count, cuts[count:]
