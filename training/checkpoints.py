"""State dicts in files: written whole or not at all, read without running anything that they contain."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training.errors import CheckpointError

NAMED = 3


def save_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Write the model's state dict, on the CPU, to `path`; a file is there whole or not at all."""
    write_file({key: value.detach().cpu() for key, value in model.state_dict().items()}, path)


def write_file(content: object, path: str | Path) -> None:
    """Write what torch.save can write and `read_file` reads; the file is there whole or not at all."""
    target = Path(path)
    partial = target.with_name(f"{target.name}.partial")
    # Through memory: torch says of a full disk that a position is unexpected.
    saved = io.BytesIO()
    torch.save(content, saved)
    partial.write_bytes(saved.getbuffer())
    partial.replace(target)


def load_checkpoint(model: nn.Module, path: str | Path) -> nn.Module:
    """A copy of the model with the weights of the file: a state dict, or a dict that holds one as "state_dict".

    Raises CheckpointError where the file is missing or unreadable, its keys or shapes do not fit the model
    (naming those missing, unexpected and misshaped), or it holds NaN or infinite values.
    """
    return load_state(model, state_of(read_file(path), path), path)


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    """A copy of the model with this state dict; raises CheckpointError as `load_checkpoint` does, naming the path."""
    _check_fit(model.state_dict(), state, path)
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"checkpoint {path}: {key!r} holds NaN or infinite values; give a sound checkpoint")
    loaded = copy.deepcopy(model)
    loaded.load_state_dict(state)
    return loaded


def read_file(
    path: str | Path,
    *,
    what: str = "a state dict",
    remedy: str = "write it with torch.save(model.state_dict(), path)",
) -> object:
    """What torch.save wrote, on the CPU, tensors and plain values only.

    Raises CheckpointError, which says what the file should hold and what to do.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist: give the file of {what}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read as {what} ({type(error).__name__}): {remedy}"
        ) from error


def state_of(content: object, path: str | Path) -> dict[str, Tensor]:
    """The state dict that a file holds, alone or as "state_dict" of a dict; raises CheckpointError."""
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"checkpoint {path} holds no state dict: write it with torch.save(model.state_dict(), path)"
        )
    return dict(state)


def _check_fit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path) -> None:
    shapes = [
        f"{key} {list(found[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    differences = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "misshaped": shapes,
    }
    said = [f"{word}: {_enumerate(keys)}" for word, keys in differences.items() if keys]
    if said:
        raise CheckpointError(f"checkpoint {path} does not fit the model ({'; '.join(said)}): give one of this model")


def _enumerate(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
