"""Refusals by name, before any work, of all that cannot be lowered exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import Normalize

import tracing
from formulation import FormulationError, InvalidImages, InvalidModel, UnsupportedLayer, lower
from formulation.lowering import rule
from formulation.lowering.parts import scaled
from tests.formulation.lowering.test_lowering import Applied, assert_same, pictures
from tracing.table import TABLE


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.out, self.relu = nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.relu(self.shared(self.relu(self.shared(x.flatten(1))))))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(4, 3), nn.Linear(3, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.a(x.flatten(1)))
        return torch.cat([self.b(h), self.b(h)], dim=1)


def chain(*middle: nn.Module, features: int = 12) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 1), *middle, nn.Flatten(), nn.Linear(features, 2))


REFUSED = {
    "max pool with indices": (chain(nn.ReLU(), nn.MaxPool2d(1, return_indices=True)), "'2'.*indices"),
    "max pool of padding": (chain(nn.MaxPool2d(2, 3, 1, 3)), "'1'.*nothing but padding"),
    "lp pool": (chain(nn.ReLU(), nn.LPPool2d(2, 1)), "'2'.*LPPool2d"),
    "sigmoid": (chain(nn.Sigmoid()), "'1'.*Sigmoid"),
    "gelu": (chain(nn.GELU()), "'1'.*GELU"),
    "nested sigmoid": (nn.Sequential(chain(nn.ReLU(), nn.Sigmoid())), r"'0\.2'.*Sigmoid"),
    "shared layer": (Twice(), "'shared'.*twice"),
    "two heads": (TwoHeads(), "'b'.*twice"),
    "product": (Applied(lambda x: (x * F.relu(x)).flatten(1)), "'mul.*combines two activations"),
    "joined images": (Applied(lambda x: torch.cat([x, x]).flatten(1)), "'cat.*along dimension 0.*the images"),
    "mean of everything": (Applied(lambda x: x.mean().reshape(1, 1), 1), r"'mean.*images.*x\.mean\(\[2, 3\]\)"),
    "a rounded quotient": (Applied(lambda x: torch.div(x, 2, rounding_mode="floor").flatten(1)), "'div.*rounding_mode"),
    "weights made of activations": (Applied(lambda x: F.linear(x.flatten(1), x.flatten(1)), 1), "'linear.*weights"),
    "norm over units": (chain(nn.Flatten(), nn.BatchNorm1d(3)), "'2' normalises 3 channels.*(12,)"),
    "reused in place": (Applied(lambda x: (F.relu(x, inplace=True) + x).flatten(1)), "'relu'.*'conv' in place"),
    "changed aside": (Applied(lambda x: (x.relu_(), x.flatten(1))[1]), "'relu_'.*'conv' in place"),
    "group norm": (chain(nn.GroupNorm(1, 3), nn.ReLU()), "'1'.*GroupNorm"),
    "norm without statistics": (chain(nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU()), "'1'.*batch"),
    "images flipped": (Applied(lambda x: F.relu(x).flip(0).flatten(1)), "'flip.*one image to another.*batch first"),
    "one image taken": (Applied(lambda x: F.relu(x)[0]), "'getitem.*batch first"),
    "squeezed batch": (Applied(lambda x: F.relu(x).mean((2, 3), True).squeeze(), 3), r"'squeeze.*x\.squeeze\(-1\)"),
    "stack of the batch": (Applied(lambda x: torch.stack([x, x])[0].flatten(1)), "'stack.*dimension 0"),
    "log-softmax inside": (chain(nn.ReLU(), nn.Flatten(), nn.LogSoftmax(1)), "'3'.*LogSoftmax"),
    "log-softmax of images": (nn.Sequential(chain(nn.ReLU()), nn.LogSoftmax(0)), "'1'.*LogSoftmax"),
    "normalised wrongly": (chain(nn.ReLU(), Normalize([0.0] * 2, [1.0] * 2)), "'2' has 2 channels and reads"),
    "dropout that stays on": (Applied(lambda x: F.dropout(F.relu(x)).flatten(1)), "dropout"),
    "softmax": (nn.Sequential(chain(nn.ReLU()), nn.Softmax(1)), "'1'.*Softmax"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_lowered_is_refused_by_name(what):
    model, names = REFUSED[what]
    shape = (2, 6, 6) if isinstance(model, Applied) else (1, 2, 2)
    with pytest.raises(UnsupportedLayer, match=names) as refusal:
        lower(model.eval(), torch.rand(1, *shape))
    assert len(str(refusal.value).splitlines()) == 1


def test_training_mode_is_refused_with_the_remedy():
    model = chain(nn.ReLU()).eval()
    model[1].train()
    with pytest.raises(InvalidModel, match=r"'1' is in training mode; call model\.eval\(\)"):
        lower(model, torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_refused_by_name(value):
    model = chain(nn.ReLU()).eval()
    model[3].weight.data[0, 0] = value
    with pytest.raises(InvalidModel, match=r"'3\.weight' holds 1 NaN or infinite"):
        lower(model, torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize(
    "shape", [(1, 1, 3, 3), (1, 2, 2, 2), (1, 4), (4, 4)], ids=["too large", "two channels", "flat", "no channel"]
)
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises((InvalidImages, UnsupportedLayer)):
        lower(chain(nn.ReLU()).eval(), torch.rand(*shape))


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("abc", "<U3, no real numbers"),
        (None, "object, no real numbers"),
        (3.0, r"no batch dimension \(shape \(\)\)"),
        (torch.rand(4), "no batch dimension"),
        (torch.rand(0, 1, 2, 2), "empty"),
        ([[1.0], [1.0, 2.0]], "cannot be read as an array"),
        (torch.ones(1, 1, 2, 2, dtype=torch.complex64), "complex64, no real numbers"),
        (torch.full((1, 1, 2, 2), float("nan")), "NaN or infinite"),
    ],
)
def test_what_is_no_example_is_refused_in_one_line(example, says):
    with pytest.raises(InvalidImages, match=says) as refusal:
        lower(chain(nn.ReLU()).eval(), example)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_tensor_on_the_tape_or_of_another_kind_is_an_example():
    model, example = chain(nn.ReLU()).eval(), torch.rand(2, 1, 2, 2)
    wanted = lower(model, example).digest()
    for given in (example.clone().requires_grad_(), example.bfloat16(), example.tolist(), example > 0.5):
        assert lower(model, given).digest() == wanted


def test_images_too_small_for_the_kernel_are_refused():
    model = nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)).eval()
    with pytest.raises(InvalidImages, match=r"'0' does not take a value of shape \(1, 3, 3\)"):
        lower(model, torch.rand(1, 1, 3, 3))


def test_a_model_without_a_gated_layer_has_nothing_to_score():
    for model in (nn.Linear(4, 2), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))):
        with pytest.raises(InvalidModel, match=r"nothing to score: .*; put a ReLU behind the layers to score"):
            lower(nn.Sequential(nn.Flatten(), model).eval(), torch.rand(1, 1, 2, 2))


def test_control_flow_on_values_is_refused():
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InvalidModel, match="control flow"):
        lower(Branching().eval(), torch.rand(1, 1, 2, 2))


def test_a_layer_whose_forward_was_overridden_is_caught_by_the_example():
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    Doubled.__module__ = "torch.nn.modules.linear"  # as a torch leaf it is not traced into
    model = nn.Sequential(nn.Flatten(), Doubled(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    model[1].weight.data.abs_()
    with pytest.raises(UnsupportedLayer, match="differs"):
        lower(model, torch.rand(1, 1, 2, 2))


def test_a_new_layer_type_is_taught_by_an_op_and_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    class Negation(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(x) - F.silu(x) - x  # no rule finds that this is -x

    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), Negation(), nn.ReLU(), nn.Linear(3, 2)).double().eval()
    with pytest.raises(UnsupportedLayer, match=r"silu.*cannot be lowered"):
        lower(model, pictures(0, 1, 2, 2))
    negation = tracing.Op("negation", {"input": None}, unitwise=True)
    monkeypatch.setattr("tracing.table.TABLE", dict(TABLE))
    monkeypatch.setattr(rule, "by_op", dict(rule.by_op))
    tracing.register(Negation, negation)
    with pytest.raises(UnsupportedLayer, match=r"'2' \(Negation\).*register a rule of that op"):
        lower(model, pictures(0, 1, 2, 2))
    rule.register(negation)(lambda node: lambda source: scaled(source, -np.ones(3), np.zeros(3)))
    assert assert_same(model, pictures(0, 1, 2, 2)).units == {"1": 3}


class Particular(nn.Module):
    """A forward with an assertion of its own."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3, "colour only"
        return x


