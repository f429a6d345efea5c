"""The objective of the mask program at a given mask, by arithmetic, and what gaps are relative to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from formulation.errors import CheckFailed, InvalidSolution
from formulation.masks.inner_problem.joint_problem import JointProblem, MaskProblem
from formulation.network import Array

SMALL = 1e-3  # nats: a smaller objective counts as this one


def size_of(objective: float) -> float:
    """|objective|, or `SMALL` where that is more: gaps and tolerances are relative to it.

    Args:
        objective: of a mask.
    """
    return max(abs(objective), SMALL)


def relative_to(objective: float, bound: float) -> float:
    """(objective - bound) / max(|objective|, SMALL), at least 0.

    Args:
        objective: of a mask.
        bound: of every mask.
    """
    return max(0.0, objective - bound) / size_of(objective)


def objective_at(problem: MaskProblem, chosen: Array, changes: Any) -> float:
    """The program's objective at a mask with given changes of the surviving weights.

    Args:
        problem: expansion, loss and refit weight.
        chosen: the mask, [units].
        changes: U by the name of the reading node, [outputs, columns].

    Raises:
        InvalidSolution: changes of another shape.
        CheckFailed: a removed unit's weights change.
    """
    if isinstance(problem, JointProblem):
        return problem.combined(objectives_at(problem, chosen, changes))
    expansion = problem.expansion
    logits, ridge = expansion.logits_at(chosen), 0.0
    if math.isfinite(problem.refit_weight):
        for reading in expansion.readings:
            change = np.asarray(changes.get(reading.name, np.zeros(0)), dtype=float)
            if change.shape != reading.weight.shape:
                raise InvalidSolution(f"the changes of {reading.name} have shape {change.shape}; choose again")
            if np.any(change[:, reading.kept(chosen) == 0]):
                raise CheckFailed(f"weights of {reading.name} change that read removed units; the solution was altered")
            logits = logits + reading.moved(change)
            ridge += problem.refit_weight * float((change**2).sum())
    return float(problem.loss.values(logits).mean()) + ridge


def objectives_at(problem: JointProblem, chosen: Array, changes: Any) -> list[float]:
    """The objective of each data set, as `objective_at`.

    Args:
        problem: of several data sets.
        chosen: the mask, [units].
        changes: U by the name of the data set and of the reading node.

    Raises:
        InvalidSolution, CheckFailed: as `objective_at`.
    """
    return [objective_at(each, chosen, problem.changes_of(name, changes)) for name, each in problem.named_problems]
