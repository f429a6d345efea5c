"""Settings of score calls in tests: the paper's but for what a test names, wherever the defaults go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from formulation import ScoreSettings

PAPER: Mapping[str, Any] = {"gate": "published", "radius": 1e-5, "loss_weight": 5.0}


def paper_settings(**changes: Any) -> ScoreSettings:
    """The settings of the paper's program with some of them given another value."""
    return ScoreSettings(**{**PAPER, **changes})
