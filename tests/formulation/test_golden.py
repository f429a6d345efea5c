"""Oracle 8: the certified optima of two trained MNIST networks, found before by two independent methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formulation import ScoreSettings, Solution, check, score
from naming import CutForm

INSTANCES = Path(__file__).parent / "instances"
FC3, LENET5 = "mnist_fc3", "mnist_lenet5"
CERTIFIED = {(FC3, 1): -1.8626369, (FC3, 10): -1.4635903, (LENET5, 1): -1.9365758}


class Wrapped(nn.Module):
    """The stored state dicts name their layers `model.<i>`."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits


def instance(name: str, images: int) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    dense = [nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)]
    conv = [
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ]  # fmt: skip
    model = Wrapped(dense if name == FC3 else conv)
    model.load_state_dict(torch.load(INSTANCES / f"{name}_weights.pt", weights_only=True))
    with np.load(INSTANCES / f"{name}_images.npz") as stored:
        return model.eval(), stored["images"][:images], stored["labels"][:images]


def settings_at(gap: float, cuts: CutForm = "tangent") -> ScoreSettings:
    return ScoreSettings(loss_weight=5, radius=1e-5, gate="published", layer_weight="kernel", gap=gap, cuts=cuts)


@pytest.mark.parametrize("cuts", ["tangent", "lifted"])
@pytest.mark.parametrize(("name", "images"), CERTIFIED)
def test_the_certified_optimum_is_met_at_the_default_gap(name: str, images: int, cuts: CutForm) -> None:
    model, pixels, labels = instance(name, images)
    solution = score(model, pixels, labels, settings_at(1e-4, cuts))
    certificate, certified = solution.certificate, CERTIFIED[name, images]
    assert certificate.status == "optimal"
    assert certificate.checked
    assert certificate.gap <= 1e-4
    assert certificate.objective == pytest.approx(certified, abs=1e-4 * abs(certified))
    assert certificate.bound <= certified + 1e-7
    assert certificate.objective >= certified - 1e-7
    assert {layer: len(scores) for layer, scores in solution.scores.items()} == (
        {"model.1": 300, "model.3": 100}
        if name == FC3
        else {"model.0": 6, "model.3": 16, "model.7": 120, "model.9": 84}
    )


@pytest.mark.parametrize(("name", "images"), CERTIFIED)
def test_the_certified_optimum_is_met_to_seven_digits(name: str, images: int, tmp_path: Path) -> None:
    model, pixels, labels = instance(name, images)
    solution = score(model, pixels, labels, settings_at(1e-7))
    assert solution.certificate.gap <= 1e-7
    assert solution.certificate.objective == pytest.approx(CERTIFIED[name, images], abs=1e-6)
    verdict = check(model, pixels, labels, Solution.load(solution.save(tmp_path)))
    assert verdict.largest_residual <= 1e-6


def test_almost_nothing_of_lenet5_is_unstable() -> None:
    """The reduction's point: 7 of 46,840 ReLUs keep variables of their own on ten images."""
    model, pixels, labels = instance(LENET5, 10)
    certificate = score(model, pixels, labels, settings_at(1e-2)).certificate
    assert certificate.unstable == 7
    assert certificate.columns == 226 + 2 * 7
