"""Removal made real: layers without the units that are gone, in files and in exported formats.

A compacted network equals the masked one.
"""

from training.pruning.compaction.compact_files import CompactSpec, load_compact, read_spec, save_compact
from training.pruning.compaction.layer_surgery import Axis, shrink
from training.pruning.compaction.model_export import Exported, export_onnx, export_program
from training.pruning.compaction.recalibration import recalibrate
from training.pruning.compaction.smaller_network import compact

__all__ = [
    "Axis",
    "CompactSpec",
    "Exported",
    "compact",
    "export_onnx",
    "export_program",
    "load_compact",
    "read_spec",
    "recalibrate",
    "save_compact",
    "shrink",
]
