"""Removing units: who feeds whom, masks, their selection from scores, controls, and accounts of what was removed.

Import order inside the room (a module imports only modules before it): operations, channels, masks, selection,
baselines, accounting, latency, recalibration, smaller, compaction, compact_files, cost, export, layer_latency.
"""

from training.pruning.accounting import LayerRemoval, Removal, removal
from training.pruning.baselines import critical_masks, random_masks
from training.pruning.channels import Links, Reader, consumers
from training.pruning.compact_files import CompactSpec, load_compact, read_spec, save_compact
from training.pruning.compaction import compact
from training.pruning.cost import Cost, costs
from training.pruning.export import Exported, export_onnx, export_program
from training.pruning.latency import Latency, measure_latencies, measure_latency
from training.pruning.layer_latency import LayerLatency, estimated_seconds, layer_latencies
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
from training.pruning.recalibration import recalibrate
from training.pruning.selection import Scores, Selection, by_threshold, counts

__all__ = [
    "CompactSpec",
    "Cost",
    "Exported",
    "Latency",
    "LayerLatency",
    "LayerRemoval",
    "Links",
    "Masks",
    "Reader",
    "Removal",
    "Scores",
    "Selection",
    "by_threshold",
    "compact",
    "consumers",
    "costs",
    "counts",
    "critical_masks",
    "estimated_seconds",
    "export_onnx",
    "export_program",
    "hold_at_zero",
    "layer_latencies",
    "load_compact",
    "load_masks",
    "masks_digest",
    "measure_latencies",
    "measure_latency",
    "prune",
    "random_masks",
    "read_spec",
    "recalibrate",
    "removal",
    "removed_entries",
    "save_compact",
    "save_masks",
    "validate_masks",
]
