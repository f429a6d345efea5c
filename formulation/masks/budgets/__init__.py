"""Budgets of a mask, and their meaning: rows of a program, admission of a mask, contradictions.

A budget is plain values; regions are parts of its masks, which branching looks at one by one.
"""

from formulation.masks.budgets.admission import admits, cost_of, require_layers, within
from formulation.masks.budgets.conflicts import Widths, feasible_widths, require_feasible
from formulation.masks.budgets.distances import missing, moves, reference, taken_away
from formulation.masks.budgets.mask_budget import CostLimit, Distance, MaskBudget
from formulation.masks.budgets.regions import Branch, Region, Rows, rows_of

__all__ = [
    "Branch",
    "CostLimit",
    "Distance",
    "MaskBudget",
    "Region",
    "Rows",
    "Widths",
    "admits",
    "cost_of",
    "feasible_widths",
    "missing",
    "moves",
    "reference",
    "require_feasible",
    "require_layers",
    "rows_of",
    "taken_away",
    "within",
]
