"""Costs of a network before and after removal: parameters, multiply-adds, bytes and measured seconds.

Also as plain tables of what each kept unit costs, for a budget.
"""

from training.cost.costs import Cost, costs
from training.cost.latency import Latency, measure_latencies, measure_latency
from training.cost.layer_latency import LayerLatency, estimated_seconds, layer_latencies
from training.cost.terms import cost_terms
from training.cost.unit_costs import UnitCosts, counted_costs, measured_costs

__all__ = [
    "Cost",
    "Latency",
    "LayerLatency",
    "UnitCosts",
    "cost_terms",
    "costs",
    "counted_costs",
    "estimated_seconds",
    "layer_latencies",
    "measure_latencies",
    "measure_latency",
    "measured_costs",
]
