"""The mask program: which units to keep within a budget, once the weights of the survivors have been changed for it.

A relaxation by dual cuts, rounding, swaps and branching find masks, and arithmetic without a solver proves their bound.
"""

from formulation.masks.budgets import CostLimit, Distance, MaskBudget
from formulation.masks.checks import MaskVerdict, check_mask
from formulation.masks.joint_masks import MaskData, check_joint_mask, choose_joint_mask
from formulation.masks.mask_choice import choose_mask, objective_of
from formulation.masks.mask_solution import MaskCertificate, MaskSettings, MaskSolution
from formulation.masks.several_masks import choose_distinct_masks

__all__ = [
    "CostLimit",
    "Distance",
    "MaskBudget",
    "MaskCertificate",
    "MaskData",
    "MaskSettings",
    "MaskSolution",
    "MaskVerdict",
    "check_joint_mask",
    "check_mask",
    "choose_distinct_masks",
    "choose_joint_mask",
    "choose_mask",
    "objective_of",
]
