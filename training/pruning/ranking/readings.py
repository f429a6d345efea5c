"""Readings of units: second moments of what a layer reads, and its weights as units go and come back.

With H = Z Z' + r I of all columns, C = Y Z' + r W, and K the kept columns, a reading holds P = H_KK^-1 and the weights
refitted to K, V = C_K P, both with zeros elsewhere. Its loss, but for a constant, is -tr(V C_K'); blocks of columns
leave and return by updates of P and V that cost as much as one product with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tracing import parts_called
from tracing.units import Reader
from training.errors import RefitError
from training.inference import weight_type
from training.pruning.dependencies import Links
from training.pruning.masks import output_width
from training.pruning.refit import Passes, stream_gram, weight_columns

TEMPERATURE = 2.0  # of the answers that errors are measured by
BATCH = 512  # images per backward pass
LEAST_WEIGHT = 1e-4  # of the mean weight: what an output counts at least
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


def readings_of(passes: Sequence[Passes], links: Links, weights: Mapping[str, Tensor] | None = None) -> list[Reading]:
    """Every group of every layer that reads a layer's units, as the network is: all units are there.

    Args:
        passes: of the network over unlabelled images.
        links: of the layer whose units are read.
        weights: F, how much the outputs of the reading layers count, [M, M] by layer; all alike by default.
    """
    return [each for reader in links.readers for each in _groups(passes, links.units, reader, weights)]


def answer_sensitivity(
    model: nn.Module, layers: Collection[str], images: Tensor, *, temperature: float = TEMPERATURE, seed: int = 0
) -> dict[str, Tensor]:
    """How much the outputs y of some layers, together, move the network's answers p = softmax(logits o / T).

    The mean over images and places of g g', with g = J' v, J = do / dy, and v drawn anew for every image with the
    covariance diag p - p p': the Fisher information of y, whose half bounds to second order how far the answers drift
    (Kullback-Leibler). Errors that the answers do not see count nothing, in whatever mixture of outputs they lie.

    Args:
        model: in evaluation mode, on the CPU.
        layers: by name.
        images: [n, C, H, W], unlabelled, on the CPU.
        temperature: T; a higher one counts confident images as well.
        seed: of the draws.

    Returns:
        By layer [M, M], float64; the identity where no output moves an answer, or torch does not follow how (behind
        `torch.no_grad` or `detach`): its outputs count alike.

    Raises:
        RefitError: torch cannot differentiate the answers.
    """
    widths = {name: output_width(model.get_submodule(name)) for name in layers}
    found = {name: torch.zeros(width, width).double() for name, width in widths.items()}
    drawn = torch.Generator().manual_seed(seed)
    for batch in torch.split(images, BATCH):
        try:
            slopes = _slopes(model, layers, batch, temperature, drawn)
        except RuntimeError as error:
            raise RefitError(
                f"the network's answers cannot be differentiated ({error}): let its forward write nothing over, or use "
                f"another rule"
            ) from error
        for name, slope in slopes.items():
            axis = 1 if isinstance(model.get_submodule(name), nn.Conv1d | nn.Conv2d) else -1
            flat = slope.double().movedim(axis, 0).flatten(1)
            found[name] = found[name] + flat @ flat.mT / flat.shape[1] * (len(batch) / len(images))
    return {name: each if bool(each.any()) else torch.eye(len(each)).double() for name, each in found.items()}


def _slopes(
    model: nn.Module, layers: Collection[str], batch: Tensor, temperature: float, drawn: torch.Generator
) -> dict[str, Tensor]:
    """J' v by layer, of the shape of its outputs; layers that torch does not lead the answers back to are left out."""
    emitted: dict[str, Tensor] = {}

    def note(name: str, made: Tensor) -> Tensor:
        emitted[name] = made
        return made.clone()  # what works in place behind the layer leaves what was noted

    with ExitStack() as hooks, torch.enable_grad(), parts_called(model):
        for name in layers:
            hook = model.get_submodule(name).register_forward_hook(lambda _, __, made, name=name: note(name, made))
            hooks.callback(hook.remove)
        given = batch.detach().to(weight_type(model)).requires_grad_()
        logits = model(given.clone())  # the forward may write over its images
        followed = {name: made for name, made in emitted.items() if made.requires_grad}
        if not followed or not logits.requires_grad:
            return {}
        probe = _probe(logits.detach(), temperature, drawn)
        slopes = torch.autograd.grad(logits, list(followed.values()), probe, allow_unused=True)
    return {name: slope for name, slope in zip(followed, slopes, strict=True) if slope is not None}


@contextmanager
def inverting(layer: str) -> Iterator[None]:
    """Say in a line, as a RefitError, where the moments of what is read of a layer's units cannot be inverted."""
    try:
        yield
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch re-exports it
        raise RefitError(
            f"what is read of layer {layer!r} cannot be fitted anew ({error}): give more images, or leave it alone"
        ) from error


def _probe(logits: Tensor, temperature: float, drawn: torch.Generator) -> Tensor:
    """A vector for each image whose mean is 0 and whose covariance is diag p - p p'."""
    answers = torch.softmax(logits / temperature, -1)
    scaled = answers.sqrt() * torch.randn(logits.shape, generator=drawn).to(logits)
    return scaled - answers * scaled.sum(-1, keepdim=True)


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
    passes: Sequence[Passes], units: int, reader: Reader, weights: Mapping[str, Tensor] | None
) -> list[Reading]:
    """The groups of one reading layer, each with the units that it reads."""
    module = passes[0].network.get_submodule(reader.layer)
    assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    gram, whole = stream_gram(passes, passes, reader.layer), weight_columns(module).double()
    groups, _, width = whole.shape
    if weights is not None:
        _require_finite(weights[reader.layer], reader.layer)
        whole = _roots(weights[reader.layer], groups) @ whole
    per_channel = 1 if isinstance(module, nn.Linear) else module.weight[0, 0].numel()
    channels = reader.offset + torch.arange(units)[:, None] * reader.span + torch.arange(reader.span)
    columns = (channels[:, :, None] * per_channel + torch.arange(per_channel)).flatten(1)
    found = []
    for group in range(groups):
        mine = {unit: own - group * width for unit, own in enumerate(columns) if int(own[0]) // width == group}
        h = gram.inner[group]
        if module.bias is not None:
            h = h - torch.outer(gram.inputs[group], gram.inputs[group]) / gram.count
        _require_finite(h, reader.layer)
        damping = DAMPING * (float(h.diagonal().mean()) or 1.0)
        h = h + damping * torch.eye(width, dtype=h.dtype)
        weight = whole[group].clone()
        variance = float(((weight @ h) * weight).sum())
        found.append(Reading(weight, torch.linalg.inv(h), h, weight @ h, damping, mine, variance))
    return [reading for reading in found if reading.columns]


def _require_finite(moments: Tensor, layer: str) -> None:
    if not bool(torch.isfinite(moments).all()):
        raise RefitError(f"layer {layer!r} reads or emits NaN or infinite values on these images: look at the images")


def _roots(weights: Tensor, groups: int) -> Tensor:
    """R with R' R = F + l I for the outputs of each group, [groups, M, M]; l = `LEAST_WEIGHT` of the mean weight."""
    size, least = len(weights) // groups, LEAST_WEIGHT * float(weights.diagonal().mean())
    own = torch.stack([weights[g * size : (g + 1) * size, g * size : (g + 1) * size] for g in range(groups)])
    roots: Tensor = torch.linalg.cholesky(own + least * torch.eye(size, dtype=own.dtype)).mT
    return roots
