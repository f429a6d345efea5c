"""Latency of a forward pass: warm, repeated, and interleaved where several models are compared."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from training.devices import find_device, torch_threads
from training.errors import FitSettingsError
from training.inference import evaluating, on_device, weight_type

WARM_UP = 3
FEWEST = 5


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass in evaluation mode: median and 95th percentile over `repeats` warm passes."""

    batch: int
    median: float
    p95: float
    repeats: int
    threads: int
    device: str


def measure_latency(
    model: nn.Module,
    input_shape: Sequence[int],
    batch: int,
    *,
    seconds: float = 1.0,
    threads: int = 1,
    device: str = "cpu",
) -> Latency:
    """The latency of one model for random batches [batch, *input_shape].

    Args:
        model, input_shape, batch, seconds, threads, device: as for `measure_latencies`.

    Raises:
        FitSettingsError, DeviceError: a value out of range, no such device.
    """
    return measure_latencies([model], input_shape, batch, seconds=seconds, threads=threads, device=device)[0]


def measure_latencies(
    models: Sequence[nn.Module],
    input_shape: Sequence[int],
    batch: int,
    *,
    seconds: float = 1.0,
    threads: int = 1,
    device: str = "cpu",
) -> tuple[Latency, ...]:
    """The latency of each model for random batches [batch, *input_shape], without gradients.

    The models take turns in random order, so that what else the machine does hits all alike; before each timed pass
    the same model runs once untimed. Rounds go on until `seconds` for each model are spent, at least five, after
    three that do not count.

    Args:
        models: left as they were.
        input_shape: of one image, (C, H, W).
        batch: images per pass.
        seconds: spent on each model.
        threads: of torch on the CPU.
        device: where the passes run.

    Returns:
        One latency per model, in their order.

    Raises:
        FitSettingsError, DeviceError: a value out of range, no such device.
    """
    check_measurement(batch, seconds)
    place = find_device(device)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, *input_shape, generator=generator)
    runs = []
    for model in models:
        placed = on_device(model, place)
        runs.append((placed, images.to(place, weight_type(placed))))
    with torch_threads(threads):
        taken = take_turns([partial(time_pass, placed, x) for placed, x in runs], seconds * len(models))
    return tuple(summarise_seconds(times, batch, threads, device) for times in taken)


def check_measurement(batch: int, seconds: float) -> None:
    """Raise SettingsError for a batch below 1 or negative seconds."""
    if batch < 1 or not 0 <= seconds < math.inf:
        raise FitSettingsError(f"batch={batch}, seconds={seconds}: needed are 1 or more images and 0 or more seconds")


def summarise_seconds(times: Sequence[float], batch: int, threads: int, device: str) -> Latency:
    """Median and 95th percentile (the next higher of the times measured) of seconds."""
    ordered = sorted(times)
    p95 = ordered[-(-95 * len(ordered) // 100) - 1]
    return Latency(batch, statistics.median(ordered), p95, len(ordered), threads, device)


def take_turns(passes: Sequence[Callable[[], float]], seconds: float) -> list[list[float]]:
    """What each pass returns, round after round, until the seconds are spent; the first rounds do not count."""
    for _ in range(WARM_UP):
        for each in passes:
            each()
    taken: list[list[float]] = [[] for _ in passes]
    generator = torch.Generator().manual_seed(0)
    end = time.perf_counter() + seconds
    while len(taken[0]) < FEWEST or time.perf_counter() < end:
        # In a new order each round: on a busy machine the scheduler's beat can fall on the same pass again and again.
        for turn in torch.randperm(len(passes), generator=generator).tolist():
            taken[turn].append(passes[turn]())
    return taken


def time_pass(model: nn.Module, images: Tensor) -> float:
    """The seconds of one forward pass, the device's work included."""
    with evaluating(model), torch.inference_mode():
        model(images)  # so that what other models left in the caches costs nothing
        _finish(images.device)
        start = time.perf_counter()
        model(images)
        _finish(images.device)
        return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
