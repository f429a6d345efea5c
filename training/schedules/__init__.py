"""Pruning schedules: once, in small steps, at initialisation or during training.

One step scores, selects, swaps, removes.
"""

from training.schedules.removal import Step, at_initialisation, during_training, even_shares, iterative, one_shot
from training.schedules.step import Method, Rework, Scorer, Selector, SwapSearch

__all__ = [
    "Method",
    "Rework",
    "Scorer",
    "Selector",
    "Step",
    "SwapSearch",
    "at_initialisation",
    "during_training",
    "even_shares",
    "iterative",
    "one_shot",
]
