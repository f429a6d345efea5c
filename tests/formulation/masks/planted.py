"""Tiny networks for the mask program, and every mask of theirs that a budget admits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from formulation import lower
from formulation.masks.budgets import MaskBudget, admits
from formulation.masks.inner_problem.dual_cuts import make_loss
from formulation.masks.inner_problem.expansion import Expansion, expand
from formulation.masks.inner_problem.inner_refit import InnerProblem
from tests.formulation.cases import Case


def expanded(case: Case, mask: np.ndarray | None = None) -> Expansion:
    """A case to first order around a mask."""
    return expand(lower(case.model, case.images), case.pixels, mask)


def problem_of(case: Case, loss: str, refit_weight: float, mask: np.ndarray | None = None) -> InnerProblem:
    """The mask program of a case without its budget; `softened` at temperature 2."""
    expansion = expanded(case, mask)
    made = make_loss(loss, expansion.dense, case.labels.numpy(), 2.0)
    return InnerProblem.of(expansion, made, refit_weight)


def admitted(expansion: Expansion, budget: MaskBudget) -> Iterator[np.ndarray]:
    """Every mask within a budget."""
    for values in itertools.product((0.0, 1.0), repeat=expansion.units):
        mask = np.array(values)
        if admits(expansion.network, budget, expansion.mask, mask):
            yield mask
