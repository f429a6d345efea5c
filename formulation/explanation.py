"""Why is a unit critical? What pulls its score up.

The gradient of a proof's Lagrangian by a score (its reduced cost) is a sum:

    reduced cost = price - sum of pulls,    price = nu_k / N_k

the price is what the sparsity term asks for the unit; each image's loss pulls by its own share of the gradient, and so
does each row with a multiplier. Where the score lies strictly between 0 and 1 the pulls outweigh the price exactly (but
for the gap); where it is 1 they exceed it.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array, vstack

from formulation.coefficients import read_coefficients, row_coefficients
from formulation.errors import InvalidSetting, InvalidSolution
from formulation.gates import Gate
from formulation.multipliers import RELU_FAMILIES, PricedSlice, priced, proper
from formulation.network import Array, Index, MaxPool
from formulation.proof import Lagrangian
from formulation.reduction import Reduction
from formulation.solution import Proof, Solution
from formulation.sparsity import layer_weight
from formulation.stored import stored_lagrangian, stored_reduction
from formulation.sweeps import backward


@dataclass(frozen=True)
class Pull:
    """One image or row that holds a unit's score up (or, below 0, pushes it down).

    Attributes:
        layer, unit, score, reduced_cost: the unit, its score and its reduced cost.
        price: what the sparsity term asks for the unit, in units of the objective.
        kind: `image`, the loss of an image; or `row`, a row of a decided activation or the inequalities of another.
        image, label: position in the scoring set, and its class.
        node, activation: where a row is in the network; empty and -1 for an image.
        pull: by how much the bound falls per unit of score because of it.
    """

    layer: str
    unit: int
    score: float
    reduced_cost: float
    price: float
    kind: Literal["image", "row"]
    image: int
    label: int
    node: str
    activation: int
    pull: float


@dataclass(frozen=True, eq=False)
class Pulls:
    """All pulls on all scores.

    Attributes:
        price, reduced_cost: per score.
        images: [images, scores].
        rows: [rows, scores]; `where` [rows, 3] holds the node's position in the network, the activation and the image.
    """

    price: Array
    reduced_cost: Array
    images: Array
    rows: csr_array
    where: Index


def explain(model: Any, images: Any, labels: Any, solution: Solution, *, most: int = 3) -> tuple[Pull, ...]:
    """The strongest pulls on every unit with a score above 0, unit by unit, images before rows.

    Args:
        model, images, labels: what the solution was made for.
        solution: of `score`; its multipliers are read, nothing is solved.
        most: how many images and how many rows per unit.

    Raises:
        InvalidSolution: another model or other images, a damaged solution or one without multipliers.
        InvalidSetting: `most` is no whole number of at least 0.
    """
    given: Any = most
    if isinstance(given, bool) or not isinstance(given, numbers.Integral) or most < 0:
        raise InvalidSetting(f"most={most!r} is out of range; it must be a whole number of at least 0")
    reduction = stored_reduction(model, images, labels, solution)
    if solution.proof is None:
        raise InvalidSolution("the solution holds no multipliers to explain its scores by; score again")
    made = stored_lagrangian(reduction, solution.proof)
    pulls, network = all_pulls(reduction, solution.proof, made), reduction.network
    found: list[Pull] = []
    for layer in network.layers:
        where = network.score_slices[layer.name]
        for unit, score in enumerate(solution.scores[layer.name]):
            column = where.start + unit
            if score > 0:
                about: dict[str, Any] = {"layer": layer.name, "unit": unit, "score": float(score)}
                costs = {"reduced_cost": float(pulls.reduced_cost[column]), "price": float(pulls.price[column])}
                found += _strongest(reduction, pulls, column, most, about | costs)
    return tuple(found)


def _strongest(reduction: Reduction, pulls: Pulls, column: int, most: int, unit: dict[str, Any]) -> list[Pull]:
    made = []
    of_images = pulls.images[:, column]
    for image in np.argsort(-of_images, kind="stable")[:most]:
        if of_images[image] > 0:
            label = int(reduction.labels[image])
            pull = float(of_images[image])
            made.append(Pull(**unit, kind="image", image=int(image), label=label, node="", activation=-1, pull=pull))
    of_rows = pulls.rows[:, [column]].toarray().ravel()
    for row in np.argsort(-of_rows, kind="stable")[:most]:
        if of_rows[row] > 0:
            position, activation, image = (int(k) for k in pulls.where[row])
            label, node = int(reduction.labels[image]), reduction.network.nodes[position].name
            pull = float(of_rows[row])
            made.append(Pull(**unit, kind="row", image=image, label=label, node=node, activation=activation, pull=pull))
    return made


def all_pulls(reduction: Reduction, proof: Proof, made: Lagrangian) -> Pulls:
    """Every image's and every row's pull on every score; `made` is what the proof proves."""
    network, count = reduction.network, reduction.scores
    proof = proper(proof, network, reduction.settings.layer_weight)
    weight = reduction.settings.loss_weight / reduction.images
    price = np.zeros(count)
    for layer, share in zip(network.layers, proof.layers, strict=True):
        price[network.score_slices[layer.name]] = share / layer_weight(network, layer, reduction.settings.layer_weight)
    of_images, of_rows, where = [], [csr_array((0, count))], [np.zeros((0, 3), dtype=np.int64)]
    for multipliers in priced(reduction, proof):
        part = multipliers.part
        pulls = weight * proof.probabilities[:, part.where]
        pulls[part.labels, np.arange(part.images)] -= weight
        gradient = backward(reduction, part, {network.nodes[-1].name: pulls}, np.arange(part.images))
        of_images.append(-gradient[:, :count].toarray())
        for matrix, places in (*_decided(reduction, multipliers), *_undecided(reduction, multipliers)):
            of_rows.append(csr_array(matrix[:, :count]))
            where.append(places)
    return Pulls(
        price,
        made.gradient[:count],
        np.concatenate(of_images),
        csr_array(vstack(of_rows, format="csr")),
        np.concatenate(where),
    )


def _decided(reduction: Reduction, multipliers: PricedSlice) -> Iterator[tuple[csr_array, Index]]:
    """mu a_r of every row of a slice that has a multiplier."""
    part = multipliers.part
    for rows in multipliers.rows:
        matrix = row_coefficients(reduction, part, rows.node.name, rows.index)
        position = np.full(len(rows.price), rows.position)
        places = np.stack([position, rows.index[0], rows.index[-1] + part.first], axis=1)
        yield csr_array(rows.price[:, None] * matrix), places


def _undecided(reduction: Reduction, multipliers: PricedSlice) -> Iterator[tuple[csr_array, Index]]:
    """The sum of mu times the gradients of the inequalities (1) to (6) of every undecided activation of a slice."""
    part = multipliers.part
    for name, price in multipliers.undecided.items():
        node, gate, waiting = reduction.network.node(name), part.gates[name], part.waiting[name]
        position = reduction.network.nodes.index(node)
        if isinstance(node.op, MaxPool):
            window, place = np.nonzero(waiting.phase >= 0)
            activation, image = waiting.activation[window], waiting.image[window]
            read, on = node.op.windows[activation, place], price["picked"] - price["largest"]
            direct = None
        else:
            assert isinstance(gate, Gate)
            activation, image = waiting.activation, waiting.image
            _, b, c, d = (price[family] for family in RELU_FAMILIES)
            read, on = activation, c - b
            own = (c + (d if gate.cut else 0.0) - b) * gate.cap[activation, image]
            each = np.arange(len(activation))
            shape = (len(activation), node.size)
            direct = csr_array(csr_array((own, (each, activation)), shape=shape) @ reduction.spread[name].T)
        weights = csr_array((on, (np.arange(len(read)), read)), shape=(len(read), reduction.network.size(node.source)))
        matrix = read_coefficients(reduction, part, name, weights, image, direct)
        yield matrix, np.stack([np.full(len(image), position), activation, image + part.first], axis=1)
