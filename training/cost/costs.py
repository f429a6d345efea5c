"""Costs of a network before and after removal: parameters, multiply-adds, bytes and seconds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.cost.latency import Latency, measure_latencies
from training.pruning import Masks, removal


@dataclass(frozen=True)
class Cost:
    """Parameters, multiply-adds for one image, bytes of the saved state dict, and latencies, one for each batch."""

    parameters: int
    multiply_adds: int
    file_bytes: int
    latencies: tuple[Latency, ...]


def costs(
    model: nn.Module,
    compacted: nn.Module,
    masks: Masks,
    example_input: Tensor,
    *,
    batches: Sequence[int] = (1, 64),
    seconds: float = 1.0,
    threads: int = 1,
    device: str = "cpu",
) -> tuple[Cost, Cost]:
    """The costs of a network before and after removal, their latencies measured in turns.

    Args:
        model: before removal.
        compacted: `compact(model, masks, example_input)`.
        masks: by layer, bool [units]: True = kept.
        example_input: [n, ...], gives the shapes.
        batches: images per timed pass, one latency each.
        seconds: spent on each model and batch.
        threads: of torch on the CPU.
        device: where the passes run.

    Returns:
        Parameters, multiply-adds per image, bytes and latencies: before, after.

    Raises:
        MaskError, UnsupportedGraph: the masks do not fit the model, or its units cannot be followed.
        FitSettingsError, DeviceError: a value out of range, no such device.
    """
    account = removal(model, masks, example_input)
    shape = example_input.shape[1:]
    measured = [
        measure_latencies([model, compacted], shape, batch, seconds=seconds, threads=threads, device=device)
        for batch in batches
    ]
    before, after = (tuple(pair[which] for pair in measured) for which in (0, 1))
    return (
        Cost(account.parameters_before, account.multiply_adds_before, state_bytes(model), before),
        Cost(account.parameters_after, account.multiply_adds_after, state_bytes(compacted), after),
    )


def state_bytes(model: nn.Module) -> int:
    """How many bytes a file of the model's state dict takes."""
    file = io.BytesIO()
    torch.save({key: value.detach().cpu() for key, value in model.state_dict().items()}, file)
    return file.tell()
