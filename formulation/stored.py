"""The reduced program that a stored solution is about, for whatever reads a solution again."""

from __future__ import annotations

from typing import Any

from formulation.checker import lowered
from formulation.reduction import Reduction, reduce
from formulation.settings import ScoreSettings
from formulation.solution import Solution


def stored_reduction(model: Any, images: Any, labels: Any, solution: Solution) -> Reduction:
    """The scoring set of a solution in score space.

    Raises:
        InvalidSolution: another model or other images than the certificate names.
    """
    network, pixels, classes = lowered(model, images, labels, solution)
    return reduce(network, pixels, classes, ScoreSettings.from_dict(solution.certificate.settings))
