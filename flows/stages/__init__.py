"""The work of each stage, in plain functions that write to an open run; Prefect calls them through `flows.tasks`."""

from flows.stages.blocks import fit_heads, lay_out, train_by_block
from flows.stages.check import check_solutions
from flows.stages.compact import compact_network
from flows.stages.curve import measure_curve, repeat_curve
from flows.stages.evaluate import compare_masks, evaluate_network
from flows.stages.fit import log_final_network, retrain_network, train_network, train_sparse
from flows.stages.gradual import train_gradually
from flows.stages.initial import choose_connections, choose_units
from flows.stages.prune import prune_network
from flows.stages.published import describe_row, tabulate
from flows.stages.robustness import compare_sets, draw_kind, measure_set
from flows.stages.score import average_scores, draw_scoring_sets, score_set
from flows.stages.stability import summarise_robustness
from flows.stages.summary import summarise
from flows.stages.sweep import summarise_sweep
from flows.stages.transfer import carry_masks, choose_masks, leave_initial_weights, take_over_weights, train_arm
from flows.stages.transfer_summary import summarise_seed, summarise_transfer

__all__ = [
    "average_scores",
    "carry_masks",
    "check_solutions",
    "choose_connections",
    "choose_masks",
    "choose_units",
    "compact_network",
    "compare_masks",
    "compare_sets",
    "describe_row",
    "draw_kind",
    "draw_scoring_sets",
    "evaluate_network",
    "fit_heads",
    "lay_out",
    "leave_initial_weights",
    "log_final_network",
    "measure_curve",
    "measure_set",
    "prune_network",
    "repeat_curve",
    "retrain_network",
    "score_set",
    "summarise",
    "summarise_robustness",
    "summarise_seed",
    "summarise_sweep",
    "summarise_transfer",
    "tabulate",
    "take_over_weights",
    "train_arm",
    "train_by_block",
    "train_gradually",
    "train_network",
    "train_sparse",
]
