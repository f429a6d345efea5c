"""Experiments: one flow per question asked of many networks.

Each is made of the same stage runs as the main flow.
"""

from flows.pipelines.experiments.reproduce import SNIP, cells_of, own_of, published_of, reproduce_flow
from flows.pipelines.experiments.robustness import robustness_flow
from flows.pipelines.experiments.sweep import sweep_flow
from flows.pipelines.experiments.transfer import transfer_flow
from flows.pipelines.experiments.transfer_inputs import on_target, require_transfer, with_shape

__all__ = [
    "SNIP",
    "cells_of",
    "on_target",
    "own_of",
    "published_of",
    "reproduce_flow",
    "require_transfer",
    "robustness_flow",
    "sweep_flow",
    "transfer_flow",
    "with_shape",
]
