"""Traced graphs of torch modules: ops by one table, shapes, who reads whom, running and cutting them.

Both libraries stand on this room, which alone uses torch.fx and owns the lock around tracing.
"""

from tracing import ops
from tracing.attention import FewerHeads, is_followed, parts_called
from tracing.errors import (
    TracingError,
    UnfitExample,
    Unfollowable,
    UnknownSpelling,
    Untraceable,
    first_line,
)
from tracing.graph import Graph, TracedModule, TracedNode
from tracing.modes import KeepingFloat64, evaluating, weight_type
from tracing.ops import Op
from tracing.recomputing import CallBehaviour, recomputed, tried, tried_together
from tracing.running import Instead, run
from tracing.surgery import followed_by, part
from tracing.table import NORMS, WEIGHTED, register
from tracing.tracer import trace
from tracing.wrappers import require_plain

__all__ = [
    "NORMS",
    "WEIGHTED",
    "CallBehaviour",
    "FewerHeads",
    "Graph",
    "Instead",
    "KeepingFloat64",
    "Op",
    "TracedModule",
    "TracedNode",
    "TracingError",
    "UnfitExample",
    "Unfollowable",
    "UnknownSpelling",
    "Untraceable",
    "evaluating",
    "first_line",
    "followed_by",
    "is_followed",
    "ops",
    "part",
    "parts_called",
    "recomputed",
    "register",
    "require_plain",
    "run",
    "trace",
    "tried",
    "tried_together",
    "weight_type",
]
