"""Simple rules that score units, all of one signature: what the program's scores are compared with.

Each takes the same Evidence and returns Scores, higher = keep. Scores of different rules are on different scales; only
the order of the units of a layer is meant to be compared, at equal counts (`by_counts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import SelectionError
from training.pruning.dependencies import Links, consumers
from training.pruning.masks import makes_units, row_parameters
from training.pruning.ranking.activations import Response, responses, weight_gradients
from training.pruning.ranking.evidence import Evidence
from training.pruning.selection import Scores, check_scores


def random(evidence: Evidence) -> Scores:
    """A uniform draw in [0, 1) per unit, from the seed and the number of the draw.

    The units removed at any count are then drawn without replacement, and those of a smaller count are among those of
    a larger one.
    """
    rng = np.random.default_rng([evidence.seed, evidence.draw])
    return {layer: rng.random(width) for layer, width in _widths(evidence).items()}


def critical(evidence: Evidence) -> Scores:
    """-s: the program's scores turned round, so that the highest goes first.

    Raises SelectionError where the evidence has no scores of a layer or not one per unit.
    """
    found = {}
    for layer, width in _widths(evidence).items():
        scores = (evidence.scores or {}).get(layer)
        if scores is None or scores.shape != (width,):
            what = "none" if scores is None else f"of shape {scores.shape}"
            raise SelectionError(f"scores of {layer!r} are {what}: rule 'critical' needs one for each of {width} units")
        found[layer] = -scores.astype(np.float64)
    return checked("critical", found)


def l1_norm(evidence: Evidence) -> Scores:
    """sum |w| over the incoming weights of the unit in all layers that make it; biases and BatchNorm are left out.

    Source: Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """
    return checked("l1_norm", {layer: weight.abs().sum(1).numpy() for layer, weight in _weights(evidence).items()})


def l2_norm(evidence: Evidence) -> Scores:
    """sqrt(sum w^2) over the incoming weights of the unit in all layers that make it; no bias, no BatchNorm."""
    return checked("l2_norm", {layer: weight.norm(dim=1).numpy() for layer, weight in _weights(evidence).items()})


def mean_activation(evidence: Evidence) -> Scores:
    """mean_i mean_p |a_ip|: what the unit's ReLU emits, or what a group hands on, over images i and pixels p."""
    return _mean("mean_activation", evidence, lambda response: response.activation.abs().mean(2), gradients=False)


def dead(evidence: Evidence) -> Scores:
    """The share of the images on which the unit fires, a_ip != 0 at any pixel p: 0 is dead on the set.

    Source: Hu, Peng, Tai, Tang, "Network Trimming", 2016, whose share counts every pixel for itself.
    """
    return _mean("dead", evidence, lambda response: (response.activation != 0).any(2).double(), gradients=False)


def taylor(evidence: Evidence) -> Scores:
    """mean_i |mean_p a_ip g_ip|, g_ip the gradient of image i's cross-entropy with respect to a_ip.

    Source: Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient
    Inference", ICLR 2017, equation 8, for each image by itself and then averaged, as there.
    Departs from the paper: not divided by the layer's l2 norm, which keeps the order of a layer's units.
    """
    return _mean("taylor", evidence, lambda response: _first_order(response, torch.mean).abs())


def mean_taylor(evidence: Evidence) -> Scores:
    """|mean_i sum_p a_ip g_ip|: the first-order change of the mean cross-entropy once the unit emits 0.

    As `taylor`, but changes of opposite sign cancel between images.
    """
    found = _mean("mean_taylor", evidence, lambda response: _first_order(response, torch.sum))
    return {layer: np.abs(values) for layer, values in found.items()}


def squared_taylor(evidence: Evidence) -> Scores:
    """mean_i (sum_p a_ip g_ip)^2.

    Source: Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR 2019, with
    a gate behind each ReLU.
    """
    return _mean("squared_taylor", evidence, lambda response: _first_order(response, torch.sum).square())


def snip(evidence: Evidence) -> Scores:
    """sum |w dL/dw| over the incoming weights w of the unit, L the mean cross-entropy over the images; no bias.

    The weights are those of all layers that make the unit.

    Source: Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019.
    Departs from the paper: it scores single weights; a unit has the sum of its weights' sensitivities, and these are
    not divided by their sum over the network, which keeps the order.
    """
    links = _links(evidence)  # refuses what is no group of units
    members = tuple(dict.fromkeys(member.layer for link in links.values() for member in link.members))
    pairs = weight_gradients(
        evidence.model, evidence.split, members, batch_size=evidence.batch_size, device=evidence.device
    )
    sensitivity = {layer: (weight * slope).abs() for layer, (weight, slope) in pairs.items()}
    return checked("snip", {layer: _rows(link, sensitivity).sum(1).numpy() for layer, link in links.items()})


def _links(evidence: Evidence) -> dict[str, Links]:
    return consumers(evidence.model, evidence.images[:1], evidence.layers)


def _widths(evidence: Evidence) -> dict[str, int]:
    return {layer: link.units for layer, link in _links(evidence).items()}


def _weights(evidence: Evidence) -> dict[str, Tensor]:
    """The incoming weights [units, all] of each group, in float64."""
    weights = {
        name: getattr(part, row_parameters(part)[0]).detach().double().cpu()
        for name, part in evidence.model.named_modules()
        if makes_units(part)
    }
    return {layer: _rows(link, weights) for layer, link in _links(evidence).items()}


def _rows(link: Links, by_layer: Mapping[str, Tensor]) -> Tensor:
    """The numbers that a group's units have in weights, in all layers that make them: [units, all]."""
    parts = [
        by_layer[member.layer].flatten(1).narrow(0, member.offset, link.units * member.span).reshape(link.units, -1)
        for member in link.members
    ]
    return torch.cat(parts, 1)


def _first_order(response: Response, over_pixels: Callable[..., Tensor]) -> Tensor:
    return over_pixels(response.activation * response.gradient, dim=2)


def _mean(name: str, evidence: Evidence, amount: Callable[[Response], Tensor], *, gradients: bool = True) -> Scores:
    """The mean over the images of an amount [n, units] of each response."""
    sums: dict[str, Tensor] = {}
    batches = responses(
        evidence.model,
        evidence.split,
        evidence.layers,
        batch_size=evidence.batch_size,
        device=evidence.device,
        gradients=gradients,
    )
    for batch in batches:
        for layer, response in batch.items():
            part = amount(response).sum(0)
            sums[layer] = sums[layer] + part if layer in sums else part
    return checked(name, {layer: (sums[layer] / len(evidence.images)).numpy() for layer in evidence.layers})


def checked(name: str, scores: Mapping[str, NDArray[np.float64]]) -> Scores:
    """The scores; raises SelectionError that names rule, layer and unit where one is NaN or infinite."""
    try:
        check_scores(scores)
    except SelectionError as error:
        raise SelectionError(f"rule {name!r}: {error}") from error
    return dict(scores)
