"""The unreduced program in HiGHS: the loss by tangents in a loop, each handed to the solver with the whole program."""

from __future__ import annotations

import highspy
import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax, softmax

from tests.oracles.intervals import Array
from tests.oracles.unreduced import Unreduced
from tests.oracles.values import Values

ROUNDS = 400
CLOSE = 1e-9  # of a tangent to the loss, where the loop ends
PRECISE = {
    "output_flag": False, "threads": 1, "mip_rel_gap": 0.0, "mip_abs_gap": 1e-10,
    "primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9, "mip_feasibility_tolerance": 1e-9,
}  # fmt: skip


class Tangents:
    """An unreduced program in HiGHS, with a column theta_i >= loss_i for each image."""

    def __init__(self, program: Unreduced) -> None:
        self.program, self.highs = program, highspy.Highs()
        for option, value in PRECISE.items():
            assert self.highs.setOptionValue(option, value) == highspy.HighsStatus.kOk
        count, images = len(program.lower), len(program.labels)
        self.highs.addVars(count, program.lower, program.upper)
        self.highs.addVars(images, np.zeros(images), np.full(images, np.inf))
        self.theta = np.arange(count, count + images)
        for column in np.flatnonzero(program.whole):
            self.highs.changeColIntegrality(int(column), highspy.HighsVarType.kInteger)
        for column in self.theta:
            self.highs.changeColCost(int(column), program.loss_weight / images)
        self.highs.changeColCost(program.largest, 1.0)
        self._add(program.rows)
        self._add(program.equations, equal=True)

    def fix(self, column: int, value: float) -> None:
        self.highs.changeColBounds(int(column), value, value)

    def minimise(self) -> float | None:
        """The optimum, to about 1e-8; None where no point is feasible."""
        for _ in range(ROUNDS):
            self.highs.run()
            status = self.highs.getModelStatus()
            if status == highspy.HighsModelStatus.kInfeasible:
                return None
            assert status == highspy.HighsModelStatus.kOptimal, self.highs.modelStatusToString(status)
            point = np.array(self.highs.getSolution().col_value)
            losses = np.array([self._tangent(i, point) for i in range(len(self.theta))])
            if (losses - point[self.theta]).max() < CLOSE:
                return float(self.program.loss_weight * losses.mean() + point[self.program.largest])
        raise AssertionError(f"the unreduced program did not converge in {ROUNDS} rounds")

    def _tangent(self, i: int, point: Array) -> float:
        """Add theta_i >= loss + slope . (o - o'); returns the loss of image i at the point."""
        label, each = int(self.program.labels[i]), self.program.logits[i]
        logits = each.weight @ point[: each.weight.shape[1]] + each.constant
        loss = -float(log_softmax(logits)[label])
        slope = softmax(logits)
        slope[label] -= 1
        theta = csr_array((np.ones(1), ([0], [self.theta[i]])), shape=(1, len(point)))
        self._add(Values(theta, np.array([slope @ logits - loss])) - each.mapped(slope[None, :]))
        return loss

    def _add(self, rows: Values, *, equal: bool = False) -> None:
        """Rows that are at least 0, or 0."""
        matrix, low = rows.weight, -rows.constant
        high = low if equal else np.full(len(low), highspy.kHighsInf)
        starts, indices = matrix.indptr[:-1].astype(np.int32), matrix.indices.astype(np.int32)
        added = self.highs.addRows(len(low), low, high, matrix.nnz, starts, indices, matrix.data)
        assert added == highspy.HighsStatus.kOk
