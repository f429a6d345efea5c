"""In which numbers layers compute while they are trained."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def is_mixed(precision: str, device: torch.device) -> bool:
    """Whether layers compute in bfloat16 where that is safe; "auto" does on a card made for it, and nowhere else."""
    if precision == "auto" and device.type == "cuda":
        with torch.cuda.device(device):
            # Older cards emulate it, which is slower than float32.
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return precision == "mixed"


def layers_compute(device: torch.device, *, mixed: bool) -> AbstractContextManager[object]:
    """Inside the block layers compute in bfloat16 where that is safe, or as they always do; weights stay as they are.

    Made anew for every forward pass: inside, torch keeps the weights that it has rounded, whatever becomes of them.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16) if mixed else nullcontext()


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy (nats) of logits [n, classes]; of bfloat16 it is computed in float32."""
    return cross_entropy(logits.float() if logits.dtype == torch.bfloat16 else logits, labels)
