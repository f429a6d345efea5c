"""Readings of units: second moments of what a layer reads, and its weights as units go and come back.

With H = Z Z' + r I of all columns, C = Y Z' + r W, and K the kept columns, a reading holds P = H_KK^-1 and the weights
refitted to K, V = C_K P, both with zeros elsewhere. Its loss, but for a constant, is -tr(V C_K'); blocks of columns
leave and return by updates of P and V that cost as much as one product with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tracing.units import Reader
from training.errors import RefitError
from training.inference import weight_type
from training.pruning.dependencies import Links
from training.pruning.refit import stream_gram, weight_columns

BATCH = 512  # images per backward pass
DAMPING = 1e-5  # of the mean second moment: a ridge that keeps H invertible with fewer images than columns


@dataclass(frozen=True, eq=False)
class Reading:
    """One group of a layer that reads units; `weight` and `inverse` change as units leave and return.

    Attributes:
        weight: V, [M, K], zeros on columns that are gone.
        inverse: P, [K, K], zeros on columns that are gone.
        moments: H, [K, K].
        cross: C, [M, K].
        damping: r, what was added to the diagonal of the second moments.
        columns: each unit's columns, [width], by the unit's number.
        spread: sum of squares of the targets about their mean.
    """

    weight: Tensor
    inverse: Tensor
    moments: Tensor
    cross: Tensor
    damping: float
    columns: dict[int, Tensor]
    spread: float

    def copied(self) -> Reading:
        """The same with a weight and an inverse of its own."""
        parts = (self.weight.clone(), self.inverse.clone(), self.moments, self.cross, self.damping, self.columns)
        return Reading(*parts, self.spread)

    def of(self, units: Sequence[int]) -> Tensor:
        """The columns of units, [units, width]."""
        return torch.stack([self.columns[unit] for unit in units])


def readings_of(
    model: nn.Module, links: Links, images: Tensor, weights: Mapping[str, Tensor] | None = None
) -> list[Reading]:
    """Every group of every layer that reads a layer's units, as the network is: all units are there.

    Args:
        model: in evaluation mode.
        links: of the layer whose units are read.
        images: [n, C, H, W], unlabelled.
        weights: F, how much each output of the reading layers counts, [M] by layer; all alike by default.
    """
    return [each for reader in links.readers for each in _groups(model, links.units, reader, images, weights)]


def logit_sensitivity(model: nn.Module, layers: Collection[str], images: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """How much each output y_m of some layers moves the logits o: the mean over images and places of (v . do/dy_m)^2.

    v is drawn anew for every image from a standard normal distribution, whose mean is sum_c (do_c / dy_m)^2.

    Args:
        model: in evaluation mode.
        layers: by name.
        images: [n, C, H, W], unlabelled.
        seed: of the draws.

    Returns:
        By layer [M], float64, of mean 1.
    """
    sums = dict.fromkeys(layers, torch.zeros(()).double())
    drawn = torch.Generator().manual_seed(seed)
    kind = weight_type(model)
    for batch in torch.split(images, BATCH):
        emitted: dict[str, Tensor] = {}

        def note(name: str, made: Tensor, seen: dict[str, Tensor] = emitted) -> None:
            seen[name] = made

        hooks = [
            model.get_submodule(name).register_forward_hook(lambda _, __, made, name=name: note(name, made))
            for name in layers
        ]
        try:
            with torch.enable_grad():
                logits = model(batch.to(kind).requires_grad_())
                probe = torch.randn(logits.shape, generator=drawn).to(kind)
                slopes = torch.autograd.grad((logits * probe).sum(), list(emitted.values()))
        finally:
            for hook in hooks:
                hook.remove()
        for name, slope in zip(emitted, slopes, strict=True):
            axis = 1 if isinstance(model.get_submodule(name), nn.Conv1d | nn.Conv2d) else -1
            sums[name] = sums[name] + slope.double().movedim(axis, 0).flatten(1).square().sum(1)
    return {name: each / (each.mean() or 1.0) for name, each in sums.items()}


def removal_costs(reading: Reading, columns: Tensor) -> Tensor:
    """By how much the loss rises when each of some blocks goes, tr(V_B [P_BB]^-1 V_B'), for columns [units, width]."""
    own = torch.linalg.inv(reading.inverse[columns[:, :, None], columns[:, None, :]])
    outgoing = reading.weight[:, columns].permute(1, 0, 2)
    costs: Tensor = ((outgoing @ own) * outgoing).sum((1, 2))
    return costs


def return_gains(reading: Reading, columns: Tensor) -> Tensor:
    """By how much the loss falls when each of some removed blocks comes back, for their columns [units, width].

    tr(E S^-1 E'), with E = C_B - V H_KB and S = H_BB - H_BK P H_KB.
    """
    units, width = columns.shape
    flat = columns.flatten()
    seen = reading.moments[:, flat]
    across = (reading.inverse @ seen).reshape(-1, units, width)
    rest = (reading.cross[:, flat] - reading.weight @ seen).reshape(-1, units, width).permute(1, 0, 2)
    own = reading.moments[columns[:, :, None], columns[:, None, :]]
    left = own - torch.einsum("kuv,kuw->uvw", seen.reshape(-1, units, width), across)
    gains: Tensor = (torch.linalg.solve(left, rest.mT) * rest.mT).sum((1, 2))
    return gains


def drop(reading: Reading, columns: Tensor) -> None:
    """Take columns out of a reading, in place: the others' weights take over."""
    weight, inverse = reading.weight, reading.inverse
    rows = torch.linalg.solve(inverse[columns][:, columns], inverse[columns])
    weight -= weight[:, columns] @ rows
    inverse -= inverse[:, columns] @ rows
    weight[:, columns] = 0.0
    inverse[columns], inverse[:, columns] = 0.0, 0.0


def take_back(reading: Reading, columns: Tensor) -> None:
    """Put columns that are gone back into a reading, in place: all weights are fitted anew."""
    weight, inverse = reading.weight, reading.inverse
    seen = reading.moments[:, columns]
    across = inverse @ seen
    own = torch.linalg.inv(reading.moments[columns][:, columns] - seen.mT @ across)
    fresh = (reading.cross[:, columns] - weight @ seen) @ own
    weight -= fresh @ across.mT
    weight[:, columns] = fresh
    inverse += across @ own @ across.mT
    inverse[columns], inverse[:, columns] = -own @ across.mT, -across @ own
    inverse[columns[:, None], columns] = own


def _groups(
    model: nn.Module, units: int, reader: Reader, images: Tensor, weights: Mapping[str, Tensor] | None
) -> list[Reading]:
    """The groups of one reading layer, each with the units that it reads."""
    module = model.get_submodule(reader.layer)
    assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    gram, whole = stream_gram(model, model, reader.layer, images), weight_columns(module).double()
    groups, outputs, width = whole.shape
    if weights is not None:
        whole = whole * weights[reader.layer].sqrt().reshape(groups, outputs, 1)
    per_channel = 1 if isinstance(module, nn.Linear) else module.weight[0, 0].numel()
    channels = reader.offset + torch.arange(units)[:, None] * reader.span + torch.arange(reader.span)
    columns = (channels[:, :, None] * per_channel + torch.arange(per_channel)).flatten(1)
    found = []
    for group in range(groups):
        mine = {unit: own - group * width for unit, own in enumerate(columns) if int(own[0]) // width == group}
        h = gram.inner[group]
        if module.bias is not None:
            h = h - torch.outer(gram.inputs[group], gram.inputs[group]) / gram.count
        if not bool(torch.isfinite(h).all()):
            raise RefitError(f"layer {reader.layer!r} reads NaN or infinite values on these images: look at the images")
        damping = DAMPING * (float(h.diagonal().mean()) or 1.0)
        h = h + damping * torch.eye(width, dtype=h.dtype)
        weight = whole[group].clone()
        variance = float(((weight @ h) * weight).sum())
        found.append(Reading(weight, torch.linalg.inv(h), h, weight @ h, damping, mine, variance))
    return [reading for reading in found if reading.columns]
