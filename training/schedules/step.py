"""One step of a schedule: score a network that may have lost units already, select, swap, remove."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import PruningError, ScheduleError, SelectionError
from training.pruning import (
    Masks,
    Scores,
    Zeros,
    check_scores,
    consumers,
    counts,
    prune,
    removed_entries,
    validate_masks,
)
from training.pruning.ranking import SwapResult

# Importance of every unit of the network as it is now, higher = keep; what it says of removed units is not looked at.
Scorer = Callable[[nn.Module, Masks], Scores]
# Masks without that share of all units, those that are gone already included, from the scores and the masks so far.
Selector = Callable[[Scores, Masks, float], Masks]
# Better masks of the same counts, of a model that still has the weights of its removed units.
SwapSearch = Callable[[nn.Module, Masks], SwapResult]
# Another module: the network with other weights, removed units left out; trained, or its BatchNorms measured anew.
Rework = Callable[[nn.Module, Masks], nn.Module]
# A share of units that is a whole number but for rounding (0.29 * 100) counts as that number.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Method:
    """How units are scored, selected and removed, whatever the schedule.

    `swap` may put others in their place, `after` follows every removal, as BatchNorm recalibration does.
    """

    scorer: Scorer
    selector: Selector
    swap: SwapSearch | None = None
    after: Rework | None = None


@dataclass(frozen=True, eq=False)
class Pruned:
    """A network without its removed units, and `whole`: with the weights that each had when it was removed."""

    network: nn.Module
    whole: nn.Module
    masks: Masks


def begin(model: nn.Module, masks: Masks | None, shares: Sequence[float], example_input: Tensor) -> Pruned:
    """The model under masks that an earlier run left, or with all units of the layers whose units can be removed.

    Raises ScheduleError where the shares do not rise inside [0, 1), start below what is gone already, or leave less
    than one unit per layer; MaskError, UnsupportedGraph.
    """
    if masks is None:
        masks = {name: np.ones(link.units, np.bool_) for name, link in consumers(model, example_input).items()}
    validate_masks(model, masks)
    if not masks:
        raise ScheduleError("there is no layer whose units could be removed: name some by masks")
    _check_shares(masks, shares)
    return Pruned(prune(model, masks, example_input), copy.deepcopy(model), masks)


def remove(
    pruned: Pruned, method: Method, share: float, step: int, example_input: Tensor
) -> tuple[Pruned, Scores, SwapResult | None]:
    """Score the pruned network and remove up to the share; also what the selection saw, and what the swaps did.

    Raises ScheduleError where the selection fails or would empty a layer, SelectionError where scores do not fit.
    """
    scores = _scores_below(method.scorer(pruned.network, pruned.masks), pruned.masks)
    masks = _select(method.selector, scores, pruned.masks, share, step)
    swapped = None if method.swap is None else method.swap(pruned.whole, masks)
    masks = masks if swapped is None else swapped.masks
    smaller = Pruned(prune(pruned.whole, masks, example_input), pruned.whole, masks)
    return smaller if method.after is None else rework(smaller, method.after, example_input), scores, swapped


def rework(pruned: Pruned, change: Rework, example_input: Tensor) -> Pruned:
    """The network as `change` returns it."""
    return replace_network(pruned, change(pruned.network, pruned.masks), example_input)


def replace_network(pruned: Pruned, network: nn.Module, example_input: Tensor) -> Pruned:
    """The same model with other weights: removed units keep theirs in `whole`, and stay removed in the network."""
    whole = copy.deepcopy(network)
    _put_back(whole, pruned.whole, removed_entries(whole, pruned.masks, example_input))
    return Pruned(prune(whole, pruned.masks, example_input), whole, pruned.masks)


def _put_back(model: nn.Module, source: nn.Module, zeros: Zeros) -> None:
    state, old = model.state_dict(keep_vars=True), source.state_dict()
    # Nothing passes where a unit is removed: a variance measured there is 0 and would blow up what comes back.
    variances = {key.replace("running_mean", "running_var"): removed for key, removed in zeros.items()}
    with torch.no_grad():
        for key, removed in (zeros | variances).items():
            value, places = state[key], removed.to(state[key].device)
            value[places] = old[key].to(value.device)[places]


def _scores_below(scores: Scores, masks: Masks) -> Scores:
    """The scores of the layers with masks, removed units below all others, so that a selector takes them first."""
    for layer, mask in masks.items():
        if layer not in scores or scores[layer].shape != mask.shape:
            found = f"of shape {scores[layer].shape}" if layer in scores else "missing"
            raise SelectionError(f"scores of {layer!r} are {found}: one for each of its {len(mask)} units is needed")
    kept = {layer: scores[layer][mask].astype(np.float64) for layer, mask in masks.items()}
    check_scores(kept)
    lowest = min(float(values.min()) for values in kept.values())
    below = lowest - max(1.0, abs(lowest))
    return {layer: np.where(mask, scores[layer].astype(np.float64), below) for layer, mask in masks.items()}


def _select(selector: Selector, scores: Scores, masks: Masks, share: float, step: int) -> Masks:
    """What the selector keeps of what is left."""
    left, reason = _left(selector, scores, masks, share)
    if left is not None:
        return left
    largest = _largest_share(selector, scores, masks, share)
    advice = "no more can be removed" if largest is None else f"the largest share that works is {largest:.3g}"
    raise ScheduleError(f"step {step}, up to share {share:.3g} of the units, {reason}; {advice}")


def _largest_share(selector: Selector, scores: Scores, masks: Masks, share: float) -> float | None:
    """The largest share that the selection survives, where larger ones remove more; None where no more can go."""
    units, gone = sum(len(mask) for mask in masks.values()), sum(counts(masks).values())
    works, fails = gone, _whole(share * units)
    while fails - works > 1:
        middle = (works + fails) // 2
        if _left(selector, scores, masks, middle / units)[0] is None:
            fails = middle
        else:
            works = middle
    return works / units if works > gone else None


def _left(selector: Selector, scores: Scores, masks: Masks, share: float) -> tuple[Masks | None, str]:
    """What is left of the masks, or None and why the selection cannot be taken."""
    try:
        chosen = selector(scores, masks, share)
    except PruningError as error:
        return None, f"cannot be selected ({error})"
    for layer, mask in masks.items():
        found = chosen.get(layer)
        if found is None or found.dtype != np.bool_ or found.shape != mask.shape:
            return None, f"has no selection of {len(mask)} bools for layer {layer!r}"
    left = {layer: mask & chosen[layer] for layer, mask in masks.items()}
    empty = next((layer for layer, mask in left.items() if not mask.any()), None)
    return (left, "") if empty is None else (None, f"would empty layer {empty!r}")


def _whole(units: float) -> int:
    return int(units + ROUNDING)


def _check_shares(masks: Masks, shares: Sequence[float]) -> None:
    if not shares:
        raise ScheduleError("the schedule has no shares: give one for each step")
    for step, share in enumerate(shares, start=1):
        if not 0.0 <= share < 1.0:
            raise ScheduleError(f"share {share} of step {step} is out of range: use 0 or more and below 1")
        if step > 1 and share <= shares[step - 2]:
            raise ScheduleError(f"share {share} of step {step} is not above that of the step before: let them rise")
    widths = {layer: len(mask) for layer, mask in masks.items()}
    units, gone = sum(widths.values()), sum(counts(masks).values())
    if shares[0] < gone / units - ROUNDING:
        raise ScheduleError(
            f"share {shares[0]:.3g} of step 1 lies below the {gone / units:.3g} of the units that the masks have "
            f"removed already: start above that"
        )
    spare = units - len(widths)
    for step, share in enumerate(shares, start=1):
        if _whole(share * units) > spare:
            narrowest = min(widths, key=lambda layer: widths[layer])
            raise ScheduleError(
                f"step {step} would empty a layer, as {narrowest!r} of {widths[narrowest]} units: share {share:.3g} of "
                f"all {units} units leaves fewer than one for each of {len(widths)} layers; "
                f"the largest share that works is {spare / units:.3g}"
            )
