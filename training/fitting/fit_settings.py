"""Training settings: values, each in its range."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.errors import FitSettingsError

OPTIMISERS = ("adam", "sgd")
AUGMENTS = ("none", "flip_crop")
RATE_SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "float32", "mixed")


@dataclass(frozen=True)
class FitSettings:
    """How to train; `momentum` is used by sgd only, `threads` are torch's on the CPU, 0 epochs train nothing.

    - `augment`: "none", or "flip_crop", by which each image of a batch is mirrored and shifted at random, see
      `flip_crop`.
    - `rate_schedule`: "constant", or "cosine", by which step s of all S steps of the fit, counted from 0, has the rate
      learning_rate * (1 + cos(pi * s / S)) / 2.
    - `precision`: "float32", the weights' own arithmetic; "mixed", by which layers compute in bfloat16 where that is
      safe, while weights, sums and the loss stay as they are; "auto", which is mixed on a card that has bfloat16.

    Raises SettingsError where a value is out of range.
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    batch_size: int = 64
    optimiser: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    augment: str = "none"
    rate_schedule: str = "constant"
    precision: str = "float32"

    def __post_init__(self) -> None:
        ranges = {
            "epochs": (self.epochs >= 0, "0 or more"),
            "learning_rate": (0.0 < self.learning_rate < math.inf, "a finite value above 0"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "optimiser": (self.optimiser in OPTIMISERS, f"one of {', '.join(OPTIMISERS)}"),
            "momentum": (0.0 <= self.momentum < 1.0, "0 or more and below 1"),
            "weight_decay": (0.0 <= self.weight_decay < math.inf, "a finite value, 0 or more"),
            "seed": (self.seed >= 0, "0 or more"),
            "threads": (self.threads >= 1, "1 or more"),
            "augment": (self.augment in AUGMENTS, f"one of {', '.join(AUGMENTS)}"),
            "rate_schedule": (self.rate_schedule in RATE_SCHEDULES, f"one of {', '.join(RATE_SCHEDULES)}"),
            "precision": (self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
        }
        for name, (holds, wanted) in ranges.items():
            if not holds:
                raise FitSettingsError(f"{name}={getattr(self, name)!r} is out of range: use {wanted}")
