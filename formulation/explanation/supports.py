"""Supports of a solution: weighted images that are enough for its scores to be the best ones, with the same objective.

With s the scores of a solution, p_i and nu the duals of its images and layers, and l_i the loss of image i,

    a_i(x)  =  p_i . o_i(x) + H(p_i) - o_i,y_i(x)   <=   l_i(x)                the image's dual cut, affine in x

every choice of weights w_i >= 0 of the images makes a program of its own,

    F_w(x)  =  loss_weight sum_i w_i l_i(x)  +  sparsity(x)                     F itself has w_i = 1 / images

and proves of it, for any nu in [0, 1] with the sum m (the sparsity term is the largest of these),

    F_w(x)  >=  B_w  =  min over x in [0, 1] of   loss_weight sum_i w_i a_i(x)  +  sum_k nu_k t_k(x)

which is a sum over columns. Where F_w(s) - B_w is within a tolerance, s is as good as the best scores of the program on
the images with a weight alone. With d = d+ - d- the slope of that affine function such weights are the feasible points
of a linear program,

    minimise    sum_i c_i w_i
    subject to  loss_weight sum_i w_i (l_i(s) - a_i(s)) + sparsity(s) - sum_k nu_k t_k(s)
                    + sum_j [ d+_j s_j + d-_j (1 - s_j) ]   <=  tolerance
                sum_i w_i l_i(s)  =  mean_i l_i(s)           the objective at s stays what it is
                d+ - d-  =  loss_weight sum_i w_i (slope of a_i) + (slope of sum_k nu_k t_k)
                sum_k nu_k = m,   w, d+, d- >= 0,   0 <= nu <= 1

of which a vertex gives no more images a weight than it has units with d_j = 0, and three. Costs c = 1 / w of the
answer before make them fewer still (Candes, Wakin, Boyd, *Enhancing Sparsity by Reweighted l1 Minimization*, 2008).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from scipy.sparse import block_array, csr_array, eye_array
from scipy.special import entr

from formulation.duality import proper
from formulation.errors import InfeasibleProgram, InvalidSetting, InvalidSolution, SolverFailed, TimeLimitReached
from formulation.network import Array, Index
from formulation.relaxation import (
    Reduction,
    backward,
    counted,
    cross_entropy,
    forward,
    layer_weight,
    sparsity,
    with_jacobians,
)
from formulation.solution import Solution
from formulation.solve import Program, import_linopy, labelled_array, linear_expression, new_model
from formulation.solve.solvers import open_session
from formulation.verify import stored_reduction

USED = 1e-9  # of the largest weight: smaller ones are none
RESIDUAL = 1e-6  # of the objective: how far an answer may be off what it was asked for
SMOOTH = 1e-2  # of the mean weight, in the costs of the next round


@dataclass(frozen=True, eq=False)
class Support:
    """Images, with weights, that are enough for a solution's scores to be the best ones.

    Attributes:
        images: their positions in the scoring set, ascending, [k].
        labels: their classes, [k].
        weights: w > 0; in the program itself each image has 1 / images, [k].
        masses: 1 - p_y in [0, 1], how much of an image's dual is off its label, [k].
        layers: nu, one per scored layer.
        objective: of the program on these at the solution's scores; that of all images.
        bound: of the program on these, at any scores.
        gap: (objective - bound) / max(1, |objective|).
    """

    images: Index
    labels: Index
    weights: Array
    masses: Array
    layers: Array
    objective: float
    bound: float
    gap: float

    def per_class(self) -> dict[int, int]:
        """How many there are of each class, by its number; classes without one are missing."""
        classes, counts = np.unique(self.labels, return_counts=True)
        return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def find_support(
    model: Any, images: Any, labels: Any, solution: Solution, *, tolerance: float = 1e-3, rounds: int = 4
) -> Support:
    """Few images of a scoring set, with weights, for which a solution's scores are the best ones.

    What is proved, by arithmetic on a linear program's answer: on these images alone, so weighted, no scores have an
    objective that is lower than the solution's scores' by more than the tolerance, and theirs is the same as on all
    images. Not proved is that they are the fewest, nor that other scores that are best on them are best on all.

    Args:
        model, images, labels: what the solution was made for.
        solution: of `score` with the gate `linear` and scores in [0, 1]. In any other gate every image has constraints
            that pull too; with integer scores a program has no such duals.
        tolerance: relative gap up to which the scores count as the best ones, > 0; the solution's own must be smaller.
        rounds: linear programs that are solved, at least 1; each makes the support smaller, or is the last.

    Returns:
        The support.

    Raises:
        InvalidSetting: a tolerance that is not above 0 or that the solution does not keep itself, or `rounds` below 1.
        InvalidSolution: another gate or loss, integer scores, no duals, another model or other images, or a solution
            that is damaged.
        TimeLimitReached: the time limit of the solution's settings, which each linear program has for itself, passed
            in the first; in a later one the answer before it is returned.
        SolverUnavailable, SolverFailed: as the sessions do, and where an answer does not keep the tolerance or the
            objective, up to 1e-6 of it.

    Source: images with duals above 0 are what support vectors are (Cortes, Vapnik, *Support-Vector Networks*, 1995).

    Departs from the paper: it has no such question.
    """
    import_linopy()
    _require(tolerance, rounds)
    stored = stored_reduction(model, images, labels, solution)
    settings = stored.settings
    if settings.loss != "cross_entropy":
        raise InvalidSolution(f"the solution has loss='{settings.loss}'; supports are of loss='cross_entropy'")
    if settings.gate != "linear" or settings.integer_scores or solution.dual_bound is None:
        raise InvalidSolution(
            f"the solution has gate='{settings.gate}', integer_scores={settings.integer_scores} and "
            f"{'no duals' if solution.dual_bound is None else 'duals'}; supports are of gate='linear' with scores in "
            "[0, 1] and duals: score so"
        )
    reduction = with_jacobians(stored)
    cuts = _image_cuts(reduction, solution)
    whole = settings.objective(float(cuts.losses.mean()), cuts.sparsity)
    size = max(1.0, abs(whole))
    least: tuple[Array, Array] | None = None
    costs = np.ones(reduction.images)
    for _ in range(rounds):
        try:
            found = solve_weights(reduction, cuts, costs, tolerance * size)
        except InfeasibleProgram as error:
            raise InvalidSetting(
                f"tolerance={tolerance:g} is below what the solution's own duals leave open "
                f"({solution.certificate.gap:.2g}); raise it, or score with a smaller gap"
            ) from error
        except TimeLimitReached:
            if least is None:
                raise
            break
        if least is not None and (found[0] > 0).sum() >= (least[0] > 0).sum():
            break
        least = found
        costs = 1 / (least[0] * reduction.images + SMOOTH)
        costs /= costs.max()
    assert least is not None
    weights = least[0]
    layers = proper(replace(solution.dual_bound, layers=least[1]), reduction.network, settings.layer_weight).layers
    chosen = np.flatnonzero(weights)
    objective = settings.objective(float(weights @ cuts.losses), cuts.sparsity)
    bound = _proved(reduction, cuts, weights, layers)
    gap = (objective - bound) / max(1.0, abs(objective))
    if not (gap <= tolerance + RESIDUAL and abs(objective - whole) <= RESIDUAL * size):
        raise SolverFailed(
            f"the linear program's answer leaves a gap of {gap:.3g} at the objective {objective:.9g}; asked for are "
            f"the tolerance {tolerance:g} and the objective of all images, {whole:.9g}: try other solver_options"
        )
    return Support(
        chosen,
        cast(Index, reduction.labels)[chosen],
        weights[chosen],
        cuts.masses[chosen],
        layers,
        objective,
        bound,
        gap,
    )


def _require(tolerance: Any, rounds: Any) -> None:
    number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if not number or not 0 < tolerance < np.inf:
        raise InvalidSetting(f"tolerance={tolerance!r} is out of range; it must be greater than 0")
    if isinstance(rounds, bool) or not isinstance(rounds, Integral) or rounds < 1:
        raise InvalidSetting(f"rounds={rounds!r} is out of range; give a whole number of at least 1")


@dataclass(frozen=True, eq=False)
class _ImageCuts:
    """The images' dual cuts a_i at the scores s of a solution.

    Attributes:
        scores: s, [scores].
        losses, values: l_i(s) and a_i(s), [images].
        slopes: of a_i, [images, scores].
        masses: 1 - p_y, [images].
        sparsity: of s.
        terms, units: t_k at scores 0, [layers], and its slope, [layers, scores].
    """

    scores: Array
    losses: Array
    values: Array
    slopes: Array
    masses: Array
    sparsity: float
    terms: Array
    units: Array


def _image_cuts(reduction: Reduction, solution: Solution) -> _ImageCuts:
    network, weighting = reduction.network, reduction.settings.layer_weight
    labels = cast(Index, reduction.labels)
    assert solution.dual_bound is not None
    p = proper(solution.dual_bound, network, weighting).probabilities
    scores = np.clip(network.stack(solution.scores), 0.0, 1.0)
    each = np.arange(reduction.images)
    off = p.copy()
    off[labels, each] -= 1
    losses, values, slopes = [], [], []
    for batch in reduction.batches:
        logits, own = forward(reduction, batch, scores).logits, off[:, batch.where]
        losses.append(cross_entropy(logits, labels[batch.where]))
        values.append((own * logits).sum(axis=0) + entr(p[:, batch.where]).sum(axis=0))
        pulled = backward(reduction, batch, {network.nodes[-1].name: own.copy()}, np.arange(batch.images))
        slopes.append(pulled[:, : reduction.scores].toarray())
    sizes = [layer_weight(network, layer, weighting) for layer in network.layers]
    units = np.zeros((len(sizes), reduction.scores))
    for k, (layer, divisor) in enumerate(zip(network.layers, sizes, strict=True)):
        units[k, network.score_slices[layer.name]] = 1 / divisor
    terms = np.array([-2 * layer.units / size for layer, size in zip(network.layers, sizes, strict=True)])
    found = np.concatenate(losses), np.concatenate(values), np.concatenate(slopes)
    return _ImageCuts(scores, *found, 1 - p[labels, each], sparsity(network, scores, weighting), terms, units)


def solve_weights(reduction: Reduction, cuts: _ImageCuts, costs: Array, most: float) -> tuple[Array, Array]:
    """Weights and nu of the linear program's answer; weights that are none are 0."""
    lam, count = reduction.settings.image_weight(1), reduction.images
    units, layers = cuts.slopes.shape[1], len(cuts.terms)
    sizes = {"weight": count, "rising": units, "falling": units, "layer": layers}
    model, ends = new_model(), np.cumsum([0, *sizes.values()])
    made = [
        model.add_variables(lower=0.0, upper=upper, coords=[(name, np.arange(size))], name=name)
        for (name, size), upper in zip(sizes.items(), (np.inf, np.inf, np.inf, 1.0), strict=True)
    ]
    columns = np.concatenate([each.labels.values.ravel() for each in made])
    at, mean = cuts.terms + cuts.units @ cuts.scores, float(cuts.losses.mean())
    scale = count * max(mean, 1e-12)
    equal = block_array(
        [
            [csr_array(lam * cuts.slopes.T), -eye_array(units), eye_array(units), csr_array(cuts.units.T)],
            [csr_array(cuts.losses[None] / scale), None, None, None],
            [None, None, None, csr_array(np.ones((1, layers)))],
        ],
        format="csr",
    )
    right = np.concatenate(
        [np.zeros(units), [mean / scale, counted(reduction.network, reduction.settings.layer_weight)]]
    )
    open_gap = np.concatenate([lam * (cuts.losses - cuts.values), cuts.scores, 1 - cuts.scores, -at])
    for name, matrix, limit in (("equal", equal, right), ("gap", csr_array(open_gap[None]), [most - cuts.sparsity])):
        rows = np.arange(len(limit))
        left = linear_expression(model, csr_array(matrix), columns, np.zeros(len(limit)), name)
        bound = labelled_array(np.asarray(limit), {name: rows}, [name])
        model.add_constraints(left == bound if name == "equal" else left <= bound, name=name)
    model.add_objective((labelled_array(costs, {"weight": np.arange(count)}, ["weight"]) * made[0]).sum())
    answer = open_session(Program(model, columns, 0.0), reduction.settings).solve(reduction.settings.time_limit, 1e-9)
    if answer.point is None or not answer.complete:
        raise TimeLimitReached(
            f"the linear program of the support has no answer within the time limit of "
            f"{reduction.settings.time_limit:g} s; score with a longer one, or with fewer images"
        )
    weights = np.clip(answer.point[: ends[1]], 0.0, None)
    weights[weights <= USED * weights.max()] = 0.0
    return weights, answer.point[ends[3] :]


def _proved(reduction: Reduction, cuts: _ImageCuts, weights: Array, layers: Array) -> float:
    """B_w, by arithmetic, whatever weights of at least 0 and proper nu are given."""
    lam = reduction.settings.image_weight(1)
    slope = lam * (weights @ cuts.slopes) + layers @ cuts.units
    constant = lam * float(weights @ (cuts.values - cuts.slopes @ cuts.scores)) + float(layers @ cuts.terms)
    return constant + float(np.minimum(slope, 0.0).sum())
