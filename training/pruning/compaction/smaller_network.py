"""Removal made real: the same model with smaller layers, equal to the masked one."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from tracing import NORMS, WEIGHTED, FewerHeads
from training.errors import UnsupportedGraph
from training.inference import evaluating, weight_type
from training.pruning.accounting import input_width, kept_axes
from training.pruning.compaction.head_counts import count_heads, counted_heads
from training.pruning.compaction.layer_surgery import Axis, shrink
from training.pruning.dependencies import Links, consumers
from training.pruning.masks import Masks, norm_width, prune

IMAGES_COMPARED = 8
# Of the outputs' scale, in units of the weights' precision: roundings add up over layers, a wrong cut is far larger.
TOLERANCE = 1000
# What a forward may raise where a value has fewer units than it counts on.
MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError)


def compact(model: nn.Module, masks: Masks, example_input: Tensor) -> nn.Module:
    """A copy of the model without the removed units: smaller layers of the same kind under the same names.

    Equal to `prune(model, masks, example_input)` up to rounding, in either mode; it can be trained, exported and
    pickled, and has the parameters and multiply-adds of `removal(model, masks, example_input)`. The model's class
    and forward stay.

    Where every unit is needed in its place (before a sum, or where the forward counts on the old width, as
    `x.view(-1, 800)` does), the layer puts its units back among zeros and its readers pick theirs out. A grouped
    convolution whose groups keep unequal numbers becomes a `GroupwiseConv`: one convolution for each shape of group,
    its weights under `<layer>.parts.<k>`. Layers of these kinds cannot be masked again: remove more from the masked
    model and compact that.

    An attention layer of torch becomes `FewerHeads`, with narrower projections under the same names. Where attention is
    written by hand, the module that holds the projections may count the heads, or the width of all heads, in whole
    numbers of its own; the compacted one holds as few smaller numbers as it takes for the masked model's outputs, also
    on images of other sizes that the model takes. Where no numbers do, the projections put the heads that stay back in
    their places.

    Args:
        model: left as it was.
        masks: by layer, bool [units]: True = kept.
        example_input: [n, ...], gives the shapes.

    Raises:
        MaskError: the masks do not fit the model.
        UnsupportedGraph: a removed unit cannot be followed, or no such copy equals the masked model.
    """
    masked = prune(model, masks, example_input)
    masks = {layer: mask for layer, mask in masks.items() if not mask.all()}
    links = consumers(model, example_input, masks)
    images = [_drawn_like(model, example_input)]
    spread = {layer for layer in masks if links[layer].summed}
    several = {layer: counted_heads(masked, links[layer]) for layer in masks}
    counts: dict[str, set[str]] = {}
    fixed = {layer for layer in masks if isinstance(masked.get_submodule(layer), nn.MultiheadAttention)}
    if any(several.values()):
        images += _of_other_lengths(masked, images[0])
    closest = TOLERANCE * torch.finfo(weight_type(model)).eps

    def fits(cut: nn.Module) -> bool:
        found = _difference(masked, cut, images)
        return found is not None and found <= closest

    compacted = _cut(masked, masks, links, spread, counts)
    difference = _difference(masked, compacted, images)
    if difference is None or (any(several.values()) and not difference <= closest):
        # The forward counts on the width of some layer: of those that it cannot take alone, with some of its numbers.
        for layer in set(masks) - spread - fixed:
            others = set(masks) - fixed - {layer}
            ways = [
                chosen
                for size in range(len(several[layer]) + 1)
                for chosen in combinations(sorted(several[layer]), size)
            ]
            taken = next(
                (set(way) for way in ways if fits(_cut(masked, masks, links, others, {layer: set(way)}))), None
            )
            spread |= {layer} if taken is None else set()
            counts[layer] = taken or set()
        compacted = _cut(masked, masks, links, spread, counts)
    difference = _difference(masked, compacted, images)
    # Written so that a NaN is refused as well.
    if difference is None or not difference <= closest:
        found = (
            "its forward fails with fewer units" if difference is None else f"the outputs differ by {difference:.1e}"
        )
        raise UnsupportedGraph(
            f"model {type(model).__name__} cannot be compacted: {found} in {', '.join(masks)}; "
            f"take sizes from the tensors in its forward, or leave layers out of the masks"
        )
    return compacted


def _cut(
    masked: nn.Module,
    masks: Masks,
    links: Mapping[str, Links],
    spread: set[str],
    counts: Mapping[str, Collection[str]],
) -> nn.Module:
    """A copy of the masked model with every touched layer smaller; the layers in `spread` put their units back.

    `counts`: by layer whose units are cut, the attributes of the module around it that hold how many heads there are.
    """
    modules = dict(masked.named_modules())
    kept = kept_axes(modules, masks, links)
    present = kept_axes(modules, {layer: mask for layer, mask in masks.items() if layer not in spread}, links)
    smaller: dict[str, nn.Module] = {}
    for name in dict.fromkeys((*kept[0], *kept[1])):
        module = modules[name]
        if isinstance(module, nn.MultiheadAttention):
            smaller[name] = FewerHeads(module, torch.from_numpy(masks[name]))
            continue
        units, inputs = (
            Axis(axis.get(name, whole), there.get(name, whole))
            for axis, there, whole in zip(kept, present, _whole(module), strict=True)
        )
        if not isinstance(module, (*WEIGHTED, *NORMS)):
            units = Axis(units.present, units.present)  # a frozen norm picks nothing out: it keeps what arrives
        smaller[name] = shrink(module, units, inputs)
    compacted = copy.deepcopy(masked)
    _replace(compacted, smaller)
    for layer in masks:
        if layer not in spread:
            count_heads(compacted, links[layer], int(masks[layer].sum()), counts.get(layer, ()))
    return compacted


def _whole(module: nn.Module) -> tuple[Tensor, Tensor]:
    """All units and all inputs of a layer, as bool vectors."""
    if isinstance(module, WEIGHTED):
        widths = (module.weight.shape[0], input_width(module))
    else:
        widths = (norm_width(module), norm_width(module))
    return torch.ones(widths[0], dtype=torch.bool), torch.ones(widths[1], dtype=torch.bool)


def _replace(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put the layers into the model, under every name that the old ones have there."""
    by_identity = {id(model.get_submodule(name)): layer for name, layer in layers.items()}
    for name, child in list(model.named_modules(remove_duplicate=False)):
        if id(child) in by_identity:
            model.set_submodule(name, by_identity[id(child)])


