"""Pruning: which layers read which units, masks, their selection from scores, and what a removal saves.

Rankings and compaction have rooms of their own below.
"""

from tracing import NORMS, WEIGHTED
from tracing.units import Reader, is_weighted
from training.pruning.accounting import LayerRemoval, Removal, input_width, removal
from training.pruning.dependencies import (
    Links,
    consumers,
    summed_layers,
    trace_for_pruning,
    unfollowed,
    weighted_calls,
)
from training.pruning.largest_share import (
    SharePoint,
    SmallestShare,
    largest_share,
    shares_tried,
    smallest_share,
)
from training.pruning.layer_shapes import attention_multiply_adds, layer_places, layer_shapes
from training.pruning.limits import Limits
from training.pruning.masks import (
    Masks,
    Zeros,
    hold_at_zero,
    joined_zeros,
    load_masks,
    masks_digest,
    prune,
    removed_entries,
    save_masks,
    validate_masks,
    validate_zeros,
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
    check_scores,
    counts,
)

__all__ = [
    "NORMS",
    "WEIGHTED",
    "LayerRemoval",
    "Limits",
    "Links",
    "Masks",
    "Reader",
    "Removal",
    "Scores",
    "Selection",
    "SharePoint",
    "SmallestShare",
    "Zeros",
    "attention_multiply_adds",
    "by_count",
    "by_counts",
    "by_layer_mean",
    "by_quantile",
    "by_share",
    "by_threshold",
    "check_scores",
    "consumers",
    "counts",
    "hold_at_zero",
    "input_width",
    "is_weighted",
    "joined_zeros",
    "largest_share",
    "layer_places",
    "layer_shapes",
    "load_masks",
    "masks_digest",
    "prune",
    "removal",
    "removed_entries",
    "save_masks",
    "shares_tried",
    "smallest_share",
    "summed_layers",
    "trace_for_pruning",
    "unfollowed",
    "validate_masks",
    "validate_zeros",
    "weighted_calls",
]
