"""A stored solution read again: what of it is damaged, and the program that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from formulation.errors import InvalidSolution
from formulation.images import images_digest, read, require_fit
from formulation.network import Array, Index, Network, Scores
from formulation.proof import Lagrangian, lagrangian
from formulation.reduction import Reduction, reduce
from formulation.settings import ScoreSettings
from formulation.solution import Certificate, Proof, Solution

TOLERANCE = 1e-6  # by which a score may leave [0, 1], and of the objective


def lowered(model: Any, images: Any, labels: Any, solution: Solution) -> tuple[Network, Array, Index]:
    """The lowered network, pixels [inputs, images] and labels that a solution was made for.

    Raises:
        InvalidSolution: another model or other images than the certificate names.
    """
    held = stored_settings(solution.certificate).held
    network, pixels, classes = read(model, images, labels, held)
    if network.digest() != solution.certificate.model_hash:
        raise InvalidSolution("the solution was made for another network (model_hash differs); score this one")
    if images_digest(pixels, classes) != solution.certificate.images_hash:
        raise InvalidSolution("the solution was made for other images or labels (images_hash differs); score these")
    return network, pixels, classes


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
    settings, certificate = stored_settings(solution.certificate), solution.certificate
    if not certificate.bound <= certificate.objective + TOLERANCE * max(1.0, abs(certificate.objective)):
        raise InvalidSolution(
            f"the certificate is damaged (objective {certificate.objective}, bound {certificate.bound}); score again"
        )
    network, pixels, classes = lowered(model, images, labels, solution)
    require_fit(network, pixels, classes, settings)
    for name, values in stored_scores(network, solution).items():
        if not ((values >= -TOLERANCE) & (values <= 1 + TOLERANCE)).all():
            raise InvalidSolution(f"the scores of layer '{name}' are not all in [0, 1]; score again")
    if solution.proof is not None:
        _require_proof(network, len(classes), solution.proof)
    return reduce(network, pixels, classes, settings)


def stored_settings(certificate: Certificate) -> ScoreSettings:
    """The settings behind a certificate; raises InvalidSolution where they are damaged."""
    try:
        return ScoreSettings.from_dict(certificate.settings)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InvalidSolution(f"the settings in the certificate are damaged ({error}); score again") from error


def stored_scores(network: Network, solution: Solution) -> Scores:
    """The scores, one real number per unit of every scored layer; raises InvalidSolution for anything else."""
    given: Any = solution.scores
    if not isinstance(given, Mapping) or not set(given) <= set(network.units):
        raise InvalidSolution("the solution's scores are not those of the network's scored layers; score again")
    found = {}
    for name, units in network.units.items():
        try:
            values = np.asarray(given.get(name, ()))
        except ValueError:
            values = np.zeros(())  # ragged
        plain = np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)
        if values.shape != (units,) or not plain:
            raise InvalidSolution(f"the solution holds no {units} scores for layer '{name}'; score again")
        found[name] = values.astype(float)
    return found


def stored_lagrangian(reduction: Reduction, proof: Proof) -> Lagrangian:
    """What stored multipliers prove; raises InvalidSolution where they do not fit the program."""
    _require_proof(reduction.network, reduction.images, proof)
    try:
        return lagrangian(reduction, proof)
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise InvalidSolution(f"the proof is damaged ({error}); score again") from error


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
