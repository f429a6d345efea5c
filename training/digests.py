"""SHA-256 digests of named tensors, the identity that runs and certificates record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn


def digest_tensors(named: Iterable[tuple[str, Tensor | np.ndarray]]) -> str:
    """SHA-256 (hex) over each tensor's name, dtype, shape and bytes, in the order given."""
    sha = hashlib.sha256()
    for name, value in named:
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # Viewed as bytes because numpy knows no bfloat16.
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def model_digest(model: nn.Module) -> str:
    """SHA-256 (hex) of a model's state dict: sorted keys, dtype, shape and bytes; the device does not matter."""
    return state_digest(model.state_dict())


def tensors_digest(*tensors: Tensor) -> str:
    """SHA-256 (hex) of tensors in their order: dtype, shape and bytes."""
    return digest_tensors((str(place), tensor) for place, tensor in enumerate(tensors))


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of a state dict, as `model_digest` takes it."""
    return digest_tensors((key, state[key]) for key in sorted(state) if isinstance(state[key], Tensor))
