"""Derivatives by torch's autograd: which units of a traced network a gate can act on, and passes through it with gates.

They make a `Network` of any differentiable module for the gate `linear`, where lowering refuses it.
"""

from formulation.lowering.derivatives.network_reading import read_network
from formulation.lowering.derivatives.outline import Outline, outline
from formulation.lowering.derivatives.whole_network import differentiable

__all__ = [
    "Outline",
    "differentiable",
    "outline",
    "read_network",
]
