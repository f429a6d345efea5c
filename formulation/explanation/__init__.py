"""Explanations of scores: what pulls at each of them, and the images that carry the answer.

Both read the duals of a solution; only the second solves anything.
"""

from formulation.explanation.pulls import Pull, explain
from formulation.explanation.supports import Support, find_support

__all__ = ["Pull", "Support", "explain", "find_support"]
