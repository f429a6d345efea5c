"""Pipelines: the Prefect flows, the stage runs that they are made of, their deployments, and everything that is
checked before a flow starts.

Experiments have a room below.
"""

from flows.pipelines.flows import run_flow
from flows.pipelines.outcome import outcome_of
from flows.pipelines.preparation import prepare_flow

__all__ = [
    "outcome_of",
    "prepare_flow",
    "run_flow",
]
