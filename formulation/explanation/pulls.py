"""Explanation of scores: the pull of images and constraints on each unit's score, from the duals.

The gradient of the dual bound's Lagrangian by a score (its reduced cost) is a sum:

    reduced cost = sparsity cost - sum of pulls,    sparsity cost = nu_k / N_k

the sparsity cost is what the sparsity term asks for the unit; each image's loss pulls by its own share of the gradient,
and so does each cut with a dual. Where the score lies strictly between 0 and 1 the pulls outweigh that cost exactly
(but for the gap); where it is 1 they exceed it.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array, vstack

from formulation.duality import DualisedBatch, Lagrangian, dualised, logit_weights, proper
from formulation.errors import InvalidSetting, InvalidSolution
from formulation.network import Array, Index, MaxPool
from formulation.relaxation import (
    PoolGate,
    Reduction,
    backward,
    coefficients_of_cuts,
    layer_weight,
    pool_duals,
    read_coefficients,
    relu_duals,
)
from formulation.solution import DualBound, Solution
from formulation.verify import stored_lagrangian, stored_reduction


@dataclass(frozen=True)
class Pull:
    """One image or cut that holds a unit's score up (or, below 0, pushes it down).

    Attributes:
        layer, unit, score, reduced_cost: the unit, its score and its reduced cost.
        sparsity_cost: what the sparsity term asks for the unit, in units of the objective.
        kind: `image`, the loss of an image; or `cut`, a cut of a stable activation or the inequalities of another.
        image, label: position in the scoring set, and its class; -1 where the loss reads quantities.
        node, activation: where a cut is in the network; empty and -1 for an image.
        pull: by how much the bound falls per unit of score because of it.
    """

    layer: str
    unit: int
    score: float
    reduced_cost: float
    sparsity_cost: float
    kind: Literal["image", "cut"]
    image: int
    label: int
    node: str
    activation: int
    pull: float


@dataclass(frozen=True, eq=False)
class Pulls:
    """All pulls on all scores.

    Attributes:
        sparsity_cost, reduced_cost: per score.
        images: [images, scores].
        cuts: [cuts, scores]; `where` [cuts, 3] holds the node's position in the network, the activation and the image.
    """

    sparsity_cost: Array
    reduced_cost: Array
    images: Array
    cuts: csr_array
    where: Index


def explain(model: Any, images: Any, labels: Any, solution: Solution, *, most: int = 3) -> tuple[Pull, ...]:
    """The strongest pulls on every unit with a score above 0, unit by unit, images before cuts.

    Args:
        model, images, labels: what the solution was made for.
        solution: of `score`; its duals are read, nothing is solved.
        most: how many images and how many cuts per unit.

    Raises:
        InvalidSolution: another model or other images, a damaged solution or one without duals.
        InvalidSetting: `most` is no whole number of at least 0.
    """
    given: Any = most
    if isinstance(given, bool) or not isinstance(given, numbers.Integral) or most < 0:
        raise InvalidSetting(f"most={most!r} is out of range; it must be a whole number of at least 0")
    reduction = stored_reduction(model, images, labels, solution)
    if solution.dual_bound is None:
        raise InvalidSolution("the solution holds no duals to explain its scores by; score again")
    made = stored_lagrangian(reduction, solution.dual_bound)
    pulls, network = all_pulls(reduction, solution.dual_bound, made), reduction.network
    found: list[Pull] = []
    for layer in network.layers:
        where = network.score_slices[layer.name]
        for unit, score in enumerate(solution.scores[layer.name]):
            column = where.start + unit
            if score > 0:
                about: dict[str, Any] = {"layer": layer.name, "unit": unit, "score": float(score)}
                costs = {
                    "reduced_cost": float(pulls.reduced_cost[column]),
                    "sparsity_cost": float(pulls.sparsity_cost[column]),
                }
                found += _strongest(reduction, pulls, column, most, about | costs)
    return tuple(found)


def _strongest(reduction: Reduction, pulls: Pulls, column: int, most: int, unit: dict[str, Any]) -> list[Pull]:
    made = []
    of_images = pulls.images[:, column]
    for image in np.argsort(-of_images, kind="stable")[:most]:
        if of_images[image] > 0:
            label = _class_of(reduction, int(image))
            pull = float(of_images[image])
            made.append(Pull(**unit, kind="image", image=int(image), label=label, node="", activation=-1, pull=pull))
    of_cuts = pulls.cuts[:, [column]].toarray().ravel()
    for cut in np.argsort(-of_cuts, kind="stable")[:most]:
        if of_cuts[cut] > 0:
            position, activation, image = (int(k) for k in pulls.where[cut])
            label, node = _class_of(reduction, int(image)), reduction.network.nodes[position].name
            pull = float(of_cuts[cut])
            made.append(Pull(**unit, kind="cut", image=image, label=label, node=node, activation=activation, pull=pull))
    return made


def _class_of(reduction: Reduction, image: int) -> int:
    return -1 if reduction.settings.loss == "squared" else int(reduction.labels[image])


def all_pulls(reduction: Reduction, dual_bound: DualBound, made: Lagrangian) -> Pulls:
    """Every image's and every cut's pull on every score; `made` is what the dual bound proves."""
    network, count = reduction.network, reduction.scores
    dual_bound = proper(dual_bound, network, reduction.settings.layer_weight, reduction.settings.loss)
    asked = np.zeros(count)
    for layer, share in zip(network.layers, dual_bound.layers, strict=True):
        asked[network.score_slices[layer.name]] = share / layer_weight(network, layer, reduction.settings.layer_weight)
    of_images, of_cuts, where = [], [csr_array((0, count))], [np.zeros((0, 3), dtype=np.int64)]
    for duals in dualised(reduction, dual_bound):
        batch = duals.batch
        pulls = logit_weights(reduction, batch, dual_bound)
        gradient = backward(reduction, batch, {network.nodes[-1].name: pulls}, np.arange(batch.images))
        of_images.append(-gradient[:, :count].toarray())
        for matrix, places in (*_stable(reduction, duals), *_unstable(reduction, duals)):
            of_cuts.append(csr_array(matrix[:, :count]))
            where.append(places)
    return Pulls(
        asked,
        made.gradient[:count],
        np.concatenate(of_images),
        csr_array(vstack(of_cuts, format="csr")),
        np.concatenate(where),
    )


def _stable(reduction: Reduction, duals: DualisedBatch) -> Iterator[tuple[csr_array, Index]]:
    """mu a_r of every cut of a batch that has a dual."""
    batch = duals.batch
    for cuts in duals.cuts:
        matrix = coefficients_of_cuts(reduction, batch, cuts.node.name, cuts.index)
        position = np.full(len(cuts.dual), cuts.position)
        places = np.stack([position, cuts.index[0], cuts.index[-1] + batch.first], axis=1)
        yield csr_array(cuts.dual[:, None] * matrix), places


def _unstable(reduction: Reduction, duals: DualisedBatch) -> Iterator[tuple[csr_array, Index]]:
    """The sum of mu times the gradients of the inequalities (1) to (6) of every unstable activation of a batch."""
    batch = duals.batch
    for name, dual in duals.unstable.items():
        node, gate, unstable = reduction.network.node(name), batch.gates[name], batch.unstable[name]
        position = reduction.network.nodes.index(node)
        if isinstance(gate, PoolGate):
            assert isinstance(node.op, MaxPool)
            window, place = unstable.members
            activation, image = unstable.activation[window], unstable.image[window]
            taken, _ = pool_duals(dual, gate.slack[activation, place, image], np.multiply)
            read, on, direct = node.op.windows[activation, place], taken["h"], None
        else:
            activation, image = unstable.activation, unstable.image
            cap, big_m = gate.cap[activation, image], gate.big_m[activation, image]
            taken = relu_duals(dual, cap, big_m, np.multiply, cut=gate.cut)
            read, on = activation, taken["y"]
            cells, shape = (np.arange(len(activation)), activation), (len(activation), node.size)
            direct = csr_array(csr_array((taken["s"], cells), shape=shape) @ reduction.spread[name].T)
        weights = csr_array((on, (np.arange(len(read)), read)), shape=(len(read), reduction.network.size(node.source)))
        matrix = read_coefficients(reduction, batch, name, weights, image, direct)
        yield matrix, np.stack([np.full(len(image), position), activation, image + batch.first], axis=1)