@pytest.mark.parametrize("model", [Particular().eval(), "a name", None], ids=["asserts", "text", "nothing"])
def test_what_is_no_network_or_fails_by_itself_is_refused(model: object) -> None:
    with pytest.raises(FormulationError, match=r"colour only|give a torch\.nn\.Module|cannot be traced"):
        lower(model, torch.zeros(1, 1, 4, 4))


def test_a_relu_behind_the_last_layer_gates_outputs_which_are_never_scored() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU()).eval()
    network = assert_same(model, pictures(0, 1, 4, 4))
    assert network.units == {"1": 8}
    assert "reaches the model's output" in network.unscored["3"]
    pooled = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ).eval()
    assert assert_same(pooled, pictures(0, 1, 4, 4)).units == {"0": 4}
    with pytest.raises(InvalidModel, match=r"nothing to score: '1': .* the model's output"):
        lower(nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU()).eval(), pictures(0, 1, 4, 4))


class Returning(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.a, self.b = form, nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> object:
        logits = self.b(h := torch.relu(self.a(x.flatten(1))))
        return {"dict": {"logits": logits, "features": h}, "tuple": (logits, h), "maps": x * 2}[self.form]


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("dict", "returns a dict of 'logits', 'features': give a module"),
        ("tuple", "returns a tuple: give"),
        ("maps", r"\(1, 4, 4\)"),
    ],
)
def test_other_outputs_than_logits_are_named_with_the_remedy(form: str, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        lower(Returning(form).eval(), pictures(0, 1, 4, 4))
