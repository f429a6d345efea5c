"""Pace of lowering: how long reading weights and writing a layer's matrix take, so that no step passes a deadline."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidModel
from formulation.lowering.values import Value

BLOCK = 2**22  # numbers read or copied between two looks at the clock
LEAST = 2**16  # numbers from which on a measurement is of use


def require_finite(model: nn.Module, deadline: Deadline) -> None:
    """Raise InvalidModel where a weight is NaN or infinite, TimeLimitReached where the deadline comes first."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        bad, took = 0, 0.0
        for block in _blocks(tensor.detach()):
            deadline.require(f"testing the values of '{name}'", took)
            started = time.monotonic()
            bad += 0 if _is_finite(block) else int((~torch.isfinite(block)).sum())
            took = time.monotonic() - started
        if bad:
            remedy = "" if isinstance(tensor, nn.Parameter) else "; a mask that is added says -1e9 where it says -inf"
            raise InvalidModel(
                f"'{name}' holds {bad} NaN or infinite values; train again or load another checkpoint{remedy}"
            )


def _blocks(tensor: Tensor) -> Sequence[Tensor]:
    """Views of a tensor, along its first axis, of about BLOCK numbers each."""
    whole = tensor if tensor.ndim else tensor[None]
    return torch.split(whole, max(1, BLOCK * len(whole) // whole.numel()))


def _is_finite(block: Tensor) -> bool:
    if block.dtype not in (torch.float32, torch.float64):
        return bool(torch.isfinite(block).all())
    return all(math.isfinite(end) for end in torch.aminmax(block))  # reads once and makes nothing: ten times as fast


def copied(model: nn.Module, deadline: Deadline) -> nn.Module:
    """The module in float64 on the CPU, nothing shared; raises TimeLimitReached where the deadline comes first."""
    if deadline is NEVER:
        return copy.deepcopy(model).to("cpu", torch.float64)
    made: dict[int, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if type(tensor) in (Tensor, nn.Parameter) and tensor.dtype in (torch.float32, torch.float64):
            made[id(tensor)] = _in_blocks(name, tensor, deadline)
    return copy.deepcopy(model, made).to("cpu", torch.float64)


def _in_blocks(name: str, tensor: Tensor, deadline: Deadline) -> Tensor:
    flat, taken = tensor.detach().reshape(-1), torch.empty(tensor.numel(), dtype=torch.float64)
    took = 0.0
    for first in range(0, tensor.numel(), BLOCK):
        deadline.require(f"copying '{name}'", took)
        started = time.monotonic()
        taken[first : first + BLOCK] = flat[first : first + BLOCK]
        took = time.monotonic() - started
    made = taken.reshape(tensor.shape)
    return nn.Parameter(made, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


class Pace:
    """Seconds that an entry of a layer's matrix takes, by kind of layer, from the layers that were lowered before."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._seconds: dict[str, float] = {}
        self._started = 0.0

    def begin(self, name: str, layer: nn.Module, source: Value) -> None:
        """Raise TimeLimitReached where a layer does not fit into the time that is left."""
        estimate = self._seconds.get(type(layer).__name__, 0.0) * _entries(layer, source)
        self._deadline.require(f"lowering '{name}'", estimate)
        self._started = time.monotonic()

    def end(self, layer: nn.Module, source: Value) -> None:
        """Take in how long the layer took."""
        if (entries := _entries(layer, source)) >= LEAST:
            self._seconds[type(layer).__name__] = (time.monotonic() - self._started) / entries


def _entries(layer: nn.Module, source: Value) -> int:
    """About how many entries the matrix of a layer has: every weight once per place of its kernel."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        return 0
    stride = getattr(layer, "stride", 1)
    places = int(np.prod(source.shape[1:])) // max(1, int(np.prod(stride)))
    return weight.numel() * max(1, places if weight.ndim > 2 else 1)
