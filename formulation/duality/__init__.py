"""Dual bounds: duals on the program's constraints, and the lower bound that anyone can compute again from them.

No solver is needed to believe what stands here.
"""

from formulation.duality.dual_bound import Lagrangian, from_duals, lagrangian, logit_weights
from formulation.duality.duals import DualisedBatch, dualised, proper
from formulation.duality.exact_bound import exact_bound, exact_trivial_bound

__all__ = [
    "DualisedBatch",
    "Lagrangian",
    "dualised",
    "exact_bound",
    "exact_trivial_bound",
    "from_duals",
    "lagrangian",
    "logit_weights",
    "proper",
]
