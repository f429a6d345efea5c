"""Single connections instead of units: how sensitive the loss is to each weight, and which ones go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tracing import WEIGHTED
from training.data import Split
from training.errors import SelectionError
from training.pruning.masks import Zeros
from training.pruning.ranking.activations import weight_gradients

Sensitivity = dict[str, NDArray[np.float64]]


def connection_sensitivity(
    model: nn.Module, split: Split, *, batch_size: int = 512, device: str = "cpu"
) -> Sensitivity:
    """|w dL/dw| of every weight of the Linear and convolutional layers, output layer included, biases left out.

    L is the mean cross-entropy over the images.

    Args:
        model: usually an untrained one; left as it was.
        split: images [n, C, H, W] and labels [n].
        batch_size: images per pass.
        device: where the passes run.

    Returns:
        By key of the state dict, float64 of the weight's shape.

    Raises:
        DeviceError, ModelError, LabelError: no such device, images or labels that do not fit.
        SelectionError: a value is not finite.

    Source: Lee, Ajanthan, Torr, "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019,
    equation 5.

    Departs from the paper: not divided by the sum over all weights, which keeps the order.
    """
    parameters = dict(model.named_parameters())
    # A weight that two layers share is listed under the first of them.
    layers = tuple(
        name for name, part in model.named_modules() if isinstance(part, WEIGHTED) and f"{name}.weight" in parameters
    )
    pairs = weight_gradients(model, split, layers, batch_size=batch_size, device=device)
    found = {f"{layer}.weight": (weight * slope).abs().numpy() for layer, (weight, slope) in pairs.items()}
    for key, values in found.items():
        if not np.isfinite(values).all():
            raise SelectionError(f"the sensitivity of {key!r} is not finite: give a network whose loss is")
    return found


def weakest_connections(sensitivity: Mapping[str, NDArray[np.float64]], count: int) -> Zeros:
    """The weights of least sensitivity over all layers together, as entries to be held at 0.

    Ties by position: of equal weights the earlier ones stay, in the order of the keys. As in the paper no layer is
    spared: one may lose all its weights.

    Args:
        sensitivity: by key of the state dict, one value per weight.
        count: of the weights to remove.

    Returns:
        By key, bools of its shape: True = removed; keys that lose no weight are absent.

    Raises:
        SelectionError: the count is negative or leaves no weight at all.
    """
    total = sum(values.size for values in sensitivity.values())
    if not 0 <= count < total:
        raise SelectionError(f"count={count} of {total} connections is out of range: use 0 to {total - 1}")
    joined = np.concatenate([values.ravel() for values in sensitivity.values()])
    removed = np.zeros(total, np.bool_)
    removed[np.argsort(-joined, kind="stable")[total - count :]] = True
    ends = np.cumsum([values.size for values in sensitivity.values()])
    parts = np.split(removed, ends[:-1])
    return {
        key: torch.from_numpy(part.reshape(values.shape).copy())
        for (key, values), part in zip(sensitivity.items(), parts, strict=True)
        if part.any()
    }
