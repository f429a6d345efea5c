"""Stages of the experiments: transfer, reproduction of the published table, sweeps and robustness.

Each has a summary on the run on top.
"""

from flows.stages.experiments.published import describe_row, tabulate
from flows.stages.experiments.robustness_sets import BALANCED, KINDS, compare_sets, draw_kind, measure_set
from flows.stages.experiments.robustness_summary import summarise_robustness
from flows.stages.experiments.sweep_summary import summarise_sweep
from flows.stages.experiments.transfer_arms import (
    carry_masks,
    choose_masks,
    leave_initial_weights,
    take_over_weights,
    train_arm,
)
from flows.stages.experiments.transfer_summary import ON_SOURCE, ON_TARGET, summarise_seed, summarise_transfer

__all__ = [
    "BALANCED",
    "KINDS",
    "ON_SOURCE",
    "ON_TARGET",
    "carry_masks",
    "choose_masks",
    "compare_sets",
    "describe_row",
    "draw_kind",
    "leave_initial_weights",
    "measure_set",
    "summarise_robustness",
    "summarise_seed",
    "summarise_sweep",
    "summarise_transfer",
    "tabulate",
    "take_over_weights",
    "train_arm",
]
