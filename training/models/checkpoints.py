"""State dicts in files: written whole or not at all, read without running anything that they contain."""

from __future__ import annotations

import copy
import io
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training.errors import CheckpointError
from training.file_kinds import obstacle_at
from training.models.foreign_states import HOLDERS, SUFFIX, held_state, read_safetensors, renamed_to_fit
from training.models.plain_tensors import fault_in, unlike

NAMED = 3
# What reading a damaged or a foreign file may raise.
UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError),
    *(ImportError, ArithmeticError, AssertionError, MemoryError, struct.error, zlib.error, zipfile.BadZipFile),
)


def save_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Write the model's state dict, on the CPU; the file is there whole or not at all.

    Args:
        model: left as it was.
        path: of the file.
    """
    write_file({key: value.detach().cpu() for key, value in model.state_dict().items()}, path)


def write_file(content: object, path: str | Path) -> None:
    """Write what `read_file` reads; the file is there whole or not at all.

    Args:
        content: tensors and plain values, whatever torch.save can write.
        path: of the file.
    """
    target = Path(path)
    partial = target.with_name(f"{target.name}.partial")
    # Through memory: torch says of a full disk that a position is unexpected.
    saved = io.BytesIO()
    torch.save(content, saved)
    partial.write_bytes(saved.getbuffer())
    partial.replace(target)


def load_checkpoint(model: nn.Module, path: str | Path) -> nn.Module:
    """A copy of the model with the weights of a file.

    Args:
        model: left as it was.
        path: of a state dict or of a dict that holds one, see `tensors_of`, or of a .safetensors file. Its names may
            bear the prefix of a wrapper (`module.`, `_orig_mod.`, `model.`) that the model's do not.

    Raises:
        CheckpointError: the file is missing or unreadable, its keys or shapes do not fit the model (naming those
            missing, unexpected and misshaped), or it holds NaN or infinite values.
    """
    return load_state(model, tensors_of(read_file(path), path), path)


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    """A copy of the model with this state dict.

    Args:
        model: left as it was.
        state: tensors by key; a wrapper's prefix is taken off where the keys then are the model's.
        path: of the file that they are from, for the error.

    Raises:
        CheckpointError: keys, shapes or values that do not fit, as `load_checkpoint`.
    """
    wanted = model.state_dict()
    state = renamed_to_fit(state, wanted)
    _check_fit(wanted, state, path)
    for key, value in state.items():
        fault = unlike(value, wanted[key])
        if fault is not None:
            raise CheckpointError(f"checkpoint {path}: {key!r} {fault}; give a sound checkpoint")
    loaded = copy.deepcopy(model)
    loaded.load_state_dict(state)
    return loaded


def read_file(
    path: str | Path,
    *,
    what: str = "a state dict",
    remedy: str = "write it with torch.save(model.state_dict(), path)",
) -> object:
    """What torch.save wrote, or the tensors of a .safetensors file, on the CPU: tensors and plain values only.

    Args:
        path: of the file.
        what: the file should hold, for the error.
        remedy: what to do instead, for the error.

    Raises:
        CheckpointError: the file is missing, no file, truncated or holds code, or needs a package that is not
            installed.
    """
    obstacle = obstacle_at(Path(path))
    if obstacle is not None:
        raise CheckpointError(f"checkpoint {path} is {obstacle}: give the file of {what}")
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist: give the file of {what}")
    if Path(path).suffix == SUFFIX:
        return read_safetensors(path)
    try:
        _require_whole(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's on kinds of tensors that are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read as {what} ({type(error).__name__}): {remedy}"
        ) from error


def tensors_of(content: object, path: str | Path) -> dict[str, Tensor]:
    """The state dict that a file holds: alone, or in a dict under one of `foreign_states.HOLDERS`.

    Args:
        content: what `read_file` returned.
        path: of the file, for the error.

    Returns:
        Plain tensors by key: dense, real, each with all of its values in the file.

    Raises:
        CheckpointError: the content is no such state dict.
    """
    state = held_state(content, path)
    fault = fault_in(state) if isinstance(state, Mapping) and state else ""
    if fault is not None or not isinstance(state, Mapping):
        said = f" ({fault})" if fault else ""
        raise CheckpointError(
            f"checkpoint {path} holds no state dict{said}, neither alone nor as one of {', '.join(HOLDERS)}: write it "
            f"with torch.save(model.state_dict(), path)"
        )
    return dict(state)


def _require_whole(path: str | Path) -> None:
    """Raise BadZipFile for an archive whose files are packed, or are not those that its checksums were made of."""
    if not zipfile.is_zipfile(path):
        return  # torch's older format, which has none
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            # torch never packs: a few packed bytes could become any number of them.
            if entry.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile(f"{entry.filename} is packed")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


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
