"""A compacted model in a file: what was kept, and a state dict; read without running anything that it contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.checkpoints import load_state, read_file, state_of, write_file
from training.digests import state_digest
from training.errors import CheckpointError, MaskError, ModelError, SettingsError, UnsupportedGraph
from training.inference import check_forward
from training.models import MODELS, build
from training.pruning.compaction import compact
from training.pruning.masks import Masks

VERSION = 1


@dataclass(frozen=True)
class CompactSpec:
    """What a compacted model is, in plain values that JSON can hold.

    `units` and `kept`: per masked layer how many units it had and which of them stay. `input_shape`: (C, H, W) of one
    image. `shapes` and `digest`: of the state dict. `model` and `classes`: a name for `build`, None where the
    architecture is somebody's own.
    """

    version: int
    model: str | None
    input_shape: list[int]
    classes: int
    units: dict[str, int]
    kept: dict[str, list[int]]
    shapes: dict[str, list[int]]
    digest: str


def save_compact(
    compacted: nn.Module, masks: Masks, input_shape: Sequence[int], path: str | Path, *, model: str | None = None
) -> CompactSpec:
    """Write `compact(model, masks, ...)` to a file: its spec and its state dict, whole or not at all.

    `torch.load(path, weights_only=True)` gives {"spec": {...}, "state_dict": {...}}. `input_shape` (C, H, W) is that
    of one image, `model` the name for `build`. Returns the spec.
    Raises MaskError where the masks are not those of the compacted model, ModelError where images do not fit it.
    """
    classes = check_forward(compacted, torch.zeros(1, *input_shape))
    state = {key: value.detach().cpu() for key, value in compacted.state_dict().items()}
    for layer, mask in masks.items():
        weight = state.get(f"{layer}.weight")  # a GroupwiseConv has none of its own
        if weight is not None and len(weight) != int(mask.sum()):
            raise MaskError(
                f"mask for {layer!r} keeps {int(mask.sum())} units, the compacted model has {len(weight)}: "
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
    )
    write_file({"spec": asdict(spec), "state_dict": state}, path)
    return spec


def load_compact(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The compacted model of a file of `save_compact`, in evaluation mode.

    `model`: the architecture before removal, whatever its weights; not needed where the spec names a built-in model.
    Raises CheckpointError where the file is missing, damaged or none of `save_compact`, where its spec and its state
    dict contradict each other, or where it does not fit the model.
    """
    content = read_file(path)
    spec, state = _read_spec(content, path), state_of(content, path)
    shapes = {key: list(value.shape) for key, value in state.items()}
    if shapes != spec.shapes or state_digest(state) != spec.digest:
        raise CheckpointError(f"{path} is damaged: its weights are not those that its spec records; save it again")
    model = _architecture(spec, path) if model is None else model
    try:
        compacted = compact(model, _masks(spec), torch.zeros(1, *spec.input_shape))
    except (MaskError, UnsupportedGraph) as error:
        raise CheckpointError(f"{path} does not fit model {type(model).__name__} ({error})") from error
    return load_state(compacted, state, path).eval()


def read_spec(path: str | Path) -> CompactSpec:
    """The spec of a file of `save_compact`; raises CheckpointError."""
    return _read_spec(read_file(path), path)


def _architecture(spec: CompactSpec, path: str | Path) -> nn.Module:
    if spec.model not in MODELS:
        # Not even where the name says how: a file of weights must not decide what code runs.
        raise CheckpointError(
            f"{path} holds {spec.model or 'a model without a name'}, which is not built in: "
            f"give load_compact the model before removal"
        )
    channels, height, width = spec.input_shape
    try:
        return build(spec.model, input_shape=(channels, height, width), classes=spec.classes, seed=0)
    except (ModelError, SettingsError) as error:
        raise CheckpointError(f"{path} asks for a model that cannot be built ({error}); save it again") from error


def _masks(spec: CompactSpec) -> Masks:
    masks: Masks = {}
    for layer, units in spec.units.items():
        masks[layer] = np.zeros(units, dtype=np.bool_)
        masks[layer][spec.kept[layer]] = True
    return masks


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
            and (spec.model not in MODELS or len(spec.input_shape) == 3)
            and all(isinstance(size, int) for size in (*spec.input_shape, spec.classes, *spec.units.values()))
            and all(
                kept and all(isinstance(unit, int) and 0 <= unit < spec.units[layer] for unit in kept)
                for layer, kept in spec.kept.items()
            )
        )
    except (TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise CheckpointError(f"{path}: its spec is not one of save_compact; save it again")
    return spec
