"""Masks and rankings as people hold them: numpy arrays, torch tensors or lists, by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from training import MaskError, Masks, Scores, SelectionError, validate_masks


def read_masks(network: nn.Module, masks: Any) -> Masks:
    """Masks as numpy arrays of bools, checked against the network.

    Args:
        network: whose layers they are of.
        masks: by layer, one bool per unit: True = kept.

    Raises:
        MaskError: no mapping of layers, a layer that the network has not, or no bool for each of its units.
        UnsupportedGraph: a wrapper hides the layers; with the module to give instead.
    """
    if not isinstance(masks, Mapping):
        raise MaskError(f"masks are {type(masks).__name__}: give a mapping of layer names to one bool per unit")
    read = {str(layer): _array("mask", layer, mask) for layer, mask in masks.items()}
    validate_masks(network, read)
    return read


def read_ranking(scores: Any) -> Scores:
    """Numbers by layer as numpy arrays: a ranking of one's own.

    Raises SelectionError for anything but a mapping of layers to numbers, MaskError for what is no array.
    """
    if not isinstance(scores, Mapping):
        raise SelectionError(f"scores are {type(scores).__name__}: give a ScoreResult, or by layer one number per unit")
    read = {str(layer): _array("ranking", layer, values) for layer, values in scores.items()}
    for layer, values in read.items():
        if values.ndim != 1 or not (
            np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)
        ):
            raise SelectionError(
                f"scores of {layer!r} are {values.dtype} of shape {values.shape}: give one number per unit"
            )
    return {layer: values.astype(np.float64) for layer, values in read.items()}


def _array(what: str, layer: object, values: Any) -> np.ndarray:
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except (TypeError, ValueError) as error:
        raise MaskError(f"{what} for {layer!r} cannot be read ({error}): give one value per unit") from error
