"""Simple rules that score units, all of one signature: what the program's scores are compared with.

Each takes the same Evidence and returns Scores, higher = keep. Scores of different rules are on different scales; only
the order of the units of a layer is meant to be compared, at equal counts (`by_counts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import SelectionError
from training.pruning.activations import Response, responses, weight_gradients
from training.pruning.channels import consumers
from training.pruning.selection import Scores, check_scores
from training.splits import Split


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a rule may look at.

    `images` [n, C, H, W] in [0, 1] with their `labels` [n]; `layers`, by name, whose units are scored; `seed` and
    `draw` of what is left to chance; `scores`, the program's, for rules about them; images per pass and the device.
    Raises SelectionError where a layer is missing or named twice or a number is out of range, DataError and LabelError
    where images or labels are wrong.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    layers: tuple[str, ...]
    seed: int = 0
    scores: Scores | None = None
    batch_size: int = 512
    device: str = "cpu"
    draw: int = 0

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise SelectionError(f"layers={self.layers}: name one layer or more, each once")
        if self.seed < 0 or self.draw < 0 or self.batch_size < 1:
            raise SelectionError(
                f"seed={self.seed}, draw={self.draw}, batch_size={self.batch_size}: use a seed and a draw of 0 or more "
                f"and a batch size of 1 or more"
            )
        # Checked once, here: a Split refuses what is no image and no label.
        Split(self.images, self.labels)

    @property
    def split(self) -> Split:
        """Images and labels as one value."""
        return Split(self.images, self.labels)


Rule = Callable[[Evidence], Scores]


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
    return _finite("critical", found)


def l1_norm(evidence: Evidence) -> Scores:
    """sum |w| over the incoming weights of the unit; its bias and BatchNorm are left out.

    Source: Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """
    return _finite("l1_norm", {layer: weight.abs().sum(1).numpy() for layer, weight in _weights(evidence).items()})


def l2_norm(evidence: Evidence) -> Scores:
    """sqrt(sum w^2) over the incoming weights of the unit; its bias and BatchNorm are left out."""
    return _finite("l2_norm", {layer: weight.norm(dim=1).numpy() for layer, weight in _weights(evidence).items()})


def mean_activation(evidence: Evidence) -> Scores:
    """mean_i mean_p a_ip: what the unit's ReLU emits, over images i and pixels p."""
    return _mean("mean_activation", evidence, lambda response: response.activation.mean(2), gradients=False)


def dead(evidence: Evidence) -> Scores:
    """The share of the images on which the unit fires, a_ip > 0 at any pixel p: 0 is dead on the set.

    Source: Hu, Peng, Tai, Tang, "Network Trimming", 2016, whose share counts every pixel for itself.
    """
    return _mean("dead", evidence, lambda response: (response.activation > 0).any(2).double(), gradients=False)


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

    Source: Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019.
    Departs from the paper: it scores single weights; a unit has the sum of its weights' sensitivities, and these are
    not divided by their sum over the network, which keeps the order.
    """
    _widths(evidence)  # refuses what is no layer with units
    pairs = weight_gradients(
        evidence.model, evidence.split, evidence.layers, batch_size=evidence.batch_size, device=evidence.device
    )
    found = {layer: (weight * slope).abs().flatten(1).sum(1).numpy() for layer, (weight, slope) in pairs.items()}
    return _finite("snip", found)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.__name__: rule
        for rule in (
            random, critical, l1_norm, l2_norm, mean_activation, dead, taylor, mean_taylor, squared_taylor, snip,
        )
    }
)  # fmt: skip
CHANCE = frozenset({"random"})


def draw_scores(name: str, evidence: Evidence, draws: int = 5) -> list[Scores]:
    """The rule's scores: `draws` of them where chance is involved, else one.

    Draw 3 is the same whether five or ten are asked for.
    Raises SelectionError where no rule has this name or `draws` is below 1, and what the rule raises.
    """
    if name not in RULES or draws < 1:
        raise SelectionError(f"rule {name!r} with draws={draws}: use 1 or more draws of one of {', '.join(RULES)}")
    numbers = range(draws) if name in CHANCE else range(1)
    return [RULES[name](replace(evidence, draw=evidence.draw + number)) for number in numbers]


def _widths(evidence: Evidence) -> dict[str, int]:
    links = consumers(evidence.model, evidence.images[:1], evidence.layers)
    return {layer: links[layer].units for layer in evidence.layers}


def _weights(evidence: Evidence) -> dict[str, Tensor]:
    """The incoming weights [units, all] of each layer, in float64."""
    _widths(evidence)  # refuses what is no layer with units
    parameters = dict(evidence.model.named_parameters())
    return {layer: parameters[f"{layer}.weight"].detach().flatten(1).double().cpu() for layer in evidence.layers}


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
    return _finite(name, {layer: (sums[layer] / len(evidence.images)).numpy() for layer in evidence.layers})


def _finite(name: str, scores: Mapping[str, NDArray[np.float64]]) -> Scores:
    """The scores; raises SelectionError that names rule, layer and unit where one is NaN or infinite."""
    try:
        check_scores(scores)
    except SelectionError as error:
        raise SelectionError(f"rule {name!r}: {error}") from error
    return dict(scores)
