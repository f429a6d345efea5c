"""The reduced program that a stored solution is about, for whatever reads a solution again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from formulation.checker import lowered
from formulation.errors import InvalidSolution
from formulation.images import require_fit
from formulation.network import Network, Scores
from formulation.reduction import Reduction, reduce
from formulation.settings import ScoreSettings
from formulation.solution import Certificate, Proof, Solution

TOLERANCE = 1e-6  # by which a score may leave [0, 1], and of the objective


def stored_reduction(model: Any, images: Any, labels: Any, solution: Solution) -> Reduction:
    """The scoring set of a solution in score space.

    Raises:
        InvalidSolution: no solution, one for another model or other images, or one whose settings, scores or
            multipliers are damaged; before the program is reduced.
    """
    if not isinstance(solution, Solution) or not isinstance(solution.certificate, Certificate):
        raise InvalidSolution(
            f"the solution is {type(solution).__name__}; give what `score` or `Solution.load` returns"
        )
    settings = _settings(solution.certificate)
    network, pixels, classes = lowered(model, images, labels, solution)
    require_fit(network, pixels, classes, settings)
    _require_scores(network, solution.scores)
    if solution.proof is not None:
        _require_proof(network, len(classes), solution.proof)
    return reduce(network, pixels, classes, settings)


def _settings(certificate: Certificate) -> ScoreSettings:
    """The settings behind a certificate whose figures are possible."""
    try:
        settings = ScoreSettings.from_dict(certificate.settings)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InvalidSolution(f"the settings in the certificate are damaged ({error}); score again") from error
    bound, objective = certificate.bound, certificate.objective
    if not bound <= objective + TOLERANCE * max(1.0, abs(objective)):
        raise InvalidSolution(f"the certificate is damaged (objective {objective}, bound {bound}); score again")
    return settings


def _require_scores(network: Network, scores: Scores) -> None:
    if not isinstance(scores, Mapping) or not set(scores) <= set(network.units):
        raise InvalidSolution("the solution's scores are not those of the network's scored layers; score again")
    for name, units in network.units.items():
        try:
            values = np.asarray(scores.get(name, ()))
        except ValueError:
            values = np.zeros(())  # ragged
        plain = np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)
        if values.shape != (units,) or not plain:
            raise InvalidSolution(f"the solution holds no {units} scores for layer '{name}'; score again")
        if not ((values >= -TOLERANCE) & (values <= 1 + TOLERANCE)).all():
            raise InvalidSolution(f"the scores of layer '{name}' are not all in [0, 1]; score again")


def _require_proof(network: Network, images: int, proof: Proof) -> None:
    """Raise InvalidSolution for multipliers of another form; what is left of it shows where they are used."""
    try:
        count = len(proof.prices)
        shapes = (proof.probabilities.shape, proof.layers.shape, proof.rows.shape, proof.prices.shape)
        fit = shapes == ((network.classes, images), (len(network.layers),), (count, 3), (count,))
        fit = fit and np.issubdtype(proof.rows.dtype, np.integer) and bool((proof.rows >= 0).all())
        fit = fit and bool((proof.rows[:, [0, 2]] < (len(network.nodes), images)).all())
        numbers = (proof.probabilities, proof.layers, proof.prices, *proof.undecided.values())
        fit = fit and all(bool(np.isfinite(values).all()) for values in numbers)
        fit = fit and bool((np.clip(proof.probabilities, 0.0, None).sum(axis=0) > 0).all())
    except (TypeError, AttributeError, ValueError, IndexError):
        fit = False
    if not fit:
        raise InvalidSolution("the proof is damaged (its arrays do not fit the network and the images); score again")
