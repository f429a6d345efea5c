"""The work of each stage, in plain functions that write to an open run; Prefect calls them through `flows.tasks`."""

from flows.stages.check import check_solutions
from flows.stages.compact import compact_network
from flows.stages.curve import measure_curve, repeat_curve
from flows.stages.evaluate import compare_masks, evaluate_network
from flows.stages.fit import log_final_network, retrain_network, train_network
from flows.stages.gradual import train_gradually
from flows.stages.prune import prune_network
from flows.stages.robustness import compare_sets, draw_kind, measure_set
from flows.stages.score import average_scores, draw_scoring_sets, score_set
from flows.stages.stability import summarise_robustness
from flows.stages.summary import summarise
from flows.stages.sweep import summarise_sweep

__all__ = [
    "average_scores",
    "check_solutions",
    "compact_network",
    "compare_masks",
    "compare_sets",
    "draw_kind",
    "draw_scoring_sets",
    "evaluate_network",
    "log_final_network",
    "measure_curve",
    "measure_set",
    "prune_network",
    "repeat_curve",
    "retrain_network",
    "score_set",
    "summarise",
    "summarise_robustness",
    "summarise_sweep",
    "train_gradually",
    "train_network",
]
