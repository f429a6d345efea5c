"""A stored solution read again: what of it is damaged, and the program that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from formulation.duality import Lagrangian, exact_bound, lagrangian
from formulation.errors import InvalidSolution
from formulation.network import Array, Labels, MaxPool, Network, Relu, Scores, with_relu_gates
from formulation.relaxation import Reduction, reduce
from formulation.score_settings import ScoreSettings
from formulation.scoring_data import images_digest, read_program_data, require_fit
from formulation.solution import Certificate, DualBound, Solution
from naming import FIRST_ORDER, ScoreLoss

TOLERANCE = 1e-6  # by which a score may leave [0, 1], and of the objective


def lowered(model: Any, images: Any, labels: Any, solution: Solution) -> tuple[Network, Array, Labels]:
    """The lowered network, pixels and labels that a solution was made for.

    Args:
        model, images, labels: as `score` was given them.
        solution: whose certificate names them by their digests.

    Returns:
        The network, pixels [inputs, images] and labels [images], or targets [images, outputs].

    Raises:
        InvalidSolution: another model or other images than the certificate names.
    """
    asked = stored_settings(solution.certificate)
    network, pixels, classes = read_program_data(model, images, labels, asked)
    if network.digest() != solution.certificate.model_hash:
        raise InvalidSolution("the solution was made for another network (model_hash differs); score this one")
    if images_digest(pixels, classes) != solution.certificate.images_hash:
        raise InvalidSolution(
            "the solution was made for other images or labels, or in another order (images_hash differs); score these, "
            "and give a DataLoader that does not shuffle"
        )
    return network, pixels, classes


def stored_reduction(model: Any, images: Any, labels: Any, solution: Solution) -> Reduction:
    """The scoring set of a solution in score space.

    Args:
        model, images, labels: as `score` was given them.
        solution: of `score`, perhaps stored and altered since.

    Raises:
        InvalidSolution: no solution, one for another model or other images, or one whose settings, scores or
            duals are damaged; before the program is reduced.
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
    if solution.dual_bound is not None:
        # A cut's node is counted in the network of the reduced program.
        reduced = network if settings.gate in FIRST_ORDER else with_relu_gates(network)
        _require_dual_bound(reduced, len(classes), solution.dual_bound, settings.loss)
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


def stored_lagrangian(reduction: Reduction, dual_bound: DualBound) -> Lagrangian:
    """The Lagrangian of stored duals, and the bound that they prove.

    Args:
        reduction: the scoring set in score space.
        dual_bound: as it was stored, perhaps altered.

    Raises:
        InvalidSolution: the duals do not fit the program.
    """
    _require_dual_bound(reduction.network, reduction.images, dual_bound, reduction.settings.loss)
    try:
        return lagrangian(reduction, dual_bound)
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise InvalidSolution(f"the dual bound is damaged ({error}); score again") from error


def stored_exact_bound(reduction: Reduction, dual_bound: DualBound) -> float:
    """What stored duals prove with outward rounding; raises InvalidSolution where they do not fit the program."""
    _require_dual_bound(reduction.network, reduction.images, dual_bound, reduction.settings.loss)
    try:
        return exact_bound(reduction, dual_bound)
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise InvalidSolution(f"the dual bound is damaged ({error}); score again") from error


def _require_dual_bound(network: Network, images: int, dual_bound: DualBound, loss: ScoreLoss) -> None:
    """Raise InvalidSolution for duals of another form; what is left of it shows where they are used."""
    try:
        count = len(dual_bound.cut_duals)
        shapes = (
            dual_bound.probabilities.shape,
            dual_bound.layers.shape,
            dual_bound.cuts.shape,
            dual_bound.cut_duals.shape,
        )
        fit = shapes == ((network.classes, images), (len(network.layers),), (count, 3), (count,))
        fit = fit and np.issubdtype(dual_bound.cuts.dtype, np.integer) and bool((dual_bound.cuts >= 0).all())
        fit = fit and bool((dual_bound.cuts[:, [0, 2]] < (len(network.nodes), images)).all())
        numbers = (dual_bound.probabilities, dual_bound.layers, dual_bound.cut_duals, *dual_bound.unstable.values())
        fit = fit and all(bool(np.isfinite(values).all()) for values in numbers)
        if loss == "cross_entropy":
            fit = fit and bool((np.clip(dual_bound.probabilities, 0.0, None).sum(axis=0) > 0).all())
    except (TypeError, AttributeError, ValueError, IndexError):
        fit = False
    if not fit:
        raise InvalidSolution("the dual bound is damaged (its arrays do not fit network and images); score again")
    for position in np.unique(dual_bound.cuts[:, 0]):
        node = network.nodes[position]
        if not isinstance(node.op, (Relu, MaxPool)):
            raise InvalidSolution(
                f"the dual bound is damaged (cuts of '{node.name}', {type(node.op).__name__}: only ReLUs and max-pools "
                "have cuts); score again"
            )
