"""Layers that may lose units: those that scores fit and whose units can be followed, and what else ranks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

import training
from tracing import WEIGHTED
from training import Limits, MaskError, PruningError, Scores, SelectionError, UnsupportedGraph

WIDEST = 2400  # inputs of a layer up to which its Gram matrix is inverted and updated for every unit


def require_fitting(network: nn.Module, values: Scores, example: Tensor) -> None:
    """Raise SelectionError for scores of a layer that the network has not, or not one for each of its units."""
    try:
        training.validate_masks(network, {layer: np.ones(len(each), np.bool_) for layer, each in values.items()})
    except MaskError as error:
        raise SelectionError(f"the scores do not fit the network, as masks of their lengths: {error}") from error
    # Fewer than a layer has rows are right for attention heads and the like, which the way of the units tells.
    fewer = {layer for layer, each in values.items() if len(each) != _rows(network.get_submodule(layer))}
    followed = [layer for layer in values if layer in fewer - set(training.unfollowed(network, example, fewer))]
    for layer, link in training.consumers(network, example, followed).items():
        given = len(values[layer])
        if given != link.units:
            raise SelectionError(
                f"scores of {layer!r} are {given} numbers: one for each of its {link.units} units is needed"
            )


def _rows(layer: nn.Module) -> int | None:
    """How many rows the weight of a Linear or convolution has; None of attention, whose units are no rows."""
    return layer.weight.shape[0] if isinstance(layer, WEIGHTED) else None


def layers_to_leave(network: nn.Module, example: Tensor, values: Scores, left: Sequence[str]) -> dict[str, str]:
    """Scored layers whose units cannot be removed, and keep all of them; raises UnsupportedGraph where no other is."""
    free = Limits(leave_alone=tuple(left)).floors(_widths(values))
    refused = training.unfollowed(network, example, free)
    if refused and len(refused) == len(free):
        raise UnsupportedGraph(next(iter(refused.values())))
    return refused


def left_alone(refused: Mapping[str, str]) -> str:
    """Which layers keep all units, and why, in a line; empty where none does."""
    if not refused:
        return ""
    first, why = next(iter(refused.items()))
    what = f"scored layer {first!r} keeps" if len(refused) == 1 else f"{len(refused)} scored layers keep"
    which = "" if len(refused) == 1 else f", {first!r} first"
    return f"{what} all units, which cannot be followed{which}: {why}"


def other_rankings(network: nn.Module, images: Tensor, values: Scores, alone: frozenset[str]) -> tuple[Scores, ...]:
    """What units cost the network's answers, for the layers that may lose some; none where that is dear or unknown."""
    layers = tuple(layer for layer in values if layer not in alone)
    try:
        links = training.consumers(network, images[:1], layers)
        readers = [network.get_submodule(reader.layer) for link in links.values() for reader in link.readers]
        if not readers or not all(_is_narrow(each) for each in readers):
            return ()
        return (training.answer_costs(network, images, layers),)
    except PruningError:
        return ()


def _widths(values: Scores) -> dict[str, int]:
    return {layer: len(each) for layer, each in values.items()}


def _is_narrow(reader: nn.Module) -> bool:
    return isinstance(reader, nn.Linear | nn.Conv1d | nn.Conv2d) and reader.weight[0].numel() <= WIDEST
