"""Gate semantics: the effect of a score on an activation, four semantics, one pure function each.

All of them write the inequalities (1) to (4) of `inequalities` for an activation with pre-activation y in [l, u],
u+ = max(u, 0), of a unit with score s, and (5) to (7) for a max-pool over a window of inputs h_j in [l_j, u_j] (after
their gates). They differ in the bounds, in M, and in what is stable. A stable activation needs no variables: an
*active* one has h = y - (1 - s) cap with lower <= h <= upper, an *inactive* one h = 0 with lower <= y <= upper, a
stable window out = h_p with lower_j <= h_p - h_j <= upper_j. Where no score acts on a ReLU, s = 1 stands in all this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from formulation.network import Array, Index, MaxPool, Relu
from formulation.relaxation.bounds import Box
from naming import GateName

INACTIVE, ACTIVE, UNSTABLE = 0, 1, 2
NO_PICK = -1


@dataclass(frozen=True, eq=False)
class Gate:
    """The phases and bounds of one ReLU node, arrays [activations, images].

    Attributes:
        state: INACTIVE, ACTIVE or UNSTABLE.
        cap: what a unit at score 0 loses: u+ (in `pattern` and `linear` the pre-activation of the unpruned network).
        big_m: M of inequality (4), read where unstable.
        lower, upper: of h where active, of y where inactive; infinite where no cut is needed.
        cut: add the valid inequality of the score and u+ where unstable.
    """

    state: NDArray[np.int8]
    cap: Array
    big_m: Array
    lower: Array
    upper: Array
    cut: bool = False

    @property
    def unstable(self) -> NDArray[np.bool_]:
        return np.equal(self.state, UNSTABLE)


@dataclass(frozen=True, eq=False)
class PoolGate:
    """The picks and bounds of one max-pool node.

    Attributes:
        pick: position in its window of the input that is the maximum, NO_PICK where unstable, [outputs, images].
        slack: of inequality (6), [outputs, window, images]; 0 where the window holds nothing.
        lower, upper: of h_pick - h_j in a stable window, [outputs, window, images]; infinite where no cut is needed.
        top: of the output where unstable, [outputs, images]; infinite where nothing bounds it.
    """

    pick: NDArray[np.int64]
    slack: Array
    lower: Array
    upper: Array
    top: Array

    @property
    def unstable(self) -> NDArray[np.bool_]:
        return np.equal(self.pick, NO_PICK)


def published(nominal: Box) -> Gate:
    """The authors' program: nominal bounds and M = l.

    From (2) to (4): l >= 0 < u forces open = 1, hence h = y - (1 - s) u+ with 0 <= h <= u+;
    u <= 0 gives u+ = 0, hence h = 0 with l <= y <= 0; l < 0 < u stays unstable.
    Almost no 0/1 score vector is feasible: l <= y <= 0 holds an inactive unit's inputs in place.
    Source: ElAraby, Wolf, Carvalho (2023), constraints (3a) to (3f).
    """
    lower, upper = nominal.lower, nominal.upper
    cap = np.maximum(upper, 0.0)
    state = np.select([upper <= 0, lower >= 0], [INACTIVE, ACTIVE], UNSTABLE).astype(np.int8)
    return Gate(
        state,
        cap,
        big_m=lower,
        lower=np.where(state == ACTIVE, 0.0, lower),
        upper=np.where(state == ACTIVE, cap, 0.0),
    )


def pattern(centre: Array) -> Gate:
    """Every phase fixed to the image's own pattern in the unpruned network, whose pre-activations are `centre`.

    Active (c > 0): h = y - (1 - s) c with h >= 0. Inactive (c <= 0): h = 0 with y <= 0. Nothing is unstable: the
    program is the first-order model of the network around s = 1 with the exact cross-entropy on top.
    Departs from the paper: a semantics of our own, at radius 0.
    """
    is_open = centre > 0
    kept = linear(centre)
    return replace(kept, lower=np.where(is_open, 0.0, -np.inf), upper=np.where(is_open, np.inf, 0.0))


def linear(centre: Array) -> Gate:
    """`pattern` without its cuts: every logit is affine in the scores, its first-order expansion around s = 1.

    Active (c > 0): h = y - (1 - s) c. Inactive (c <= 0): h = 0. With o_i(s) = o_i + J_i (s - 1), J_i the derivatives of
    image i's logits by its units' gates, the program is an ordinary convex one over the scores alone. A relaxation of
    `pattern`, whose cuts hold scores up the more the more images there are. Scores are meant for small steps: remove a
    little and score again.
    Departs from the paper: a semantics of our own, at radius 0. Taylor scores (Molchanov et al., 2017) expand the loss
    itself, unit by unit; here the loss stays exact and the units are scored together.
    """
    state = np.where(centre > 0, ACTIVE, INACTIVE).astype(np.int8)
    low, high = _free(centre)
    return Gate(state, np.maximum(centre, 0.0), _everywhere(0.0, centre), low, high)


def handed_on(centre: Array) -> Gate:
    """A channel gate to first order around s = 1: h = y - (1 - s) c for values c of either sign, and no cut.

    It has no phase that could be fixed, so `pattern` and `linear` take it alike; the others take it apart into ReLUs
    (`with_relu_gates`).
    """
    active = np.full(centre.shape, ACTIVE, dtype=np.int8)
    low, high = _free(centre)
    return Gate(active, centre, _everywhere(0.0, centre), low, high)


def _everywhere(value: float, like: Array) -> Array:
    """One value in the shape of an array, without its memory; not to be written to."""
    return np.broadcast_to(np.float64(value), like.shape)


def _free(like: Array) -> tuple[Array, Array]:
    """Lower and upper bounds that no value breaks."""
    return _everywhere(-np.inf, like), _everywhere(np.inf, like)


def exact(valid: Box, score: Index) -> Gate:
    """Bounds valid for every score and M = l - u+: every 0/1 mask is feasible and gives the masked network's logits.

    So (4) leaves room for h = 0 at every score where open = 0: its right side is then y - l + s u+, and y >= l.
    A unit with u <= 0 is inactive for every score and needs no cut; where l = u (the first layer at radius 0) the
    pre-activation is a constant c and h = s c is affine. All else keeps its kink, also where l > 0: s < 1 moves it.
    The valid inequality (`cut`, from y <= u+) tightens the relaxation. Where no score acts (score -1), s = 1 leaves
    M = l and no kink where l >= 0.
    Departs from the paper: M = l - u+ in place of M = l, bounds over all scores in place of nominal ones.
    """
    lower, upper = valid.lower, valid.upper
    cap = np.maximum(upper, 0.0)
    scored = (score >= 0)[:, None]
    open_ = (lower == upper) | (~scored & (lower >= 0))
    state = np.select([upper <= 0, open_], [INACTIVE, ACTIVE], UNSTABLE).astype(np.int8)
    free = np.full_like(cap, np.inf)
    return Gate(state, cap, big_m=lower - np.where(scored, cap, 0.0), lower=-free, upper=free, cut=True)


def relu_gate(name: GateName, op: Relu, box: Box, centre: Array) -> Gate:
    """The gate of a ReLU node with the bounds `box` and nominal pre-activations `centre`, [activations, images]."""
    match name:
        case "published":
            return published(box)
        case "pattern":
            return pattern(centre)
        case "linear":
            return linear(centre)
        case "exact":
            return exact(box, op.score)
        case _:
            assert_never(name)


def pool_gate(name: GateName, op: MaxPool, box: Box) -> PoolGate:
    """The gate of a max-pool node whose inputs lie in `box`, [activations, images].

    A window is stable where one input dominates: its lower bound is at least the upper bound of every other one.

        published   nominal bounds: the dominant input is picked, and (5) and (6) stay as cuts
        pattern     the bounds are the unpruned network's values, so every window is stable, by its first maximum;
                    (5) stays as cuts, (6) is dropped as M is from the ReLU
        linear      as in `pattern`, without cuts
        exact       valid bounds: dominance holds for every score, no cut is needed; out <= max_k u_k is a valid
                    inequality that (6) alone does not give once picks are relaxed, and what is stable after the
                    pool relies on it
    """
    there = (op.windows >= 0)[:, :, None]
    lower = np.where(there, box.lower[op.windows], -np.inf)
    upper = np.where(there, box.upper[op.windows], -np.inf)
    largest = upper.max(axis=1, keepdims=True)
    slack = np.where(there, largest - np.where(there, lower, 0.0), 0.0)
    # of inputs with the largest lower bound only one with the largest upper bound can dominate, the first of them
    best = np.argmax(np.where(lower == lower.max(axis=1, keepdims=True), upper, -np.inf), axis=1)
    rivals = upper.copy()
    np.put_along_axis(rivals, best[:, None], -np.inf, axis=1)
    dominant = np.take_along_axis(lower, best[:, None], axis=1)[:, 0] >= rivals.max(axis=1)
    pick = np.where(dominant, best, NO_PICK)
    has_cuts = name in ("published", "pattern")
    needed = there & (np.arange(op.windows.shape[1])[None, :, None] != pick[:, None]) & has_cuts
    above = slack if name == "published" else np.inf
    top = largest[:, 0] if name == "exact" else np.full(pick.shape, np.inf)
    return PoolGate(pick, slack, np.where(needed, 0.0, -np.inf), np.where(needed, above, np.inf), top)


def picked_members(pick: Index, windows: Index) -> Index:
    """The input that each window of a max-pool picks; any input where unstable.

    Args:
        pick: positions in the windows, [outputs, images].
        windows: [outputs, size of the largest window], positions in what the max-pool reads.

    Returns:
        [outputs, images].
    """
    found: Index = np.take_along_axis(windows, np.maximum(pick, 0), axis=1)
    return np.maximum(found, 0)
