"""Stages: the work of each Prefect task as a plain function `stage(settings, *inputs, on_part) -> StageResult`.

Its inputs are earlier results, in memory or in a tracking store, and plain values; nothing here knows of a store.
"""

from flows.stages.experiments.published import describe_row, tabulate
from flows.stages.experiments.robustness_sets import compare_sets, draw_kind, measure_set
from flows.stages.experiments.robustness_summary import summarise_robustness
from flows.stages.experiments.sweep_summary import summarise_sweep
from flows.stages.experiments.transfer_arms import (
    carry_masks,
    choose_masks,
    leave_initial_weights,
    take_over_weights,
    train_arm,
)
from flows.stages.experiments.transfer_summary import summarise_seed, summarise_transfer
from flows.stages.fitting.block_training import fit_block_heads, lay_out, train_by_block
from flows.stages.fitting.fit import retrain_network, train_network, train_sparse_network
from flows.stages.pruning.compact import compact_network
from flows.stages.pruning.curve import measure_curve, repeat_curve
from flows.stages.pruning.evaluate import compare_masks, evaluate_network
from flows.stages.pruning.gradual import train_gradually
from flows.stages.pruning.prune import prune_network
from flows.stages.pruning.snip_at_initialisation import choose_connections, choose_units
from flows.stages.scoring.check import check_solutions
from flows.stages.scoring.score import average_scores, draw_scoring_sets, solve_program
from flows.stages.summaries.summary import summarise

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
    "fit_block_heads",
    "lay_out",
    "leave_initial_weights",
    "measure_curve",
    "measure_set",
    "prune_network",
    "repeat_curve",
    "retrain_network",
    "solve_program",
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
    "train_sparse_network",
]
