"""Lowering: a torch module and an example input become a `Network`, one rule per torch operation, or one that can only
be differentiated.

The only room of the formulation that knows torch.
"""

from formulation.lowering.derivatives import Outline, differentiable, outline, read_network
from formulation.lowering.example_images import are_batches, held_at_once, off_the_tape
from formulation.lowering.rules import rule
from formulation.lowering.walk import lower

__all__ = [
    "Outline",
    "are_batches",
    "differentiable",
    "held_at_once",
    "lower",
    "off_the_tape",
    "outline",
    "read_network",
    "rule",
]
