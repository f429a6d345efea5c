"""Removing units: who feeds whom, masks, their selection from scores, controls, and accounts of what was removed.

Import order inside the room (a module imports only modules before it): operations, channels, masks, activations,
limits, selection, baselines, accounting, costs.
"""

from training.pruning.accounting import LayerRemoval, Removal, removal
from training.pruning.baselines import RULES, Evidence, Rule, draw_scores
from training.pruning.channels import Links, Reader, consumers
from training.pruning.costs import cost_terms
from training.pruning.limits import Limits
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
from training.pruning.selection import (
    Scores,
    Selection,
    by_count,
    by_counts,
    by_layer_mean,
    by_quantile,
    by_share,
    by_threshold,
    counts,
)

__all__ = [
    "RULES",
    "Evidence",
    "LayerRemoval",
    "Limits",
    "Links",
    "Masks",
    "Reader",
    "Removal",
    "Rule",
    "Scores",
    "Selection",
    "by_count",
    "by_counts",
    "by_layer_mean",
    "by_quantile",
    "by_share",
    "by_threshold",
    "consumers",
    "cost_terms",
    "counts",
    "draw_scores",
    "hold_at_zero",
    "load_masks",
    "masks_digest",
    "prune",
    "removal",
    "removed_entries",
    "save_masks",
    "validate_masks",
]
