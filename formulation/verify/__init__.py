"""The independent check of a solution: residuals of every constraint, the objective, the dual bound and what the
certificate claims.

It shares the network and the relaxation with the search, and none of its code.
"""

from formulation.verify.checker import Verdict, check, prove_bound, verify
from formulation.verify.notes import SURVIVOR, magnitudes, notes_of
from formulation.verify.stored_solution import lowered, stored_lagrangian, stored_reduction

__all__ = [
    "SURVIVOR",
    "Verdict",
    "check",
    "lowered",
    "magnitudes",
    "notes_of",
    "prove_bound",
    "stored_lagrangian",
    "stored_reduction",
    "verify",
]
