"""Masks (True = kept) and what removing a unit does to a model: it emits exactly 0 and nothing reads it."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tracing import WEIGHTED, Untraceable, is_followed, require_plain
from training.digests import digest_tensors
from training.errors import MaskError, UnsupportedGraph
from training.pruning.dependencies import Links, consumers

Masks = dict[str, NDArray[np.bool_]]
# Keys of the state dict -> bool tensor of that entry's shape, True = held at 0.
Zeros = dict[str, Tensor]
PREFIX = "mask/"


def validate_masks(model: nn.Module, masks: Mapping[str, NDArray[np.bool_]]) -> None:
    """Raise MaskError where masks do not fit a model.

    Args:
        model: whose layers are masked.
        masks: by layer, bool [units]: True = kept.

    Raises:
        MaskError: a key names no Linear or convolution, a mask is not one bool per unit, or a layer is emptied.
        UnsupportedGraph: a wrapper hides the layers, or their weights are computed; with the module to give instead.

    A layer whose units have several rows each, as attention heads do, may have a mask of fewer: `removed_entries` knows
    of how many.
    """
    try:
        require_plain(model)
    except Untraceable as error:
        raise UnsupportedGraph(str(error)) from error
    modules = dict(model.named_modules())
    for layer, mask in masks.items():
        module = modules.get(layer)
        if module is None or not makes_units(module):
            known = ", ".join(name for name, part in modules.items() if makes_units(part))
            raise MaskError(f"mask for {layer!r}: the model has no such Linear, Conv1d or Conv2d layer; it has {known}")
        units = module.num_heads if isinstance(module, nn.MultiheadAttention) else output_width(module)
        several = isinstance(mask, np.ndarray) and mask.ndim == 1 and len(mask) > 0 and units % len(mask) == 0
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or not several:
            array = isinstance(mask, np.ndarray)
            remedy = "" if array else ", as np.array(mask, dtype=bool) gives"
            raise _unfit(layer, mask, units, remedy)
        if not mask.any():
            raise MaskError(f"mask for {layer!r} removes all {len(mask)} units: at least one unit must stay")


def _unfit(layer: str, mask: object, units: int, remedy: str = "") -> MaskError:
    found = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
    return MaskError(f"mask for {layer!r} is {found}: one bool for each of its {units} units is needed{remedy}")


def losing_units(model: nn.Module, masks: Masks, example_input: Tensor) -> tuple[Masks, dict[str, Links]]:
    """The masks that remove units, and the links of their groups.

    Args:
        model: left as it was.
        masks: by layer, bool [units]: True = kept.
        example_input: [n, ...], gives the shapes.

    Raises:
        MaskError: the masks do not fit the model.
        UnsupportedGraph: a removed unit cannot be followed.
    """
    validate_masks(model, masks)
    modules = dict(model.named_modules())
    fewer = {layer for layer, mask in masks.items() if len(mask) != output_width(modules[layer])}
    losing = {layer: mask for layer, mask in masks.items() if not mask.all()}
    links = consumers(model, example_input, [layer for layer in masks if layer in losing or layer in fewer])
    for layer, link in links.items():
        if len(masks[layer]) != link.units:
            raise _unfit(layer, masks[layer], link.units)
    return losing, {layer: links[layer] for layer in losing}


def makes_units(module: nn.Module) -> bool:
    """Whether a module's outputs, or the heads of which it makes them, may be units of its own."""
    return isinstance(module, WEIGHTED) or is_followed(module)


def row_parameters(module: nn.Module) -> tuple[str, str]:
    """The names of the weight and of the bias whose first axis the units lie along."""
    return ("in_proj_weight", "in_proj_bias") if isinstance(module, nn.MultiheadAttention) else ("weight", "bias")


def output_width(module: nn.Module) -> int:
    """How many outputs a layer has; of attention, how many rows of queries, keys and values."""
    weight = getattr(module, row_parameters(module)[0])
    assert isinstance(weight, Tensor)
    return weight.shape[0]


def prune(model: nn.Module, masks: Masks, example_input: Tensor) -> nn.Module:
    """A copy of the model without the removed units, of the same shapes.

    A removed unit's incoming weights, bias, BatchNorm affine and running mean, and outgoing weights are 0, so it
    emits exactly 0 in training and evaluation mode.

    Args:
        model: left as it was.
        masks: by layer, bool [units]: True = kept.
        example_input: [n, ...], gives the shapes.

    Raises:
        MaskError: the masks do not fit the model.
        UnsupportedGraph: a removed unit cannot be followed.
    """
    zeros = removed_entries(model, masks, example_input)
    pruned = copy.deepcopy(model)
    hold_at_zero(pruned, zeros)
    return pruned


def removed_entries(model: nn.Module, masks: Masks, example_input: Tensor) -> Zeros:
    """Which entries of the state dict are 0 once the units are removed; only keys with such entries are listed.

    Args:
        model: left as it was.
        masks: by layer, bool [units]: True = kept.
        example_input: [n, ...], gives the shapes.

    Returns:
        By key of the state dict, bools of its shape: True = 0.

    Raises:
        MaskError: the masks do not fit the model.
        UnsupportedGraph: a removed unit cannot be followed.
    """
    losing, links = losing_units(model, masks, example_input)
    modules = dict(model.named_modules())
    zeros: Zeros = {}
    for layer, each in links.items():
        removed = torch.from_numpy(~losing[layer])
        _mark_incoming(zeros, modules, each, removed)
        _mark_outgoing(zeros, modules, each, removed)
    return zeros


