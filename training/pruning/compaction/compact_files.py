"""A compacted model in a file: what was kept, and a state dict; read without running anything that it contains."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.digests import digest_tensors, state_digest
from training.errors import CheckpointError, FitSettingsError, MaskError, ModelError, UnsupportedGraph
from training.inference import check_forward, weight_type
from training.memory import lacking
from training.models import build, is_built_in, load_state, read_file, tensors_of, write_file
from training.pruning.compaction.layer_surgery import GroupwiseConv, Placed
from training.pruning.compaction.smaller_network import compact
from training.pruning.dependencies import consumers
from training.pruning.masks import Masks

VERSION = 2

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class CompactSpec:
    """What a compacted model is, in plain values that JSON can hold.

    `units` and `kept`: per masked layer how many units it had and which of them stay. `input_shape`: (C, H, W) of one
    image. `shapes` and `digest`: of the state dict, `dtype` (as `float32`) of its weights. `kept_digest`: of the masks
    and of which units the layers read and where they put theirs. `model` and `classes`: a name for `build`, with its
    width if it has one, None where the architecture is somebody's own.
    """

    version: int
    model: str | None
    input_shape: list[int]
    classes: int
    units: dict[str, int]
    kept: dict[str, list[int]]
    shapes: dict[str, list[int]]
    digest: str
    dtype: str
    kept_digest: str


def save_compact(
    compacted: nn.Module, masks: Masks, input_shape: Sequence[int], path: str | Path, *, model: str | None = None
) -> CompactSpec:
    """Write a compacted model to a file: its spec and its state dict, whole or not at all.

    `torch.load(path, weights_only=True)` gives {"spec": {...}, "state_dict": {...}}.

    Args:
        compacted: `compact(model, masks, ...)`.
        masks: by layer, bool [units before removal]: True = kept.
        input_shape: of one image, (C, H, W).
        path: of the file.
        model: the name for `build`, where it has one.

    Returns:
        The spec that was written.

    Raises:
        MaskError: the masks are not those of the compacted model.
        ModelError: images of this shape do not fit it.
    """
    example = torch.zeros(1, *input_shape, dtype=weight_type(compacted))
    classes = check_forward(compacted, example)
    state = {key: value.detach().cpu() for key, value in compacted.state_dict().items()}
    for layer, mask in masks.items():
        kept, found = int(mask.sum()), _units_left(compacted, layer, mask, example)
        if found is not None and found != kept:
            raise MaskError(
                f"mask for {layer!r} keeps {kept} units, the compacted model has {found}: "
                f"give the masks that it was compacted with"
            )
    spec = CompactSpec(
        version=VERSION,
        model=model,
        input_shape=list(input_shape),
        classes=classes,
        units={layer: len(mask) for layer, mask in masks.items()},
        kept={layer: np.flatnonzero(mask).tolist() for layer, mask in masks.items()},
        shapes={key: list(value.shape) for key, value in state.items()},
        digest=state_digest(state),
        dtype=str(weight_type(compacted)).removeprefix("torch."),
        kept_digest=_kept_digest(compacted, masks),
    )
    write_file({"spec": asdict(spec), "state_dict": state}, path)
    return spec


def load_compact(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The compacted model of a file of `save_compact`, in evaluation mode and in the precision that it was saved in.

    Args:
        path: of the file.
        model: the architecture before removal, whatever its weights; not needed where the spec names a built-in model.

    Raises:
        CheckpointError: the file is missing, damaged or none of `save_compact`; its spec and its state dict contradict
            each other (also where it was saved with masks of other units); it does not fit the model.
    """
    content = read_file(path)
    spec, state = _read_spec(content, path), tensors_of(content, path)
    shapes = {key: list(value.shape) for key, value in state.items()}
    if shapes != spec.shapes or state_digest(state) != spec.digest:
        raise CheckpointError(f"{path} is damaged: its weights are not those that its spec records; save it again")
    if any(value.is_floating_point() and str(value.dtype) != f"torch.{spec.dtype}" for value in state.values()):
        raise CheckpointError(f"{path} is damaged: its weights are not {spec.dtype} as its spec says; save it again")
    model = _architecture(spec, path) if model is None else copy.deepcopy(model)
    model, masks = model.to(getattr(torch, spec.dtype)), _masks(spec)
    try:
        compacted = compact(model, masks, torch.zeros(1, *spec.input_shape))
    except (MaskError, UnsupportedGraph) as error:
        raise CheckpointError(f"{path} does not fit model {type(model).__name__} ({error})") from error
    loaded = load_state(compacted, state, path)
    # The state dict says how many units a layer has, not which: other units would be read and placed without an error.
    if _kept_digest(loaded, masks) != spec.kept_digest:
        raise CheckpointError(
            f"{path} is damaged: the units kept are not those that were saved; save it again, with the masks that the "
            f"model was compacted with"
        )
    return loaded.eval()


