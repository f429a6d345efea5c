"""`linear`: logits are expanded to first order in the units' gates; its optimum relaxes that of `pattern`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formulation import check, score
from formulation.relaxation.propagation import forward
from tests.formulation.cases import SMALL, Case
from tests.formulation.paper_settings import paper_settings
from tests.formulation.test_scoring import SETTINGS

DRAWS = 5


def expansion(case: Case, scores: dict[str, np.ndarray]) -> np.ndarray:
    """Logits at gate 1 and their derivatives along s - 1, by torch's forward-mode differentiation of gated layers."""
    model = case.model.double().eval()
    gated = {name: torch.as_tensor(values) for name, values in scores.items()}

    def logits(shift: Tensor) -> Tensor:
        hooks = []
        try:
            for name, values in gated.items():
                gate = 1 + shift * (values - 1)
                # a unit's incoming weights and bias by a gate >= 0 are its ReLU's output by that gate
                hooks.append(
                    model.get_submodule(name).register_forward_hook(
                        lambda _, __, y, gate=gate: y * gate.view(1, -1, *[1] * (y.ndim - 2))
                    )
                )
            return model(case.images.double())
        finally:
            for hook in hooks:
                hook.remove()

    made, slope = torch.autograd.functional.jvp(logits, torch.zeros(()).double(), torch.ones(()).double())
    return (made + slope).T.detach().numpy()


# behind a BatchNorm's shift a gate on the layer is none
WITHOUT_NORMS = sorted(
    name
    for name, make in SMALL.items()
    if not any(isinstance(batch, nn.BatchNorm1d | nn.BatchNorm2d) for batch in make(0).model.modules())
)


@pytest.mark.parametrize("name", WITHOUT_NORMS)
def test_logits_are_the_expansion_that_torch_differentiates(name: str) -> None:
    case = SMALL[name](3)
    reduction = case.reduction(paper_settings(gate="linear", radius=0))
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        point = rng.uniform(0, 1, reduction.columns)
        logits = np.concatenate([forward(reduction, batch, point).logits for batch in reduction.batches], axis=1)
        expected = expansion(case, reduction.network.unstack(point))
        np.testing.assert_allclose(logits, expected, atol=1e-9)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_its_optimum_is_at_most_that_of_pattern_and_is_checked_without_the_solver(name: str) -> None:
    case = SMALL[name](1)
    made, kept = (score(case.model, case.images, case.labels, SETTINGS[gate]) for gate in ("linear", "pattern"))
    assert made.certificate.objective <= kept.certificate.objective + 1e-6
    assert made.certificate.proved_bound == pytest.approx(made.certificate.objective, abs=1e-6)
    check(case.model, case.images, case.labels, made)
