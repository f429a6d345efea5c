"""Units of a traced graph: how each op moves them, which of them sums and depthwise convolutions tie into groups.

Nothing here knows of scores, masks or programs: both libraries read the same groups and the same ends of their ways.
"""

from tracing.units.composite import all_groups, composite_groups
from tracing.units.grouping import UnitGroup, UnitGroups, unit_groups, why_ungated
from tracing.units.op_rules import is_depthwise, is_norm, is_relu, is_shift, is_weighted, scatters
from tracing.units.positions import End, Reader, positions_after
from tracing.units.tokens import token_groups

__all__ = [
    "End",
    "Reader",
    "UnitGroup",
    "UnitGroups",
    "all_groups",
    "composite_groups",
    "is_depthwise",
    "is_norm",
    "is_relu",
    "is_shift",
    "is_weighted",
    "positions_after",
    "scatters",
    "token_groups",
    "unit_groups",
    "why_ungated",
]
