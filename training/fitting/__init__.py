"""Training: the loop, its optimiser steps, and training block by block with auxiliary heads.

Removed units stay removed while a network is trained.
"""

from training.fitting.blocks import Block, split
from training.fitting.decoupled import BlockEpoch, DecoupledFit, fit_blocks, fit_heads
from training.fitting.fit_settings import FitSettings
from training.fitting.head_files import load_heads, save_heads
from training.fitting.heads import head_layers, headed, is_of_head, make_head
from training.fitting.loop import Epoch, Evaluation, FitResult, evaluate, fit
from training.fitting.representations import represent

__all__ = [
    "Block",
    "BlockEpoch",
    "DecoupledFit",
    "Epoch",
    "Evaluation",
    "FitResult",
    "FitSettings",
    "evaluate",
    "fit",
    "fit_blocks",
    "fit_heads",
    "head_layers",
    "headed",
    "is_of_head",
    "load_heads",
    "make_head",
    "represent",
    "save_heads",
    "split",
]
