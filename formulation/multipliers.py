"""The multipliers of a proof, slice by slice: which constraint each of them is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from formulation.network import Array, Index, MaxPool, Network, Node
from formulation.reduction import ReducedImages, Reduction
from formulation.settings import LayerWeight
from formulation.solution import Proof
from formulation.sparsity import counted

RELU_FAMILIES = ("closed", "above", "open", "cut")
POOL_FAMILIES = ("largest", "picked", "one")


@dataclass(frozen=True, eq=False)
class PricedRows:
    """Rows of one gated node in one slice, and the multiplier of each.

    Attributes:
        node, position: the node, and where it is in the network.
        index: into its gate's `lower`, the image within the slice last, [rows] each.
        bound: what the row is compared with, its lower bound where the price is above 0; 0 where there is none.
        price: [rows]; 0 where nothing bounds the row, or inequalities of its own take its place.
    """

    node: Node
    position: int
    index: tuple[Index, ...]
    bound: Array
    price: Array


@dataclass(frozen=True, eq=False)
class PricedSlice:
    """One slice: its rows with a multiplier, and per undecided node and family those of its inequalities."""

    part: ReducedImages
    rows: tuple[PricedRows, ...]
    undecided: Mapping[str, Mapping[str, Array]]


def priced(reduction: Reduction, proof: Proof) -> Iterator[PricedSlice]:
    """The slices of a scoring set in order, each with the multipliers that a proof has on it.

    Inequalities have multipliers of at least 0, the equation (7) of a window one of either sign; where a proof holds
    too few of a family, those of the slice are 0.
    """
    used = dict.fromkeys(proof.undecided, 0)
    for part in reduction.parts:
        yield PricedSlice(part, tuple(_rows(reduction.network, part, proof)), _undecided(reduction, part, proof, used))


def _rows(network: Network, part: ReducedImages, proof: Proof) -> Iterator[PricedRows]:
    image = proof.rows[:, 2] - part.first
    here = (image >= 0) & (image < part.images)
    for position in np.unique(proof.rows[here, 0]):
        node = network.nodes[position]
        some = here & (proof.rows[:, 0] == position)
        gate = part.gates[node.name]
        index = (*np.unravel_index(proof.rows[some, 1], gate.lower.shape[:-1]), image[some])
        price = proof.prices[some]
        bound = np.where(price > 0, gate.lower[index], gate.upper[index])
        price = np.where(np.isfinite(bound) & ~gate.undecided[index[0], index[-1]], price, 0.0)
        yield PricedRows(node, int(position), index, np.where(price != 0, bound, 0.0), price)


def _undecided(
    reduction: Reduction, part: ReducedImages, proof: Proof, used: dict[str, int]
) -> dict[str, dict[str, Array]]:
    """Every family's multipliers of a slice; `used` counts those of the slices before."""
    found: dict[str, dict[str, Array]] = {}
    for name, waiting in part.waiting.items():
        pooled = isinstance(reduction.network.node(name).op, MaxPool)
        members = int((waiting.phase >= 0).sum())
        found[name] = {}
        for family in POOL_FAMILIES if pooled else RELU_FAMILIES:
            key, count = f"{family}/{name}", len(waiting.value) if family == "one" else members
            start = used.get(key, 0)
            used[key] = start + count
            given = proof.undecided.get(key, np.zeros(0))[start : start + count]
            price = given if family == "one" else np.abs(given)
            found[name][family] = price if len(given) == count else np.zeros(count)
    return found


def proper(proof: Proof, network: Network, weight: LayerWeight) -> Proof:
    """The proof with probabilities that are some and shares that sum to m: solvers reach them but for a tolerance."""
    p = np.clip(proof.probabilities, 0.0, None)
    return replace(proof, probabilities=p / p.sum(axis=0), layers=_summing_to(proof.layers, counted(network, weight)))


def _summing_to(shares: Array, total: int) -> Array:
    """Shares in [0, 1] that sum to `total`, nearest to the given ones but for rounding."""
    made = np.clip(shares, 0.0, 1.0)
    for _ in range(len(made)):
        missing = total - made.sum()
        free = made < 1.0 if missing > 0 else made > 0.0
        if missing == 0 or not free.any():
            break
        made[free] = np.clip(made[free] + missing / free.sum(), 0.0, 1.0)
    return made
