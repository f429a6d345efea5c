"""Ranking rules by name, all of one signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from training.errors import SelectionError
from training.pruning.ranking.baselines import (
    critical,
    dead,
    l1_norm,
    l2_norm,
    mean_activation,
    mean_taylor,
    random,
    snip,
    squared_taylor,
    taylor,
)
from training.pruning.ranking.evidence import Evidence
from training.pruning.ranking.structured_obs import fisher_obs, structured_obs
from training.pruning.selection import Scores

RankingRule = Callable[[Evidence], Scores]

RULES: Mapping[str, RankingRule] = MappingProxyType(
    {
        rule.__name__: rule
        for rule in (
            random, critical, l1_norm, l2_norm, mean_activation, dead, taylor, mean_taylor, squared_taylor, snip,
            structured_obs, fisher_obs,
        )
    }
)  # fmt: skip
CHANCE = frozenset({"random"})


def draw_scores(name: str, evidence: Evidence, draws: int = 5) -> list[Scores]:
    """The scores of a ranking rule: several where chance is involved, else one.

    Args:
        name: one of RULES.
        evidence: network, images and seed that the rule may look at.
        draws: how many; draw 3 is the same whether five or ten are asked for.

    Returns:
        By layer, one score per unit, higher = keep; one such table for each draw.

    Raises:
        SelectionError: no rule has this name, or `draws` is below 1; and what the rule raises.
    """
    if name not in RULES or draws < 1:
        raise SelectionError(f"rule {name!r} with draws={draws}: use 1 or more draws of one of {', '.join(RULES)}")
    numbers = range(draws) if name in CHANCE else range(1)
    return [RULES[name](replace(evidence, draw=evidence.draw + number)) for number in numbers]
