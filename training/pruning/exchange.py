"""Exchanging removed units for kept ones where the loss of the pruned network says that this is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import MaskError, SelectionError, SettingsError
from training.pruning.gating import GatedNetwork, Slopes
from training.pruning.masks import Masks, validate_masks

# Per layer so many units to bring back are paired with so many to remove: slopes rank well, but not exactly.
BREADTH = 3


@dataclass(frozen=True, eq=False)
class Exchange:
    """The masks that exchanging led to, and what it took.

    Losses are mean cross-entropies (nats) of the pruned network on the images given, before and after. `exchanges`
    counts, for every layer of the masks, the pairs of units that changed places; `evaluated`, the masks tried.
    """

    masks: Masks
    loss_before: float
    loss_after: float
    exchanges: dict[str, int]
    evaluated: int


def exchange(
    model: nn.Module,
    masks: Masks,
    images: Tensor,
    labels: Tensor,
    *,
    tries: int = 40,
    tolerance: float = 1e-4,
    leave_alone: Collection[str] = (),
    batch_size: int = 512,
    device: str = "cpu",
) -> Exchange:
    """Exchange removed units for kept ones of their layer as long as that lowers the loss L on the images.

    The model is the one that `prune` would be given: a removed unit comes back with the weights it has there. With a
    gate g_j on every unit j of the pruned network (0 removed, 1 kept), bringing unit i back for unit j changes L by
    about dL/dg_i - dL/dg_j. In every round the pairs of which this promises most are tried one after another; the
    first that lowers L by more than `tolerance` stays, and the next round starts from there. It ends with a round
    whose pairs all fail, or after `tries` masks. How many units each layer keeps never changes, nor does a layer that
    is left alone. The result is a local optimum, the same for the same input; L never rises.

    Images [n, ...], labels [n], int64. Raises before any work: MaskError, SelectionError for a layer to leave alone
    that has no mask, SettingsError, DeviceError, ModelError, DataError, LabelError, UnsupportedGraph.
    """
    _check(model, masks, tries, tolerance, leave_alone)
    network = GatedNetwork(model, images, labels, masks, batch_size=batch_size, device=device)
    here = network.slopes({layer: mask.copy() for layer, mask in masks.items()})
    before = here.loss
    free = [layer for layer in masks if layer not in leave_alone]
    moves = Counter(dict.fromkeys(masks, 0))
    evaluated = 0
    searching = True
    while searching and evaluated < tries:
        searching = False
        for layer, back, gone in _candidates(here, free, tolerance):
            if evaluated == tries:
                break
            evaluated += 1
            trial = here.masks | {layer: _exchanged(here.masks[layer], back, gone)}
            if network.loss(trial, here) < here.loss - tolerance:
                here = network.slopes(trial)
                moves[layer] += 1
                searching = True
                break
    return Exchange(here.masks, before, here.loss, dict(moves), evaluated)


def _candidates(here: Slopes, layers: list[str], tolerance: float) -> Iterator[tuple[str, int, int]]:
    """(layer, unit that comes back, unit that goes), the largest promise first, ties by layer and position."""
    promises = []
    for order, layer in enumerate(layers):
        slopes, kept = here.by_layer[layer], here.masks[layer]
        removed, stay = np.flatnonzero(~kept), np.flatnonzero(kept)
        back = removed[np.argsort(slopes[removed], kind="stable")[:BREADTH]]
        gone = stay[np.argsort(-slopes[stay], kind="stable")[:BREADTH]]
        promises += [(float(slopes[i] - slopes[j]), order, int(i), int(j)) for i in back for j in gone]
    for change, order, returning, leaving in sorted(promises):
        if change < -tolerance:
            yield layers[order], returning, leaving


def _exchanged(mask: NDArray[np.bool_], back: int, gone: int) -> NDArray[np.bool_]:
    after = mask.copy()
    after[[back, gone]] = True, False
    return after


def _check(model: nn.Module, masks: Masks, tries: int, tolerance: float, leave_alone: Collection[str]) -> None:
    validate_masks(model, masks)
    if not masks:
        raise MaskError("there are no masks: give those of one layer or more")
    if tries < 0:
        raise SettingsError(f"tries={tries} is out of range: use 0 or more")
    if not 0.0 <= tolerance < np.inf:
        raise SettingsError(f"tolerance={tolerance} is out of range: use a finite value of 0 or more")
    for layer in leave_alone:
        if layer not in masks:
            raise SelectionError(f"layer {layer!r} to leave alone has no mask: use {', '.join(map(repr, masks))}")
