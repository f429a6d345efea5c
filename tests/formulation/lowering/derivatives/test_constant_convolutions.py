"""Convolutions with constant weights in a network: what reads them may write over them, whatever way they go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from formulation.lowering import differentiable
from formulation.lowering.derivatives import convolution_products as ways


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm2d])
@pytest.mark.parametrize("moved", [0, 10**6])
@pytest.mark.parametrize("groups", [1, 4])
def test_what_reads_a_convolution_may_write_over_it(
    monkeypatch: pytest.MonkeyPatch, bias: bool, norm: type[nn.Module], moved: int, groups: int
) -> None:
    monkeypatch.setattr(ways, "MOVED", moved)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1, bias=bias), norm(4), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=bias), norm(4), nn.Hardswish(inplace=True)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(100, 3)).double().eval()
    images = torch.rand(5, 1, 5, 5, dtype=torch.float64)
    whole = differentiable(model, images).differentiable
    assert whole is not None
    pixels, step = images.flatten(1).numpy().T, np.linspace(-1, 1, whole.passes.size)
    logits, jacobian = whole.passes.jacobian(pixels)
    np.testing.assert_allclose(logits.T, model(images).detach(), atol=1e-12)
    again, pulled = whole.passes.pulled(pixels, logits)
    np.testing.assert_allclose(pulled, np.einsum("ci,icj->ij", again, jacobian), atol=1e-12)
    along = whole.passes.along(pixels, step)
    np.testing.assert_allclose(along, logits + np.einsum("icj,j->ci", jacobian, step), atol=1e-12)
