"""BatchNorms folded into convolutions: the same outputs, only where nobody else reads what is folded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formulation.lowering import differentiable


class Normed(nn.Module):
    """Two convolutions with BatchNorms; what stands between the second pair differs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1)
        self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=kind != "plain")
        self.act, self.last = nn.GELU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.one(self.first(x)))
        made = self.second(x)
        if self.kind == "called twice":
            made = self.second(self.act(made))
        x = self.two(made)
        if self.kind == "read beside":
            x = x + made
        if self.kind == "weight read":
            x = x * self.second.weight.mean()
        return self.last(self.act(x).mean((2, 3)))


def normed(kind: str) -> Normed:
    torch.manual_seed(0)
    model = Normed(kind).double()
    with torch.no_grad():
        for part in (model.one, model.two):
            if part.affine:
                part.weight.uniform_(0.5, 2.0)
                part.bias.normal_()
        model.train()(torch.rand(16, 1, 5, 5, dtype=torch.float64))
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "folded"),
    [
        ("affine", {"one", "two"}),
        ("plain", {"one", "two"}),
        ("called twice", {"one"}),
        ("read beside", {"one"}),
        ("weight read", {"one"}),
    ],
)
def test_what_nobody_else_reads_is_folded_and_the_outputs_are_the_same(kind: str, folded: set[str]) -> None:
    model, images = normed(kind), torch.rand(3, 1, 5, 5, dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = differentiable(model, images).differentiable
    assert whole is not None
    module = whole.passes.graph.module
    assert {name for name in ("one", "two") if isinstance(module.get_submodule(name), nn.Identity)} == folded
    found = whole.passes.gated(images.flatten(1).numpy().T, np.ones(whole.passes.size))
    np.testing.assert_allclose(found.T, model(images).detach(), atol=1e-12)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_folding_changes_no_digest() -> None:
    model, images = normed("affine"), torch.rand(3, 1, 5, 5, dtype=torch.float64)
    compared, taken = (differentiable(model, images, compared=tried).digest() for tried in (True, False))
    assert compared == taken
