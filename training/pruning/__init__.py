"""Removing units: who feeds whom, masks, their selection from scores, controls, and accounts of what was removed.

Import order inside the room (a module imports only modules before it): operations, channels, masks, selection,
baselines, accounting, gating, exchange, stepwise.
"""

from training.pruning.accounting import LayerRemoval, Removal, removal
from training.pruning.baselines import critical_masks, random_masks
from training.pruning.channels import Links, Reader, consumers
from training.pruning.exchange import Exchange, exchange
from training.pruning.masks import (
    Masks,
    hold_at_zero,
    load_masks,
    masks_digest,
    prune,
    removed_entries,
    save_masks,
    validate_masks,
)
from training.pruning.selection import Scores, Selection, by_threshold, counts
from training.pruning.stepwise import Exchanger, Method, Rework, Scorer, Selector

__all__ = [
    "Exchange",
    "Exchanger",
    "LayerRemoval",
    "Links",
    "Masks",
    "Method",
    "Reader",
    "Removal",
    "Rework",
    "Scorer",
    "Scores",
    "Selection",
    "Selector",
    "by_threshold",
    "consumers",
    "counts",
    "critical_masks",
    "exchange",
    "hold_at_zero",
    "load_masks",
    "masks_digest",
    "prune",
    "random_masks",
    "removal",
    "removed_entries",
    "save_masks",
    "validate_masks",
]
