"""Stages that score: drawing scoring sets, solving programs, averaging, explaining and checking them again.

Simple rules are computed here as well.
"""

from flows.stages.scoring.check import check_solutions
from flows.stages.scoring.rank import Ranking, rule_values
from flows.stages.scoring.score import (
    STATUS_TAG,
    average_scores,
    change_in_words,
    draw_scoring_sets,
    instance_of,
    solve_program,
    statuses,
)

__all__ = [
    "STATUS_TAG",
    "Ranking",
    "average_scores",
    "change_in_words",
    "check_solutions",
    "draw_scoring_sets",
    "instance_of",
    "rule_values",
    "solve_program",
    "statuses",
]
