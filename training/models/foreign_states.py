"""State dicts as other programs write them: inside a dict, under names with a wrapper's prefix, as safetensors."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from training.errors import CheckpointError

SUFFIX = ".safetensors"
# The names under which training scripts keep the network's weights beside the optimiser's, the epoch and the like.
HOLDERS = ("state_dict", "model_state_dict", "model", "model_state", "network", "net", "weights")
# Parts of names: of DataParallel, of torch.compile, of a class that holds the network as its `model`.
WRAPPERS = ("module", "_orig_mod", "model")
ACCURACY = re.compile(r"acc(uracy)?\d*$|(^|_)(acc|accuracy|top1)(_|$)")  # names under which scripts keep it
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside the network under `module`


def held_state(content: object, path: str | Path) -> object:
    """The state dict inside what a file holds: the content itself, or what it has under the name of a holder.

    Args:
        content: of the file.
        path: of the file, for the error.

    Raises:
        CheckpointError: two holders' names lead to a dict each, so that either could be meant.
    """
    while isinstance(content, Mapping):
        held = [name for name in HOLDERS if isinstance(content.get(name), Mapping)]
        if len(held) > 1:
            raise CheckpointError(
                f"checkpoint {path} holds several state dicts ({', '.join(held)}): save the network's alone with "
                f"torch.save(content[{held[0]!r}], path)"
            )
        if not held:
            return content
        content = content[held[0]]
    return content


def accuracy_said(content: object) -> float | None:
    """The accuracy that a training script wrote beside the weights, as a part of 1: the largest, None without one.

    Args:
        content: of the file.
    """
    if not isinstance(content, Mapping):
        return None
    found = [
        float(value)
        for name, value in content.items()
        if isinstance(name, str) and ACCURACY.search(name.lower()) and _is_number(value)
    ]
    return max((value / 100 if value > 1 else value for value in found if 0 < value <= 100), default=None)


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, int | float) and not isinstance(value, bool)


def renamed_to_fit(state: Mapping[str, Tensor], wanted: Collection[str]) -> Mapping[str, Tensor]:
    """The state under names without a wrapper's prefix, where without it they are exactly those wanted; else as it is.

    Args:
        state: tensors by name.
        wanted: the names in the model's own state dict.
    """
    if set(state) == set(wanted):
        return state
    averaged = {name: value for name, value in state.items() if name != COUNTER}
    for bare in (_without_first, _without_any, _without_common(averaged)):
        names = _stripped(list(averaged), set(wanted), bare)
        if names is not None:
            return dict(zip(names, averaged.values(), strict=True))
    return state


def _stripped(names: list[str], wanted: set[str], bare: Callable[[str], str]) -> list[str] | None:
    """The names after as many steps as it takes to have those wanted; None where no step leads there."""
    while (shorter := [bare(name) for name in names]) != names:
        names = shorter
        if set(names) == wanted and len(wanted) == len(names):
            return names
    return None


def _without_first(name: str) -> str:
    first, dot, rest = name.partition(".")
    return rest if dot and first in WRAPPERS else name


def _without_common(names: Collection[str]) -> Callable[[str], str]:
    """Without the first part that all names share: the attribute under which somebody's class holds the network."""
    firsts = {name.partition(".")[0] for name in names}
    return lambda name: name.partition(".")[2] if len(firsts) == 1 and name.partition(".")[0] in firsts else name


def _without_any(name: str) -> str:
    """Without torch.compile's and DataParallel's parts wherever they are: layers inside may be wrapped too."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS[:2])


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, by name, on the CPU.

    Args:
        path: of the file, which is there.

    Raises:
        CheckpointError: the package safetensors is not installed, or cannot read the file.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise CheckpointError(
            f"checkpoint {path} needs the package safetensors, which is not installed: pip install safetensors"
        )
    package: Any = importlib.import_module("safetensors")
    reading: Any = importlib.import_module("safetensors.torch")
    try:
        return dict(reading.load_file(path, device="cpu"))
    except (package.SafetensorError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read as safetensors ({type(error).__name__}): write it with "
            f"safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
