"""Stages that train: a network as a whole, block by block, or its auxiliary heads.

They leave weights and training curves.
"""

from flows.stages.fitting.block_training import HEADS_TAG, fit_block_heads, lay_out, train_by_block
from flows.stages.fitting.fit import (
    log_data,
    report_epochs,
    retrain_network,
    train_network,
    train_sparse_network,
)

__all__ = [
    "HEADS_TAG",
    "fit_block_heads",
    "lay_out",
    "log_data",
    "report_epochs",
    "retrain_network",
    "train_by_block",
    "train_network",
    "train_sparse_network",
]
