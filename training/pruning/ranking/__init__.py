"""Simple rules that score units from weights, activations and gradients, and the swap search over masks.

They are what the program's scores are compared with.
"""

from training.pruning.ranking.connections import Sensitivity, connection_sensitivity, weakest_connections
from training.pruning.ranking.evidence import Evidence
from training.pruning.ranking.ranking_rules import RULES, RankingRule, draw_scores
from training.pruning.ranking.refitted_choice import RefittedChoice, choose_refitted
from training.pruning.ranking.refitted_swaps import RefittedLoss, measure_readings, search_refitted_swaps
from training.pruning.ranking.structured_obs import answer_costs
from training.pruning.ranking.swap_search import SwapResult, search_swaps

__all__ = [
    "RULES",
    "Evidence",
    "RankingRule",
    "RefittedChoice",
    "RefittedLoss",
    "Sensitivity",
    "SwapResult",
    "answer_costs",
    "choose_refitted",
    "connection_sensitivity",
    "draw_scores",
    "measure_readings",
    "search_refitted_swaps",
    "search_swaps",
    "weakest_connections",
]
