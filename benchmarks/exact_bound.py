"""Bounds with outward rounding on the certified instances: how far below the float64 ones, and at what cost.

python -m benchmarks.exact_bound
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from formulation import ScoreSettings, prove_bound, score

INSTANCES = Path(__file__).resolve().parents[1] / "tests" / "formulation" / "instances"
ASKED = (("FC-3", 1), ("FC-3", 10), ("LeNet-5", 1))
HEAD = (
    "| instance | float64 bound | with outward rounding | difference | seconds (float64) | seconds (`exact`) |",
    "|---|---|---|---|---|---|",
)


def network(name: str) -> nn.Module:
    """The stored network of an instance, whose layers are named `model.<i>`."""
    dense = [nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)]
    conv = [
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ]  # fmt: skip
    made = nn.Sequential()
    made.add_module("model", nn.Sequential(*(dense if name == "FC-3" else conv)))
    made.load_state_dict(torch.load(INSTANCES / f"{stem(name)}_weights.pt", weights_only=True))
    return made.eval()


def stem(name: str) -> str:
    """What the instance's files begin with."""
    return f"mnist_{name.lower().replace('-', '')}"


def row(name: str, images: int) -> str:
    """The line of one instance."""
    with np.load(INSTANCES / f"{stem(name)}_images.npz") as stored:
        given = network(name), stored["images"][:images], stored["labels"][:images]
    settings = ScoreSettings(gate="published", radius=1e-5, loss_weight=5.0, layer_weight="kernel", gap=1e-7)
    solution = score(*given, settings)
    started = time.perf_counter()
    plain = prove_bound(*given, solution)
    between = time.perf_counter()
    exact = prove_bound(*given, solution, exact=True)
    seconds = between - started, time.perf_counter() - between
    figures = f"{plain:.12f} | {exact:.12f} | {plain - exact:.1e} | {seconds[0]:.2f} | {seconds[1]:.2f}"
    return f"| {name}, n={images} | {figures} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("\n".join([*HEAD, *(row(*each) for each in ASKED)]))
