"""Removing units: who feeds whom, masks, their selection from scores, controls, compaction, and what was saved.

Import order inside the room (a module imports only modules before it): operations, channels, masks, limits,
activations, selection, baselines, connections, accounting, gating, latency, recalibration, smaller, exchange,
compaction, cost_terms, compact_files, cost, export, layer_latency, stepwise.
"""

from training.pruning.accounting import (
    LayerRemoval,
    Removal,
    removal,
)
from training.pruning.baselines import (
    RULES,
    Evidence,
    Rule,
    draw_scores,
)
from training.pruning.channels import (
    Links,
    Reader,
    consumers,
)
from training.pruning.compact_files import (
    CompactSpec,
    load_compact,
    read_spec,
    save_compact,
)
from training.pruning.compaction import (
    compact,
)
from training.pruning.connections import (
    Sensitivity,
    connection_sensitivity,
    weakest_connections,
)
from training.pruning.cost import (
    Cost,
    costs,
)
from training.pruning.cost_terms import (
    cost_terms,
)
from training.pruning.exchange import (
    Exchange,
    exchange,
)
from training.pruning.export import (
    Exported,
    export_onnx,
    export_program,
)
from training.pruning.latency import (
    Latency,
    measure_latencies,
    measure_latency,
)
from training.pruning.layer_latency import (
    LayerLatency,
    estimated_seconds,
    layer_latencies,
)
from training.pruning.limits import (
    Limits,
)
from training.pruning.masks import (
    Masks,
    Zeros,
    hold_at_zero,
    load_masks,
    masks_digest,
    prune,
    removed_entries,
    save_masks,
    validate_masks,
)
from training.pruning.recalibration import (
    recalibrate,
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
from training.pruning.stepwise import (
    Exchanger,
    Method,
    Rework,
    Scorer,
    Selector,
)

__all__ = [
    "RULES",
    "CompactSpec",
    "Cost",
    "Evidence",
    "Exchange",
    "Exchanger",
    "Exported",
    "Latency",
    "LayerLatency",
    "LayerRemoval",
    "Limits",
    "Links",
    "Masks",
    "Method",
    "Reader",
    "Removal",
    "Rework",
    "Rule",
    "Scorer",
    "Scores",
    "Selection",
    "Selector",
    "Sensitivity",
    "Zeros",
    "by_count",
    "by_counts",
    "by_layer_mean",
    "by_quantile",
    "by_share",
    "by_threshold",
    "compact",
    "connection_sensitivity",
    "consumers",
    "cost_terms",
    "costs",
    "counts",
    "draw_scores",
    "estimated_seconds",
    "exchange",
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
    "read_spec",
    "recalibrate",
    "removal",
    "removed_entries",
    "save_compact",
    "save_masks",
    "validate_masks",
    "weakest_connections",
]
