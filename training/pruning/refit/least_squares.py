"""Least squares from Gram matrices: the weights of the surviving columns, with a ridge towards the weights so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import RefitError
from training.pruning.refit.gram import Gram

# Parts of the mean second moment of the columns, tried where no ridge is given.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
CONSTANT = 1e-13  # of a column's second moment: less of it about the mean is rounding


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights V [M, K] and an intercept c [M] of one group of a layer: y is near V z + c."""

    weight: Tensor
    intercept: Tensor


def fit_weights(gram: Gram, group: int, kept: Tensor, start: Tensor, ridge: float, *, intercept: bool) -> Fit:
    """The weights on the kept columns nearest to the targets.

    With z and y centred where there is an intercept (else as they are), G = sum z z' on the kept columns and
    C = sum y z',

        minimise over V   ||Y - V Z||^2 + r ||V - W||^2,      V = (C + r W) (G + r I)^-1,      r = ridge * mean diag G.

    Args:
        gram: sums over the readings, float64.
        group: which group of the layer.
        kept: bool per column [K].
        start: W, the weights so far [M, K].
        ridge: part of the mean second moment, >= 0.
        intercept: whether a constant c may be added; it is not penalised.

    Returns:
        V with zeros on the columns that are not kept, and c (zeros without an intercept).

    Raises:
        RefitError: G is singular and the ridge 0.
    """
    inner, cross, means = _centred(gram, group, intercept=intercept)
    where = kept.nonzero().squeeze(1)
    g, c, w = inner[where][:, where], cross[:, where], start.double()[:, where]
    weight = torch.zeros_like(start, dtype=g.dtype)
    target, read = means
    if _is_constant(gram, group, g, where) and (ridge > 0.0 or not len(where)):
        # Nothing moves that could be fitted to: the weights stay, the intercept sees to the mean.
        weight[:, where] = w
        return Fit(weight, target - weight @ read)
    strength = ridge * float(g.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(g + strength * torch.eye(len(where), dtype=g.dtype, device=g.device))
    if int(failed):
        raise RefitError(
            f"the Gram matrix of {len(where)} columns over {gram.count} readings is singular at ridge={ridge:g}: "
            f"give a larger ridge, or none so that one is chosen, or more images"
        )
    weight[:, where] = torch.cholesky_solve((c + strength * w).mT, factor).mT
    return Fit(weight, target - weight @ read)


def squared_error(gram: Gram, group: int, fit: Fit) -> float:
    """sum ||y - V z - c||^2 over the readings of the sums, never below 0."""
    v, c = fit.weight, fit.intercept
    inner, cross = gram.inner[group], gram.cross[group]
    quadratic = ((v @ inner) * v).sum() - 2 * (cross * v).sum() + gram.squares[group].sum()
    linear = 2 * (c * (v @ gram.inputs[group] - gram.targets[group])).sum() + gram.count * c.square().sum()
    return max(0.0, float(quadratic + linear))


def spread(gram: Gram, group: int) -> float:
    """sum ||y - mean y||^2: the error of a constant alone."""
    return max(0.0, float((gram.squares[group] - gram.targets[group].square() / gram.count).sum()))


def choose_ridge(fitting: Gram, held_back: Gram, kept: Tensor, start: Tensor, *, intercept: bool) -> float:
    """The ridge among `RIDGES` whose weights, fitted to one part of the images, are nearest on the other.

    Args:
        fitting, held_back: sums over the two parts.
        kept: bool per group and column, [groups, K].
        start: the weights so far, [groups, M, K].
        intercept: as in `fit_weights`.
    """

    def error(ridge: float) -> float:
        try:
            return sum(
                squared_error(
                    held_back, group, fit_weights(fitting, group, kept[group], start[group], ridge, intercept=intercept)
                )
                for group in range(len(kept))
            )
        except RefitError:  # singular: columns of a wide layer differ by orders of magnitude, and images are few
            return math.inf

    return min(RIDGES, key=error)


def _is_constant(gram: Gram, group: int, moments: Tensor, where: Tensor) -> bool:
    """Whether the kept columns do not move but for rounding, where their centred second moments are these."""
    whole = gram.inner[group].diagonal()[where]
    return bool((moments.diagonal() <= CONSTANT * whole).all())


def _centred(gram: Gram, group: int, *, intercept: bool) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    inner, cross = gram.inner[group], gram.cross[group]
    read, target = gram.inputs[group] / gram.count, gram.targets[group] / gram.count
    if not intercept:
        return inner, cross, (torch.zeros_like(target), torch.zeros_like(read))
    return inner - gram.count * torch.outer(read, read), cross - gram.count * torch.outer(target, read), (target, read)
