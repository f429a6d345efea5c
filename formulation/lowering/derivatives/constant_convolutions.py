"""Convolutions whose weights are constants: derivatives by what they read, and by nothing else.

torch's own rule forwards computes a convolution with the derivative of the weights too, which is 0 here.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from formulation.lowering.derivatives.convolution_products import (
    INPUT_SLOPES,
    Steps,
    kernel_product,
    transposed_product,
)

NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
USUAL = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}


class ConstantConvolutions(TorchFunctionMode):
    """Inside the block, convolutions with parameters that need no derivatives are differentiated by what they read."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func not in INPUT_SLOPES:
            return func(*args, **named)
        given = {**USUAL, **dict(zip(NAMES, args, strict=False)), **named}
        h, weight, bias, padding = (given[name] for name in ("input", "weight", "bias", "padding"))
        if not _are_constant(weight, bias) or isinstance(padding, str) or h.ndim != weight.ndim:
            return func(*args, **named)
        axes = weight.ndim - 2
        stride, pads, dilation = (_each(given[name], axes) for name in ("stride", "padding", "dilation"))
        steps = Steps(func, stride, pads, dilation, given["groups"])
        return _Convolution.apply(h, weight, bias, steps)


def _are_constant(weight: Any, bias: Any) -> bool:
    return all(isinstance(each, nn.Parameter) and not each.requires_grad for each in (weight, bias) if each is not None)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    found = (value,) if isinstance(value, int) else tuple(value)
    return found * axes if len(found) == 1 else found


class _Convolution(Function):
    """y = W h + b, differentiated in both directions by h alone."""

    @staticmethod
    def forward(h: Tensor, weight: Tensor, bias: Tensor | None, steps: Steps) -> Tensor:
        made = kernel_product(h, weight, steps)
        return made if bias is None else made.add_(bias.reshape(-1, *[1] * (h.ndim - 2)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        h, ctx.weight, _, ctx.steps = inputs
        ctx.shape = tuple(h.shape)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        return transposed_product(slopes[0], ctx.shape, ctx.weight, ctx.steps), None, None, None

    @staticmethod
    def jvp(ctx: Any, *moved: Any) -> Any:
        return kernel_product(moved[0], ctx.weight, ctx.steps)
