"""Piecewise linear functions other than ReLU: lowered exactly; layers before them are gated where handed on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from formulation import InvalidModel, lower, score
from tests.formulation.lowering.test_lowering import assert_same, pictures, shaken
from tests.formulation.paper_settings import paper_settings
from training import compact, prune


class Clamped(nn.Module):
    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(x, self.low, self.high) if self.low is None else x.clamp(min=self.low, max=self.high)


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(F.leaky_relu(x, 0.2)) + F.hardtanh(x, -0.5, 2.0)


BENT = [
    *(nn.ReLU6(), nn.Hardtanh(), nn.Hardtanh(0.5, 4.0), nn.LeakyReLU(0.1), nn.LeakyReLU(-0.3), nn.PReLU(), nn.PReLU(4)),
    *(Clamped(-1.0, 2.0), Clamped(None, 0.3), Clamped(0.2, None), Functional(), nn.ReLU6(inplace=True)),
]


@pytest.mark.parametrize("function", BENT, ids=lambda each: f"{each}"[:30])
def test_a_bent_function_equals_the_module_and_its_layer_is_scored_unless_0_moves(function: nn.Module) -> None:
    layers = (nn.Conv2d(2, 4, 3), function, nn.Conv2d(4, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    model = nn.Sequential(*layers).double().eval()
    model(pictures(0, 2, 6, 6))
    network = assert_same(shaken(model, 1), 3 * pictures(0, 2, 6, 6))
    with torch.no_grad():
        moves = bool(function(torch.zeros(1, 4, 1, 1, dtype=torch.float64)).any())
    assert network.units == ({"2": 3} if moves else {"0": 4, "2": 3})
    assert list(network.unscored) == (["0"] if moves else [])


def test_the_reason_names_the_function_and_says_what_to_do() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Hardtanh(0.1, 1.0), nn.Linear(8, 3)).eval()
    with pytest.raises(InvalidModel, match=r"nothing to score: '1': '2' is no ReLU, .* with a ReLU there it is scored"):
        lower(model, pictures(0, 1, 4, 4))


@pytest.mark.parametrize("gate", ["published", "pattern", "exact"])
def test_scores_of_a_network_with_a_bent_function_are_checked(gate: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(9, 4), nn.ReLU6(), nn.Linear(4, 4), nn.ReLU(), nn.LeakyReLU(0.1), nn.Linear(4, 3))
    ).eval()
    images, labels = torch.rand(3, 1, 3, 3), torch.tensor([0, 1, 2])
    settings = paper_settings(gate=gate, radius=0.0, integer_scores=gate == "exact", relax=gate == "pattern")
    solution = score(model, images, labels, settings)
    assert solution.certificate.checked
    assert list(solution.scores) == ["1", "3"]


@pytest.mark.parametrize(
    "behind", [nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(), nn.PReLU(4), nn.Hardtanh(-1, 0.4), Clamped(-1.0, 0.5)]
)
def test_behind_a_gate_a_mask_is_the_masked_networks(behind: nn.Module) -> None:
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3), nn.ReLU(), behind, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    model = shaken(nn.Sequential(*layers), 3).double().eval()
    images, mask = pictures(2, 1, 4, 4), np.array([True, False, True, False])
    masked = prune(model, {"0": mask}, images)
    with torch.no_grad():
        expected = masked(images)
        torch.testing.assert_close(compact(model, {"0": mask}, images)(images), expected)
    network = lower(model, images)
    found = network.evaluate(images.flatten(1).numpy().T, {"0": mask.astype(float)})
    np.testing.assert_allclose(found.T, expected.numpy(), rtol=1e-9, atol=1e-9)
