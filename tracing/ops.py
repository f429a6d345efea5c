"""Op families: operations that compute the same, however torch spells them, with their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, eq=False)
class Op:
    """A family of operations; two are the same if they are the same object.

    Attributes:
        name: for messages.
        parameters: name and default in the order of the functional form, the activations it reads first. A layer holds
            those behind the first under the same names.
        unitwise: acts on every value alone, and maps 0 to 0.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    unitwise: bool = False


def _op(name: str, *, unitwise: bool = False, **parameters: Any) -> Op:
    return Op(name, MappingProxyType(parameters), unitwise)


WINDOW: Mapping[str, Any] = {"kernel_size": None, "stride": None, "padding": 0}

# What a graph consists of beside calls.
INPUT = _op("input")
CONSTANT = _op("constant")
OUTPUT = _op("output", values=None)

# Layers with weights.
LINEAR = _op("linear", input=None, weight=None, bias=None)
CONVOLUTION = _op(
    "convolution", input=None, weight=None, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"
)
TRANSPOSED_CONVOLUTION = _op(
    "transposed convolution",
    input=None,
    weight=None,
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
)
BATCH_NORM = _op(
    "batch norm",
    input=None,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
)

# What acts on every value alone.
RELU = _op("relu", unitwise=True, input=None, inplace=False)
LEAKY_RELU = _op("leaky relu", unitwise=True, input=None, negative_slope=0.01, inplace=False)
RELU6 = _op("relu6", unitwise=True, input=None, inplace=False)
PRELU = _op("prelu", unitwise=True, input=None, weight=None)
HARDTANH = _op("hardtanh", input=None, min_val=-1.0, max_val=1.0, inplace=False)
CLAMP = _op("clamp", input=None, min=None, max=None)
CLAMP_BELOW = _op("clamp", input=None, max=None, min=None)  # clamp_max
IDENTITY = _op("identity", unitwise=True, input=None)
CAST = _op("cast", unitwise=True, input=None)  # to a number type or a device; its arguments are not read
ALPHA_DROPOUT = _op("alpha dropout", unitwise=True, input=None, p=0.5, training=False, inplace=False)
NEGATE = _op("negate", unitwise=True, input=None)
DROPOUT = _op("dropout", unitwise=True, input=None, p=0.5, training=True, inplace=False)

# What acts on every channel alone, over windows of its pixels.
MAX_POOL = _op("max pool", input=None, **WINDOW, dilation=1, ceil_mode=False, return_indices=False)
AVERAGE_POOL = _op("average pool", input=None, **WINDOW, ceil_mode=False, count_include_pad=True, divisor_override=None)
ADAPTIVE_MAX_POOL = _op("adaptive max pool", input=None, output_size=None, return_indices=False)
ADAPTIVE_AVERAGE_POOL = _op("adaptive average pool", input=None, output_size=None)
MEAN = _op("mean", input=None, dim=None, keepdim=False)
SUM = _op("sum", input=None, dim=None, keepdim=False)
LARGEST = _op("amax", input=None, dim=None, keepdim=False)

# Arithmetic: of two activations, or of one and a constant.
ADD = _op("add", input=None, other=None, alpha=1)
SUBTRACT = _op("subtract", input=None, other=None, alpha=1)
MULTIPLY = _op("multiply", input=None, other=None)
DIVIDE = _op("divide", input=None, other=None, rounding_mode=None)

# What moves values without changing them.
CONCATENATE = _op("concatenate", tensors=(), dim=0)
FLATTEN = _op("flatten", input=None, start_dim=0, end_dim=-1)
RESHAPE = _op("reshape", input=None, shape=())
SELECT = _op("select", input=None, index=None)
# Their arguments are not read: what they move where is found by recomputing them.
MOVE = _op("move", input=None)
RESIZE = _op("resize", input=None)  # mixes neighbouring values of one channel
PARTS = _op("parts", input=None)  # several values, of which SELECT takes one
STACK = _op("stack", tensors=(), dim=0)

# Beside them: constants per channel; what a loss does not see at the output.
NORMALIZE = _op("normalize", input=None, mean=None, std=None, inplace=False)
LOG_SOFTMAX = _op("log softmax", input=None, dim=None, _stacklevel=3, dtype=None)

# A question about a tensor's form, which is no use of its values.
SHAPE = _op("shape", input=None, dim=None)

UNKNOWN = _op("unknown")
