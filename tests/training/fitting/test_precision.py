"""Number formats that layers compute in while they are trained."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from training.fitting.precision import is_mixed, layers_compute, loss_of

CPU = torch.device("cpu")


def test_only_what_is_asked_for_is_mixed_on_the_cpu() -> None:
    assert [is_mixed(precision, CPU) for precision in ("auto", "float32", "mixed")] == [False, False, True]


@pytest.mark.parametrize(("supported", "mixed"), [(True, True), (False, False)])
def test_auto_is_mixed_on_a_card_that_has_bfloat16_itself(supported, mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    class OnCard:
        def __init__(self, device: torch.device) -> None:
            asked.append(device)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(torch.cuda, "device", OnCard)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    card = torch.device("cuda:1")
    assert is_mixed("auto", card) == mixed
    assert asked == [card]
    assert not is_mixed("float32", card)
    assert is_mixed("mixed", card)


def test_mixed_layers_make_bfloat16_of_weights_that_stay_as_they_are() -> None:
    layer, values = nn.Linear(4, 3), torch.rand(2, 4)
    with layers_compute(CPU, mixed=True):
        rounded = layer(values)
    with layers_compute(CPU, mixed=False):
        plain = layer(values)
    assert (rounded.dtype, plain.dtype, layer.weight.dtype) == (torch.bfloat16, torch.float32, torch.float32)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
def test_a_loss_is_at_least_as_fine_as_float32(kind: torch.dtype) -> None:
    logits = torch.linspace(-2, 2, 30).reshape(10, 3).to(kind)
    labels = torch.arange(10) % 3
    loss = loss_of(logits, labels)
    assert loss.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    assert float(loss) == pytest.approx(float(cross_entropy(logits.double(), labels)), abs=1e-6)
