"""Cuts of a linear program that rest: those slack in its last answers leave the solver until an answer breaks them.

Slack means of dual 0: nothing of the bound rests on the cut, even where the answer lies on it.

The rows of a solver are first its own, then cuts in the order in which they were woken. A cut that rests has dual 0,
and an answer counts once no cut that rests is broken by it, so it is one of the program with every cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from formulation.network import Array, Index

IDLE = 3  # answers in a row in which a cut is slack before it rests
NO_CUT = -1


class CutRows:
    """All cuts of a program over the solver's columns, and which of the solver's rows they are.

    Args:
        own: rows that the solver holds before any cut.
        columns: of the solver.
    """

    def __init__(self, own: int, columns: int) -> None:
        self._matrix = csr_array((0, columns))
        self._lower, self._upper = np.zeros(0), np.zeros(0)
        self._cut = np.full(own, NO_CUT)
        self._idle = np.zeros(0, dtype=np.int64)

    def add(self, matrix: csr_array, lower: Array, upper: Array) -> Index:
        """Take in cuts, which rest until they are woken; returns their numbers.

        Args:
            matrix: [k, columns].
            lower, upper: [k].
        """
        first = len(self._lower)
        self._matrix = csr_array(vstack([self._matrix, matrix], format="csr"))
        self._lower, self._upper = np.append(self._lower, lower), np.append(self._upper, upper)
        self._idle = np.append(self._idle, np.zeros(len(lower), dtype=np.int64))
        return np.arange(first, len(self._lower))

    def wake(self, cuts: Index) -> tuple[csr_array, Array, Array]:
        """The rows of cuts, which the solver holds from now on behind its others."""
        self._cut = np.append(self._cut, cuts)
        self._idle[cuts] = 0
        return csr_array(self._matrix[cuts]), self._lower[cuts], self._upper[cuts]

    def keep_one(self) -> None:
        """The solver was given a row that is no cut."""
        self._cut = np.append(self._cut, NO_CUT)

    def note_slack(self, slack: NDArray[np.bool_]) -> None:
        """Count an answer in which these rows of the solver, [rows], were slack."""
        awake = self._cut != NO_CUT
        cuts = self._cut[awake]
        self._idle[cuts] = np.where(slack[awake], self._idle[cuts] + 1, 0)

    def rest(self) -> Index:
        """Let cuts rest that have been slack for a while; returns the rows that the solver is to drop, ascending."""
        awake = self._cut != NO_CUT
        slack = awake.copy()
        slack[awake] = self._idle[self._cut[awake]] >= IDLE
        self._cut = self._cut[~slack]
        return np.flatnonzero(slack)

    def broken(self, values: Array, tolerance: float) -> Index:
        """The cuts that rest and that values of the columns break by more than a tolerance."""
        resting = np.ones(len(self._lower), dtype=bool)
        resting[self._cut[self._cut != NO_CUT]] = False
        if not resting.any():
            return np.zeros(0, dtype=np.int64)
        row = self._matrix @ values
        return np.flatnonzero(resting & (np.maximum(self._lower - row, row - self._upper) > tolerance))

    def of_cuts(self, found: Array) -> Array:
        """Duals of all cuts, in the order in which they were added, from those of the solver's rows."""
        made = np.zeros(len(self._lower))
        awake = self._cut != NO_CUT
        made[self._cut[awake]] = found[awake]
        return made
