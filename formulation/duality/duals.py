"""The duals of a dual bound, batch by batch: which constraint each of them is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from formulation.network import Array, Index, MaxPool, Network, Node
from formulation.relaxation import POOL_FAMILIES, RELU_FAMILIES, ReducedBatch, Reduction, counted
from formulation.solution import DualBound
from naming import LayerWeight, ScoreLoss


@dataclass(frozen=True, eq=False)
class DualisedCuts:
    """Cuts of one gated node in one batch, and the dual of each.

    Attributes:
        node, position: the node, and where it is in the network.
        index: into its gate's `lower`, the image within the batch last, [cuts] each.
        bound: what the cut is compared with, its lower bound where the dual is above 0; 0 where there is none.
        dual: [cuts]; 0 where nothing bounds the cut, or inequalities of its own take its place.
    """

    node: Node
    position: int
    index: tuple[Index, ...]
    bound: Array
    dual: Array


@dataclass(frozen=True, eq=False)
class DualisedBatch:
    """One batch: its cuts with a dual, and per unstable node and family those of its inequalities."""

    batch: ReducedBatch
    cuts: tuple[DualisedCuts, ...]
    unstable: Mapping[str, Mapping[str, Array]]


def dualised(reduction: Reduction, dual_bound: DualBound) -> Iterator[DualisedBatch]:
    """The batches of a scoring set in order, each with the duals that a dual bound has on it.

    Inequalities have duals of at least 0, the equation (7) of a window one of either sign; where a dual bound holds
    too few of a family, those of the batch are 0.

    Args:
        reduction: the scoring set in score space.
        dual_bound: its duals, in the order of the scoring set's cuts and unstable activations.
    """
    used = dict.fromkeys(dual_bound.unstable, 0)
    for batch in reduction.batches:
        yield DualisedBatch(
            batch, tuple(_cuts(reduction.network, batch, dual_bound)), _unstable(reduction, batch, dual_bound, used)
        )


def _cuts(network: Network, batch: ReducedBatch, dual_bound: DualBound) -> Iterator[DualisedCuts]:
    image = dual_bound.cuts[:, 2] - batch.first
    here = (image >= 0) & (image < batch.images)
    for position in np.unique(dual_bound.cuts[here, 0]):
        node = network.nodes[position]
        some = here & (dual_bound.cuts[:, 0] == position)
        gate = batch.gates[node.name]
        index = (*np.unravel_index(dual_bound.cuts[some, 1], gate.lower.shape[:-1]), image[some])
        dual = dual_bound.cut_duals[some]
        bound = np.where(dual > 0, gate.lower[index], gate.upper[index])
        dual = np.where(np.isfinite(bound) & ~gate.unstable[index[0], index[-1]], dual, 0.0)
        yield DualisedCuts(node, int(position), index, np.where(dual != 0, bound, 0.0), dual)


def _unstable(
    reduction: Reduction, batch: ReducedBatch, dual_bound: DualBound, used: dict[str, int]
) -> dict[str, dict[str, Array]]:
    """Every family's duals of a batch; `used` counts those of the batches before."""
    found: dict[str, dict[str, Array]] = {}
    for name, unstable in batch.unstable.items():
        pooled = isinstance(reduction.network.node(name).op, MaxPool)
        members = len(unstable.members[0])
        found[name] = {}
        for family in POOL_FAMILIES if pooled else RELU_FAMILIES:
            key, count = f"{family}/{name}", len(unstable.value) if family == "one" else members
            start = used.get(key, 0)
            used[key] = start + count
            given = dual_bound.unstable.get(key, np.zeros(0))[start : start + count]
            dual = given if family == "one" else np.abs(given)
            found[name][family] = dual if len(given) == count else np.zeros(count)
    return found


def proper(
    dual_bound: DualBound, network: Network, weight: LayerWeight, loss: ScoreLoss = "cross_entropy"
) -> DualBound:
    """Duals with probabilities that are some and shares that sum to m: solvers reach them but for a tolerance.

    Args:
        dual_bound: of a solver, or stored.
        network: whose scored layers the shares are of.
        weight: how layers are weighted, which says m (`counted`).
        loss: of `squared` any slopes are proper.
    """
    given = dual_bound.probabilities
    if loss == "cross_entropy":
        p = np.clip(given, 0.0, None)
        given = p / p.sum(axis=0)
    return replace(dual_bound, probabilities=given, layers=_summing_to(dual_bound.layers, counted(network, weight)))


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
