"""Masks under a budget: how many units each layer keeps, as a small integer program.

Costs come as plain tables from whoever counts or measures them.
"""

from formulation.budget.budget_solution import BudgetSolution, keep_within
from formulation.budget.cost_terms import CostTerm

__all__ = [
    "BudgetSolution",
    "CostTerm",
    "keep_within",
]
