"""Objectives of masked networks by enumeration, and how property-based tests repeat."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from hypothesis import settings as hypothesis_settings

from tests.formulation.cases import Case

# Same examples in every run, none stored, no clock.
repeatable = hypothesis_settings(derandomize=True, deadline=None, database=None, max_examples=40)


def largest_sum(terms: Mapping[str, float], count: int) -> float:
    """The sum of the `count` largest, by trying every subset."""
    return max(sum(chosen) for chosen in itertools.combinations(terms.values(), count))


def objective_of(case: Case, masks: Mapping[str, np.ndarray], loss_weight: float) -> float:
    """The program's objective from the masked torch network and the published layer terms."""
    terms = {name: float((mask - 2).mean()) for name, mask in masks.items()}
    return loss_weight * case.masked_loss(masks) + largest_sum(terms, max(1, len(terms) - 1))
