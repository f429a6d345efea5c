"""Devices and numbers of threads: both are parameters, never ambient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from training.errors import DeviceError, FitSettingsError

KINDS = ("cpu", "cuda", "mps")


def find_device(name: str) -> torch.device:
    """The torch device of this name ("cpu", "cuda", "cuda:1", "mps").

    Raises:
        DeviceError: the name is unknown, or the machine has no such device.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"device {name!r} is unknown: use one of {', '.join(KINDS)}, or cuda:<number>") from error
    if device.type not in KINDS:
        raise DeviceError(f"device {name!r} is not supported: use one of {', '.join(KINDS)}, or cuda:<number>")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise DeviceError(f"device {name!r} is not available: torch finds {found} CUDA devices; use device=cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"device {name!r} is not available on this machine; use device=cpu")
    return device


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads on the CPU inside the block, and as many as before after it.

    Raises:
        FitSettingsError: fewer than 1.
    """
    if threads < 1:
        raise FitSettingsError(f"threads={threads} is out of range: use 1 or more")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