def validate_zeros(model: nn.Module, zeros: Mapping[str, Tensor]) -> None:
    """Raise MaskError where entries to be held at 0 do not fit a model.

    Args:
        model: whose entries are held.
        zeros: by key of the state dict, bools of its shape.

    Raises:
        MaskError: a key names no entry of the state dict, or is not given one bool per number of it.
    """
    state = model.state_dict()
    for key, removed in zeros.items():
        if key not in state:
            raise MaskError(f"connections of {key!r}: the model has no such entry; it has {', '.join(state)}")
        if removed.dtype != torch.bool or removed.shape != state[key].shape:
            found, wanted = f"{removed.dtype} of shape {tuple(removed.shape)}", tuple(state[key].shape)
            raise MaskError(f"connections of {key!r} are {found}: bools of shape {wanted} are needed")


def joined_zeros(first: Zeros, second: Zeros) -> Zeros:
    """Entries that are held at 0 by either of two lists.

    Args:
        first, second: by key of the state dict, bools of its shape.
    """
    both = {key: first[key] | second[key] for key in first.keys() & second.keys()}
    return {**first, **second, **both}


def hold_at_zero(model: nn.Module, zeros: Zeros) -> None:
    """Set the listed entries of the model to exactly 0, in place.

    Args:
        model: is changed.
        zeros: by key of the state dict, bools of its shape: True = held at 0.
    """
    state = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for key, removed in zeros.items():
            # Not masked_fill_ of the gradient only: momentum and weight decay move a weight without a gradient.
            state[key].masked_fill_(removed.to(state[key].device), 0.0)


def _mark_incoming(zeros: Zeros, modules: Mapping[str, nn.Module], links: Links, removed: Tensor) -> None:
    for member in links.members:
        module = modules[member.layer]
        outputs = member.spread(removed, output_width(module))
        _mark_axis0(zeros, modules, member.layer, row_parameters(module), outputs)
    for norm in links.norms:
        # With a running mean of 0 the norm emits 0 for 0 even where it has no affine of its own.
        channels = norm.spread(removed, norm_width(modules[norm.layer]))
        _mark_axis0(zeros, modules, norm.layer, ("weight", "bias", "running_mean"), channels)


def norm_width(norm: nn.Module) -> int:
    """How many channels a BatchNorm has.

    Args:
        norm: of torch, or one of frozen statistics, which does not say.
    """
    # torch types every attribute of a module as a tensor or a module; a norm's width is a number.
    return int(getattr(norm, "num_features", None) or len(norm.running_mean))  # type: ignore[arg-type]


def _mark_axis0(
    zeros: Zeros, modules: Mapping[str, nn.Module], layer: str, names: tuple[str, ...], removed: Tensor
) -> None:
    for name in names:
        value = getattr(modules[layer], name)
        if value is not None:
            _entry(zeros, f"{layer}.{name}", value)[removed] = True


def _mark_outgoing(zeros: Zeros, modules: Mapping[str, nn.Module], links: Links, removed: Tensor) -> None:
    for reader in links.readers:
        module = modules[reader.layer]
        marks = _entry(zeros, f"{reader.layer}.weight", module.weight)
        groups = module.groups if isinstance(module, nn.Conv1d | nn.Conv2d) else 1
        columns = reader.spread(removed, marks.shape[1] * groups)
        # Group g reads its own stretch of the input channels: rows and columns both fall into `groups` blocks.
        for rows, part in zip(marks.chunk(groups, 0), columns.chunk(groups), strict=True):
            rows[:, part] = True


def _entry(zeros: Zeros, key: str, value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return zeros.setdefault(key, torch.zeros(value.shape, dtype=torch.bool))


def masks_digest(masks: Masks) -> str:
    """SHA-256 (hex) of the masks, whatever the order of their layers."""
    return digest_tensors((layer, masks[layer]) for layer in sorted(masks))


def save_masks(masks: Masks, path: str | Path) -> None:
    """Write the masks to an npz file, one bool array per layer name; the file is there whole or not at all.

    Args:
        masks: by layer, bool [units]: True = kept.
        path: of the file.
    """
    target = Path(path)
    partial = target.with_name(f"{target.name}.partial")
    with partial.open("wb") as file:
        # Under a prefix, because a layer may bear the name of one of numpy's own arguments.
        np.savez_compressed(file, allow_pickle=False, **{PREFIX + layer: mask for layer, mask in masks.items()})
    partial.replace(target)


def load_masks(path: str | Path) -> Masks:
    """The masks of an npz file, layers in the order they were saved.

    Raises:
        MaskError: the file is missing, unreadable, or holds anything but bool vectors.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            masks = {name.removeprefix(PREFIX): archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MaskError(f"masks {path} cannot be read ({error}): give a file written by save_masks") from error
    for layer, mask in masks.items():
        if mask.dtype != np.bool_ or mask.ndim != 1:
            raise MaskError(f"masks {path}: {layer!r} is {mask.dtype} of shape {mask.shape}, not a bool vector")
    return masks