def _drawn_like(model: nn.Module, example_input: Tensor) -> Tensor:
    """The example and images drawn from a fixed seed: an example of zeros would hide differences."""
    weight = next(model.parameters(), example_input)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(IMAGES_COMPARED, *example_input.shape[1:], generator=generator)
    return torch.cat([example_input[:1].cpu().to(drawn.dtype), drawn]).to(weight.device, weight_type(model))


def _of_other_lengths(masked: nn.Module, images: Tensor) -> list[Tensor]:
    """Images that are longer along one axis, or half as long, of those lengths that the masked network takes."""
    found = []
    for axis in range(1, images.ndim):
        length = images.shape[axis]
        for other in sorted({max(1, length // 2), length + 1, 2 * length} - {length}):
            longer = images.repeat([1 + (each == axis) * (other // length) for each in range(images.ndim)])
            some = longer.narrow(axis, 0, other)
            try:
                with evaluating(masked), torch.no_grad():
                    masked(some)
            except MISFITS:
                continue
            found.append(some)
    return found


def _difference(masked: nn.Module, compacted: nn.Module, images: Iterable[Tensor]) -> float | None:
    """The largest difference on any of some batches, None where the compacted forward fails on one."""
    worst = 0.0
    for some in images:
        found = _difference_on(masked, compacted, some)
        if found is None or math.isnan(found):
            return found
        worst = max(worst, found)
    return worst


def _difference_on(masked: nn.Module, compacted: nn.Module, images: Tensor) -> float | None:
    """The largest difference of the outputs relative to their scale, None where the compacted forward fails."""
    with evaluating(masked), evaluating(compacted), torch.no_grad():
        expected = masked(images)
        try:
            found = compacted(images)
        except MISFITS:
            return None
    pairs = list(zip(_tensors(expected), _tensors(found), strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return None
    return max(float((one - other).abs().max() / one.abs().max().clamp(min=1)) for one, other in pairs)


def _tensors(output: object) -> Iterable[Tensor]:
    """The tensors of what a forward returns, which may be nested."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
