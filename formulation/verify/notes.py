"""Notes of a certificate: what a reader must know before trusting the scores, written and checked at one place."""

from __future__ import annotations

import numpy as np

from formulation.network import Affine, Network
from formulation.score_settings import ScoreSettings

# Told of a relaxation that is all that a crash has left; by whom and how cannot be computed again.
SURVIVOR = "the relaxation of an integer program: "
TINY, HUGE = 1e-6, 1e6  # a layer's largest weight outside of these is worth a note


def notes_of(network: Network, settings: ScoreSettings, status: str, gap: float) -> tuple[str, ...]:
    """The notes that a certificate with this status and relative gap has to carry.

    Args:
        network: whose weights of extreme magnitude are noted.
        settings: of the call.
        status: of the certificate.
        gap: relative, of the certificate.
    """
    notes = []
    if settings.gate == "exact" and settings.relax:
        notes.append(
            "the relaxation of 'exact' is degenerate: nearly all scores fall to 0; asked for by allow_degenerate"
        )
    if network.differentiable is not None:
        notes.append(
            "the program is the network's first-order expansion around all scores 1, its derivatives by torch's "
            "autograd: bound and optimum are that program's"
        )
    if status != "optimal":
        notes.append(f"ended by {status} at a relative gap of {gap:.3g}: the scores are not proved optimal")
    extremes = magnitudes(network)
    return tuple(notes) if extremes is None else (*notes, extremes)


def magnitudes(network: Network) -> str | None:
    """What to say of layers whose weights are all tiny or partly huge: the solvers' tolerances are absolute."""
    found = []
    for node in network.nodes:
        if isinstance(node.op, Affine):
            weight = node.op.weight if isinstance(node.op.weight, np.ndarray) else node.op.weight.data
            largest = float(np.abs(weight).max(initial=0.0))
            if largest and not TINY <= largest <= HUGE:
                found.append(f"'{node.name}' up to {largest:.1e}")
    if not found:
        return None
    return (
        f"the weights span extreme magnitudes ({', '.join(found)}), solvers work to tolerances of about 1e-9; scale a "
        "unit's weights and bias by c > 0 and its outgoing weights by 1 / c, which changes no logit"
    )
