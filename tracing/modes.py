"""Evaluation mode and number types of a module, left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CASTS = (Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode inside the block, every module's mode as before after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def weight_type(model: nn.Module) -> torch.dtype:
    """The floating type of the model's parameters, float32 if it has none: images are brought to it."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def as_the_model_takes(model: nn.Module, images: Tensor) -> Tensor:
    """The images on the device and in the floating type of the model's parameters."""
    place = next(model.parameters(), images).device
    return images.to(place, weight_type(model))


class KeepingFloat64(TorchFunctionMode):
    """Inside the block, casts of float64 tensors to another floating type do nothing.

    A copy of a model in float64 then stays in float64, where its forward casts to the type that it was trained in.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func not in CASTS or not isinstance(made, Tensor) or not made.is_floating_point():
            return made
        given = args[0]
        return given if given.dtype == torch.float64 and given.device == made.device else made
