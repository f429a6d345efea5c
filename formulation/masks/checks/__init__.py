"""Checks of a mask solution by arithmetic: its form, the objective at the mask, and the bound that its duals prove.

Nothing here calls a solver, and nothing that a certificate says is taken for granted.
"""

from formulation.masks.checks.leaf_bounds import bound_of_leaf, lagrangian_of_region, require_cover
from formulation.masks.checks.mask_checks import MaskVerdict, check_mask, first_order, verify_mask, verify_problem
from formulation.masks.checks.mask_forms import proved_settings, require_solution, stacked
from formulation.masks.checks.mask_objective import objective_at, objectives_at, relative_to, size_of

__all__ = [
    "MaskVerdict",
    "bound_of_leaf",
    "check_mask",
    "first_order",
    "lagrangian_of_region",
    "objective_at",
    "objectives_at",
    "proved_settings",
    "relative_to",
    "require_cover",
    "require_solution",
    "size_of",
    "stacked",
    "verify_mask",
    "verify_problem",
]