def read_spec(path: str | Path) -> CompactSpec:
    """The spec of a file of `save_compact`; raises CheckpointError."""
    return _read_spec(read_file(path), path)


def _units_left(compacted: nn.Module, layer: str, mask: NDArray[np.bool_], example: Tensor) -> int | None:
    """How many units a layer of a compacted model has, if its mask is right; None where nothing says how many."""
    module, kept = dict(compacted.named_modules()).get(layer), int(mask.sum())
    if isinstance(module, nn.MultiheadAttention):
        return int(module.num_heads)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):  # a GroupwiseConv has none of its own
        return None
    width = len(weight)
    if width % kept:
        return width
    if width == kept:
        return kept
    # Units of several rows, as heads are: how many rows, the places of those that are gone say, or the units' way.
    if isinstance(module, Placed) and module.places is not None:
        rows, rest = divmod(len(module.places), len(mask))
        return width if rest or width % rows else width // rows
    try:
        return consumers(compacted, example, [layer])[layer].units
    except UnsupportedGraph:  # as of the one head that is left
        return kept


def _architecture(spec: CompactSpec, path: str | Path) -> nn.Module:
    if spec.model is None or not is_built_in(spec.model):
        # Not even where the name says how: a file of weights must not decide what code runs.
        raise CheckpointError(
            f"{path} holds {spec.model or 'a model without a name'}, which is not built in: "
            f"give load_compact the model before removal"
        )
    channels, height, width = spec.input_shape
    try:
        return build(spec.model, input_shape=(channels, height, width), classes=spec.classes, seed=0)
    except (ModelError, FitSettingsError) as error:
        raise CheckpointError(f"{path} asks for a model that cannot be built ({error}); save it again") from error


def _masks(spec: CompactSpec) -> Masks:
    masks: Masks = {}
    for layer, units in spec.units.items():
        masks[layer] = np.zeros(units, dtype=np.bool_)
        masks[layer][spec.kept[layer]] = True
    return masks


def _kept_digest(compacted: nn.Module, masks: Masks) -> str:
    """SHA-256 (hex) of the masks and of the places that units are read from and put to, none of it in a state dict."""
    named: list[tuple[str, Tensor | np.ndarray]] = [(f"mask/{layer}", masks[layer]) for layer in sorted(masks)]
    for name, module in sorted(compacted.named_modules()):
        if isinstance(module, Placed | GroupwiseConv):
            lying = {key: getattr(module, key, None) for key in ("reads", "places", "order")}
            named += [(f"{name}.{key}", index) for key, index in lying.items() if index is not None]
    return digest_tensors(named)


def _read_spec(content: object, path: str | Path) -> CompactSpec:
    found = content.get("spec") if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds no compacted model: write it with save_compact")
    if found.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {found.get('version')!r}, this program reads {VERSION}: save it again"
        )
    try:
        spec = CompactSpec(**found)
        sound = (
            set(spec.units) == set(spec.kept)
            and all(isinstance(layer, str) for layer in spec.units)
            and isinstance(spec.input_shape, list)
            and (not is_built_in(spec.model) or len(spec.input_shape) == 3)
            and getattr(torch, spec.dtype) in FLOATS
            and all(_is_size(size) for size in (*spec.input_shape, spec.classes, *spec.units.values()))
            and all(
                kept and all(type(unit) is int and 0 <= unit < spec.units[layer] for unit in kept)
                for layer, kept in spec.kept.items()
            )
            # An image, and a mark for each unit, are made before the weights say that the sizes are wrong.
            and lacking(8 * math.prod(spec.input_shape) + sum(spec.units.values())) is None
        )
    except (TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise CheckpointError(f"{path}: its spec is not one of save_compact; save it again")
    return spec


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0
