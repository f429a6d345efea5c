"""nn.Module + example input -> Network: the only folder of this room that knows torch.

A torch layer becomes an affine map on the flattened activations (channel-major, as torch flattens) or a ReLU, or it
vanishes. What cannot be lowered exactly is refused by its qualified name, before any work; at the end the lowered
network is compared with the module on the example, in float64.
"""

from formulation.lowering.graph import TRACING, lower
from formulation.lowering.layers import rule
from formulation.lowering.outline import Outline, outline

__all__ = ["TRACING", "Outline", "lower", "outline", "rule"]
