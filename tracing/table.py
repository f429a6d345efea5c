"""Op table: which op family a torch layer, function or method spells, open by `register`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from tracing import ops
from tracing.errors import UnknownSpelling
from tracing.ops import Op

Target: TypeAlias = type[nn.Module] | Callable[..., Any] | str

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
QUESTIONS = ("shape", "ndim", "dtype", "device")  # attributes of a tensor that are no use of its values


@dataclass(frozen=True)
class Spelling:
    """One way to write an operation.

    Attributes:
        op: the family.
        axes: of the pixels that it acts over, as of a 2d pool; 0 where that is not part of its name.
        in_place: always writes over what it reads, whatever its arguments.
    """

    op: Op
    axes: int = 0
    in_place: bool = False


UNKNOWN = Spelling(ops.UNKNOWN)

# Names that a method and a function of torch have in common.
ARITHMETIC: dict[Op, tuple[str, ...]] = {
    ops.ADD: ("add",),
    ops.SUBTRACT: ("sub", "subtract"),
    ops.MULTIPLY: ("mul", "multiply"),
    ops.DIVIDE: ("div", "divide", "true_divide"),
}
MOVES = (
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "squeeze", "unsqueeze", "unflatten"),
    *("flip", "fliplr", "flipud", "roll", "rot90", "narrow", "select", "index_select", "repeat_interleave", "tile"),
    *("broadcast_to", "ravel", "masked_fill", "gather", "take_along_dim", "diagonal"),
)
CLAMPS = ("clamp", "clip", "clamp_min")
REDUCTIONS = ((ops.MEAN, "mean"), (ops.SUM, "sum"), (ops.LARGEST, "amax"))
# Methods that change no value, whatever their arguments.
CASTS = (
    *("to", "cpu", "float", "double", "type", "type_as", "half", "bfloat16", "contiguous", "clone", "detach"),
    *("positive", "requires_grad_", "detach_"),
)
PARTED = ("chunk", "split", "tensor_split", "unbind")
MOVING_LAYERS: tuple[type[nn.Module], ...] = (
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d, nn.Unflatten),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Unfold),
)
# Layers of a library that this room does not import, by their classes' full names.
BY_NAME = {
    "torchvision.transforms.transforms.Normalize": Spelling(ops.NORMALIZE),
    "torchvision.transforms.v2._misc.Normalize": Spelling(ops.NORMALIZE),
    "torchvision.ops.misc.FrozenBatchNorm2d": Spelling(ops.BATCH_NORM, 2),
    "torchvision.transforms.transforms.Resize": Spelling(ops.RESIZE),
    "torchvision.transforms.transforms.CenterCrop": Spelling(ops.MOVE),
    "torchvision.transforms.transforms.Pad": Spelling(ops.MOVE),
    "torchvision.transforms.v2._geometry.Resize": Spelling(ops.RESIZE),
    "torchvision.transforms.v2._geometry.CenterCrop": Spelling(ops.MOVE),
    "torchvision.transforms.v2._geometry.Pad": Spelling(ops.MOVE),
}

TABLE: dict[Target, Spelling] = {
    nn.Linear: Spelling(ops.LINEAR),
    F.linear: Spelling(ops.LINEAR),
    nn.Conv1d: Spelling(ops.CONVOLUTION, 1),
    F.conv1d: Spelling(ops.CONVOLUTION, 1),
    nn.Conv2d: Spelling(ops.CONVOLUTION, 2),
    F.conv2d: Spelling(ops.CONVOLUTION, 2),
    nn.BatchNorm1d: Spelling(ops.BATCH_NORM, 1),
    nn.BatchNorm2d: Spelling(ops.BATCH_NORM, 2),
    nn.SyncBatchNorm: Spelling(ops.BATCH_NORM),
    F.batch_norm: Spelling(ops.BATCH_NORM),
    nn.ConvTranspose1d: Spelling(ops.TRANSPOSED_CONVOLUTION, 1),
    F.conv_transpose1d: Spelling(ops.TRANSPOSED_CONVOLUTION, 1),
    nn.ConvTranspose2d: Spelling(ops.TRANSPOSED_CONVOLUTION, 2),
    F.conv_transpose2d: Spelling(ops.TRANSPOSED_CONVOLUTION, 2),
    nn.ReLU: Spelling(ops.RELU),
    F.relu: Spelling(ops.RELU),
    F.relu_: Spelling(ops.RELU, in_place=True),
    torch.relu: Spelling(ops.RELU),
    torch.relu_: Spelling(ops.RELU, in_place=True),
    "relu": Spelling(ops.RELU),
    "relu_": Spelling(ops.RELU, in_place=True),
    nn.LeakyReLU: Spelling(ops.LEAKY_RELU),
    F.leaky_relu: Spelling(ops.LEAKY_RELU),
    F.leaky_relu_: Spelling(ops.LEAKY_RELU, in_place=True),
    nn.ReLU6: Spelling(ops.RELU6),
    F.relu6: Spelling(ops.RELU6),
    nn.PReLU: Spelling(ops.PRELU),
    F.prelu: Spelling(ops.PRELU),
    "prelu": Spelling(ops.PRELU),
    nn.Hardtanh: Spelling(ops.HARDTANH),
    F.hardtanh: Spelling(ops.HARDTANH),
    F.hardtanh_: Spelling(ops.HARDTANH, in_place=True),
    **{word: Spelling(ops.CLAMP) for name in CLAMPS for word in (name, getattr(torch, name))},
    **{
        word: Spelling(ops.CLAMP, in_place=True) for name in CLAMPS for word in (f"{name}_", getattr(torch, f"{name}_"))
    },
    **{word: Spelling(ops.CLAMP_BELOW) for word in ("clamp_max", torch.clamp_max)},
    **{word: Spelling(ops.CLAMP_BELOW, in_place=True) for word in ("clamp_max_", torch.clamp_max_)},
    nn.Identity: Spelling(ops.IDENTITY),
    **{word: Spelling(ops.IDENTITY) for word in (torch.clone, torch.detach, torch.positive, operator.pos)},
    **{name: Spelling(ops.CAST) for name in CASTS},
    nn.AlphaDropout: Spelling(ops.ALPHA_DROPOUT),
    nn.FeatureAlphaDropout: Spelling(ops.ALPHA_DROPOUT),
    F.alpha_dropout: Spelling(ops.ALPHA_DROPOUT),
    F.feature_alpha_dropout: Spelling(ops.ALPHA_DROPOUT),
    nn.Dropout: Spelling(ops.DROPOUT),
    nn.Dropout1d: Spelling(ops.DROPOUT),
    nn.Dropout2d: Spelling(ops.DROPOUT),
    F.dropout: Spelling(ops.DROPOUT),
    F.dropout1d: Spelling(ops.DROPOUT),
    F.dropout2d: Spelling(ops.DROPOUT),
    nn.MaxPool1d: Spelling(ops.MAX_POOL, 1),
    nn.MaxPool2d: Spelling(ops.MAX_POOL, 2),
    F.max_pool1d: Spelling(ops.MAX_POOL, 1),
    F.max_pool2d: Spelling(ops.MAX_POOL, 2),
    torch.max_pool1d: Spelling(ops.MAX_POOL, 1),
    torch.max_pool2d: Spelling(ops.MAX_POOL, 2),
    nn.AvgPool1d: Spelling(ops.AVERAGE_POOL, 1),
    nn.AvgPool2d: Spelling(ops.AVERAGE_POOL, 2),
    F.avg_pool1d: Spelling(ops.AVERAGE_POOL, 1),
    F.avg_pool2d: Spelling(ops.AVERAGE_POOL, 2),
    nn.AdaptiveMaxPool1d: Spelling(ops.ADAPTIVE_MAX_POOL, 1),
    nn.AdaptiveMaxPool2d: Spelling(ops.ADAPTIVE_MAX_POOL, 2),
    F.adaptive_max_pool1d: Spelling(ops.ADAPTIVE_MAX_POOL, 1),
    F.adaptive_max_pool2d: Spelling(ops.ADAPTIVE_MAX_POOL, 2),
    nn.AdaptiveAvgPool1d: Spelling(ops.ADAPTIVE_AVERAGE_POOL, 1),
    nn.AdaptiveAvgPool2d: Spelling(ops.ADAPTIVE_AVERAGE_POOL, 2),
    F.adaptive_avg_pool1d: Spelling(ops.ADAPTIVE_AVERAGE_POOL, 1),
    F.adaptive_avg_pool2d: Spelling(ops.ADAPTIVE_AVERAGE_POOL, 2),
    **{word: Spelling(op) for op, name in REDUCTIONS for word in (name, getattr(torch, name))},
    operator.add: Spelling(ops.ADD),
    operator.iadd: Spelling(ops.ADD, in_place=True),
    operator.sub: Spelling(ops.SUBTRACT),
    operator.isub: Spelling(ops.SUBTRACT, in_place=True),
    operator.mul: Spelling(ops.MULTIPLY),
    operator.imul: Spelling(ops.MULTIPLY, in_place=True),
    operator.truediv: Spelling(ops.DIVIDE),
    operator.itruediv: Spelling(ops.DIVIDE, in_place=True),
    **{
        word: Spelling(op)
        for op, words in ARITHMETIC.items()
        for name in words
        for word in (name, getattr(torch, name))
    },
    **{f"{name}_": Spelling(op, in_place=True) for op, words in ARITHMETIC.items() for name in words},
    **{word: Spelling(ops.NEGATE) for word in (operator.neg, "neg", "negative", torch.neg, torch.negative)},
    **{word: Spelling(ops.MOVE) for name in MOVES for word in (name, getattr(torch, name))},
    **{layer: Spelling(ops.MOVE) for layer in MOVING_LAYERS},
    **{
        function: Spelling(ops.MOVE)
        for function in (F.pad, F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle, F.unfold)
    },
    **{word: Spelling(ops.MOVE) for word in ("expand", "expand_as", "repeat", "view_as", "reshape_as", "unfold", "t")},
    **{
        word: Spelling(ops.MOVE)
        for word in (torch.t, torch.channel_shuffle, torch.pixel_shuffle, torch.pixel_unshuffle)
    },
    **{word: Spelling(ops.RESIZE) for word in (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)},
    **{word: Spelling(ops.RESIZE) for word in (F.interpolate, F.upsample)},
    **{word: Spelling(ops.PARTS) for name in PARTED for word in (name, getattr(torch, name))},
    torch.stack: Spelling(ops.STACK),
    nn.LogSoftmax: Spelling(ops.LOG_SOFTMAX),
    F.log_softmax: Spelling(ops.LOG_SOFTMAX),
    torch.log_softmax: Spelling(ops.LOG_SOFTMAX),
    "log_softmax": Spelling(ops.LOG_SOFTMAX),
    torch.cat: Spelling(ops.CONCATENATE),
    torch.concat: Spelling(ops.CONCATENATE),
    torch.concatenate: Spelling(ops.CONCATENATE),
    nn.Flatten: Spelling(ops.FLATTEN),
    torch.flatten: Spelling(ops.FLATTEN),
    "flatten": Spelling(ops.FLATTEN),
    torch.reshape: Spelling(ops.RESHAPE),
    "reshape": Spelling(ops.RESHAPE),
    "view": Spelling(ops.RESHAPE),
    operator.getitem: Spelling(ops.SELECT),
    getattr: Spelling(ops.SELECT),
    "size": Spelling(ops.SHAPE),
    "dim": Spelling(ops.SHAPE),
}


def register(target: Target, op: Op, *, axes: int = 0, in_place: bool = False) -> None:
    """Say of a layer class, a function or a method's name (of a tensor) that it computes an op.

    Args:
        target: a layer class stands for its subclasses too, and is called as one operation, not traced into; it must
            hold the op's parameters under their names.
        op: from `tracing.ops`.
        axes: of the pixels that it acts over, as of a 2d pool; 0 where that is not part of its name.
        in_place: the result is written over the operand.

    Raises:
        UnknownSpelling: the target is a class of something else, or neither callable nor a name.
    """
    if isinstance(target, type) and not issubclass(target, nn.Module):
        raise UnknownSpelling(f"{target.__name__} is no torch.nn.Module: register a layer class, a function or a name")
    if not callable(target) and not isinstance(target, str):
        raise UnknownSpelling(f"{target!r} is no operation: register a layer class, a function or a method's name")
    TABLE[target] = Spelling(op, axes, in_place)


def of_layer(layer: nn.Module) -> Spelling:
    """What a layer computes: that of its class, or of the nearest class above that the table has."""
    named = BY_NAME.get(_full_name(type(layer)), UNKNOWN)
    return next((TABLE[kind] for kind in type(layer).__mro__ if kind in TABLE), named)


def of_call(target: Target, arguments: tuple[Any, ...]) -> Spelling:
    """What a function, or a method by its name, computes on these arguments."""
    if target is getattr and len(arguments) > 1 and arguments[1] in QUESTIONS:
        return Spelling(ops.SHAPE)
    return TABLE.get(target, UNKNOWN)


def is_layer(module: nn.Module) -> bool:
    """Whether the table has the module's class, or one above it whose forward it has."""
    if _full_name(type(module)) in BY_NAME:
        return True
    forward = type(module).forward
    return any(kind in TABLE and getattr(kind, "forward", None) is forward for kind in type(module).__mro__)


def _full_name(kind: type[nn.Module]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
