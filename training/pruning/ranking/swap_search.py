"""Swap search: removed units for kept ones where the loss of the pruned network says that this is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data import Images, held_images
from training.errors import FitSettingsError, MaskError, SelectionError
from training.pruning.masks import Masks, validate_masks
from training.pruning.ranking.gate_gradients import GatedNetwork, Slopes

Unit = tuple[str, int]  # layer and number
Pair = tuple[Unit, Unit]  # the unit that comes back, the unit that goes for it
# Per layer so many units that may come back are paired with so many that may go.
BREADTH = 10
# How much of what failed pairs have taught is still believed once another pair has changed places.
MEMORY = 0.9


@dataclass(frozen=True, eq=False)
class SwapResult:
    """The masks that swaps led to, and what it took.

    Losses are mean cross-entropies (nats) of the pruned network on the images given, before and after, or what
    `measure` says. `swaps` counts, for every layer of the masks, the units that came back; `evaluated`, the masks
    tried.
    """

    masks: Masks
    loss_before: float
    loss_after: float
    swaps: dict[str, int]
    evaluated: int
    measure: str = "cross-entropy"


def search_swaps(
    model: nn.Module,
    masks: Masks,
    images: Images,
    labels: Tensor | None,
    *,
    tries: int = 40,
    tolerance: float = 1e-4,
    leave_alone: Collection[str] = (),
    across: bool = False,
    batch_size: int = 512,
    device: str = "cpu",
) -> SwapResult:
    """Local search over masks: swap removed units for kept ones, as long as that lowers the loss L.

    The model is the one that `prune` would be given: a removed unit comes back with the weights it has there. With a
    gate g_j on every unit j of the pruned network (0 removed, 1 kept), bringing unit i back for unit j is expected to
    change L by dL/dg_i + e_i - dL/dg_j + e_j. The pair that promises most is tried; if it lowers L by more than
    `tolerance` it stays, and the slopes are taken anew. If not, its two units share the surprise: half of what the
    change of L exceeds the expected one by is added to e_i and e_j, which are 0 at first. So the next pair tried is
    another one, and what a curved loss hides from its slopes is learned where it matters. The end is a local optimum
    as far as slopes can tell, or `tries` masks.

    How many units each layer keeps never changes; with `across` only how many are kept together, and one of every
    layer. L, the mean cross-entropy on the images, never rises. The same input gives the same masks.

    Args:
        model: left as it was.
        masks: by layer, bool [units]: True = kept.
        images: [n, ...], or a DataLoader or any iterable of (images, labels), which are held at once.
        labels: [n], int64; None where they are beside the images.
        tries: masks whose loss may be computed.
        tolerance: of L, in nats.
        leave_alone: layers that never change.
        across: whether a unit may come back for one of another layer.
        batch_size: images per pass.
        device: where the passes run.

    Returns:
        The masks, L before and after, and the swaps that stayed.

    Raises:
        MaskError, SelectionError: the masks do not fit, or a layer to leave alone has none; as all others before any
            work.
        FitSettingsError, DeviceError: a value out of range, no such device.
        ModelError, DataError, LabelError, UnsupportedGraph: model, images and labels do not fit each other.
    """
    _check(model, masks, tries, tolerance, leave_alone)
    network = GatedNetwork(model, *held_images(images, labels), masks, batch_size=batch_size, device=device)
    here = network.slopes({layer: mask.copy() for layer, mask in masks.items()})
    before = here.loss
    free = [layer for layer in masks if layer not in leave_alone]
    moves = Counter(dict.fromkeys(masks, 0))
    surprises = {layer: np.zeros(len(masks[layer])) for layer in free}
    failed: set[Pair] = set()
    evaluated = 0
    while evaluated < tries:
        pair, promise = _most_promising(here, surprises, failed, across=across)
        if promise >= -tolerance:
            if not any(values.any() for values in surprises.values()):
                break
            # What was learned may have frightened off good pairs: before giving up, trust the slopes once more.
            surprises = {layer: np.zeros_like(values) for layer, values in surprises.items()}
            continue
        evaluated += 1
        trial = _swapped(here.masks, *pair)
        change = network.loss(trial, here) - here.loss
        if change < -tolerance:
            here = network.slopes(trial)
            moves[pair[0][0]] += 1
            surprises = {layer: MEMORY * values for layer, values in surprises.items()}
            failed.clear()
        else:
            for layer, number in pair:
                surprises[layer][number] += (change - promise) / 2
            failed.add(pair)
    return SwapResult(here.masks, before, here.loss, dict(moves), evaluated)


def _most_promising(
    here: Slopes, surprises: dict[str, NDArray[np.float64]], failed: set[Pair], *, across: bool
) -> tuple[Pair, float]:
    """The pair of which the largest fall of the loss is expected, and the change expected; infinite without one."""
    back: list[tuple[float, Unit]] = []
    gone: list[tuple[float, Unit]] = []
    for layer, surprise in surprises.items():
        kept = here.masks[layer]
        changes = np.where(kept, -1.0, 1.0) * here.by_layer[layer] + surprise
        back += [(float(changes[number]), (layer, number)) for number in _lowest(changes, ~kept)]
        gone += [(float(changes[number]), (layer, number)) for number in _lowest(changes, kept)]
    last = {layer for layer, mask in here.masks.items() if mask.sum() == 1}
    best: tuple[Pair, float] = (("", -1), ("", -1)), np.inf
    for (gain, returning), (cost, leaving) in product(back, gone):
        same = returning[0] == leaving[0]
        allowed = same or (across and leaving[0] not in last)
        if allowed and gain + cost < best[1] and (returning, leaving) not in failed:
            best = (returning, leaving), gain + cost
    return best


def _lowest(values: NDArray[np.float64], among: NDArray[np.bool_]) -> list[int]:
    """The positions of the lowest values among some, ties by position."""
    positions = np.flatnonzero(among)
    chosen: list[int] = positions[np.argsort(values[positions], kind="stable")[:BREADTH]].tolist()
    return chosen


def _swapped(masks: Masks, back: Unit, gone: Unit) -> Masks:
    after = {layer: mask.copy() for layer, mask in masks.items()}
    for (layer, number), kept in ((back, True), (gone, False)):
        after[layer][number] = kept
    return after


def _check(model: nn.Module, masks: Masks, tries: int, tolerance: float, leave_alone: Collection[str]) -> None:
    validate_masks(model, masks)
    if not masks:
        raise MaskError("there are no masks: give those of one layer or more")
    if tries < 0:
        raise FitSettingsError(f"tries={tries} is out of range: use 0 or more")
    if not 0.0 <= tolerance < np.inf:
        raise FitSettingsError(f"tolerance={tolerance} is out of range: use a finite value of 0 or more")
    for layer in leave_alone:
        if layer not in masks:
            raise SelectionError(f"layer {layer!r} to leave alone has no mask: use {', '.join(map(repr, masks))}")
