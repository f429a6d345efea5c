"""The op table, form by form: lowered equals torch; what is scored is removed as the program says, or has a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formulation import UnsupportedLayer, lower
from tests.formulation.lowering.op_forms import FORMS, PIXELS, REFUSED, Form
from tests.formulation.lowering.test_lowering import pictures, shaken
from training import compact, prune

BEHIND, BEFORE = "behind the ReLU", "before the ReLU"


class Formed(nn.Module):
    """A convolution, a ReLU with a form behind or before it, and two dense layers of which the first is scored."""

    def __init__(self, form: Form, where: str) -> None:
        super().__init__()
        self.conv, self.form, self.where = nn.Conv2d(1, 4, 3, padding=1), form, where
        width = self.double().features(torch.zeros(2, 1, PIXELS, PIXELS, dtype=torch.float64)).shape[1]
        self.hidden, self.out = nn.Linear(width, 3), nn.Linear(3, 2)

    def features(self, x: Tensor) -> Tensor:
        made = self.conv(x)
        made = torch.relu(self.form(made)) if self.where == BEFORE else self.form(torch.relu(made))
        return made.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(self.features(x).to(x.dtype))))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("where", [BEHIND, BEFORE])
@pytest.mark.parametrize("name", FORMS)
def test_a_form_equals_torch_and_its_units_are_removed_as_the_program_says_or_have_a_reason(
    name: str, where: str
) -> None:
    model = shaken(Formed(FORMS[name], where), 1).double().eval()
    images = pictures(2, 1, PIXELS, PIXELS)
    pixels = images.flatten(1).numpy().T
    network = lower(model, images)
    exact = 1e-9 if name not in ("to", "float") else 1e-5  # which round in torch, and not in the network
    np.testing.assert_allclose(network.evaluate(pixels), model(images).detach().numpy().T, rtol=exact, atol=exact)
    makes = {name for name, part in model.named_modules() if hasattr(part, "weight") and hasattr(part, "kernel_size")}
    assert (makes | {"hidden"}) <= {*network.units, *network.unscored}
    masks = {layer: np.arange(units) % 3 != 1 for layer, units in network.units.items()}
    expected = prune(model, masks, images)(images).detach().numpy().T
    np.testing.assert_allclose(network.evaluate(pixels, masks), expected, rtol=exact, atol=exact)
    made = compact(model, masks, images)(images).detach().numpy().T
    np.testing.assert_allclose(made, expected, rtol=exact, atol=exact)


@pytest.mark.parametrize("where", [BEHIND, BEFORE])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_neither_affine_nor_piecewise_linear_is_refused_in_one_line(name: str, where: str) -> None:
    with pytest.raises(UnsupportedLayer) as refusal:
        lower(Formed(REFUSED[name], where).eval(), pictures(2, 1, PIXELS, PIXELS))
    assert len(str(refusal.value).splitlines()) == 1
