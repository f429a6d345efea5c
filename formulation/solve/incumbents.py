"""Incumbents: feasible points made of solvers' answers, with their true objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from formulation.deadline import Deadline
from formulation.network import Array
from formulation.relaxation import Reduction, image_losses, sparsity
from formulation.score_settings import ScoreSettings
from formulation.solve.separation import TangentPoint, complete

AT_BOUND = 1e-9


@dataclass(frozen=True, eq=False)
class Incumbent:
    """A feasible point, its logits, its true objective and the mean loss and the sparsity term in it."""

    point: Array
    logits: Array
    objective: float
    loss: float
    sparsity: float


def incumbent_at(reduction: Reduction, settings: ScoreSettings, point: Array, logits: Array) -> Incumbent:
    """The incumbent at a feasible point, with its true objective.

    Args:
        reduction: the scoring set in score space.
        settings: loss weight and layer weight.
        point: [columns], feasible.
        logits: [classes, images], at the point.
    """
    loss = float(image_losses(logits, reduction.labels, settings.loss).mean())
    term = sparsity(reduction.network, point[: reduction.scores], settings.layer_weight)
    return Incumbent(point, logits, settings.objective(loss, term), loss, term)


def drawn_towards(inside: Incumbent, outside: TangentPoint, step: float) -> tuple[Array, Array]:
    """The point at a share of the way from a feasible point to another one, and the logits there.

    Forms are affine in the point, so logits on the way are known from both ends.

    Args:
        inside: the feasible point, at step 0.
        outside: the other point, at step 1.
        step: in [0, 1].

    Returns:
        [columns] and [classes, images].
    """
    return (
        inside.point + step * (outside.point - inside.point),
        inside.logits + step * (outside.logits - inside.logits),
    )


def snapped(point: Array, scores: int) -> Array:
    """The point with its scores in [0, 1], those at a bound but for the solver's tolerance exactly there.

    Args:
        point: [columns], a solver's.
        scores: how many of the columns are scores; they come first.
    """
    clipped = np.clip(point[:scores], 0.0, 1.0)
    nearest = np.round(clipped)
    clipped = np.where(np.abs(clipped - nearest) <= AT_BOUND, nearest, clipped)
    return np.concatenate([clipped, point[scores:]])


def whole_point(
    reduction: Reduction, settings: ScoreSettings, point: Array, logits: Array, deadline: Deadline
) -> tuple[Array, Array]:
    """The integer point with whole scores where asked for and its activations computed again, and the logits there.

    Args:
        reduction: the scoring set in score space.
        settings: what is whole.
        point: [columns], of an integer program, `snapped`.
        logits: [classes, images], at the point.
        deadline: of the pass; raises TimeLimitReached where it comes first.
    """
    scores = point[: reduction.scores]
    if settings.integer_scores:
        scores = np.round(scores)
    if not settings.relax:  # whole phases leave one value to every unstable activation
        return complete(reduction, scores, deadline)
    return np.concatenate([scores, point[len(scores) :]]), logits
