"""The mask program: which units to keep within a budget, once the weights of the survivors have been changed for it.

A relaxation by dual cuts, rounding, swaps and branching find masks, and arithmetic without a solver proves their bound.
"""

from formulation.masks.mask_budgets import CostLimit, MaskBudget
from formulation.masks.mask_checks import MaskVerdict, check_mask
from formulation.masks.mask_choice import choose_mask, objective_of
from formulation.masks.mask_solution import MaskCertificate, MaskSettings, MaskSolution

__all__ = [
    "CostLimit",
    "MaskBudget",
    "MaskCertificate",
    "MaskSettings",
    "MaskSolution",
    "MaskVerdict",
    "check_mask",
    "choose_mask",
    "objective_of",
]
