"""Plain tensors: dense numbers in memory of their own, the only ones that a state dict is taken with."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

import torch
from torch import Tensor


def fault_in(state: Mapping[object, object]) -> str | None:
    """What is wrong with the first entry of a state dict that is no plain tensor under a printable name; else None."""
    for key, value in state.items():
        if not isinstance(key, str) or not key.isprintable():
            return f"has the key {reprlib.repr(key)}, which is no name of a tensor"
        fault = _fault_of(value) if isinstance(value, Tensor) else f"{type(value).__name__} and no tensor"
        if fault is not None:
            return f"holds {reprlib.repr(key)}, which is {fault}"
    return None


def _fault_of(value: Tensor) -> str | None:
    if value.is_nested or value.layout != torch.strided:
        kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        return f"{kind} instead of dense"
    if value.device.type != "cpu":
        return f"on device {value.device.type} and without values"
    if value.is_quantized:
        return f"quantised ({_named(value.dtype)})"
    if value.is_complex():
        return f"complex ({_named(value.dtype)})"
    # One value can be laid out as a tensor of any size, which takes its memory as soon as it is used.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"of shape {list(value.shape)} with fewer values in the file"
    return None


def unlike(value: Tensor, wanted: Tensor) -> str | None:
    """Why a plain tensor's values could not be those of another of its shape; None where they could."""
    if value.is_floating_point() != wanted.is_floating_point():
        return f"holds {_named(value.dtype)} instead of {_named(wanted.dtype)}"
    if not value.is_floating_point():
        return None
    # In the type that they will have: float64 reaches further than float32.
    taken = value.to(wanted.dtype)
    if not bool(torch.isfinite(value.float() if value.element_size() == 1 else value).all()):
        return "holds NaN or infinite values"
    if not bool(torch.isfinite(taken).all()):
        return f"holds values beyond the range of {_named(wanted.dtype)}"
    return None


def _named(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
