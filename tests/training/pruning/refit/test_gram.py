"""Gram matrices: columns times the flattened weight give a layer's output, and streamed sums are the sums at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.pruning.refit import gram as gram_module
from training.pruning.refit import gram_of, passes_over, stream_gram, targets_of, unfold_columns, weight_columns


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 3), stride=st.integers(1, 2), dilation=st.integers(1, 2), groups=st.sampled_from([1, 2, 4]),
    padding=st.sampled_from([0, 1, 2, "valid", "same"]), mode=st.sampled_from(["zeros", "reflect", "circular"]),
    flat=st.booleans(),
)  # fmt: skip
def test_columns_times_weights_are_the_convolution(kernel, stride, dilation, groups, padding, mode, flat) -> None:
    if padding == "same":
        stride = 1
    torch.manual_seed(0)
    kind, shape = (nn.Conv1d, (3, 4, 9)) if flat else (nn.Conv2d, (3, 4, 9, 8))
    layer = kind(
        4, 8, kernel, stride=stride, dilation=dilation, groups=groups, padding=padding, padding_mode=mode, bias=False
    ).double()
    inputs = torch.randn(shape, dtype=torch.float64)
    found = unfold_columns(layer, inputs) @ weight_columns(layer).mT
    assert torch.allclose(found, targets_of(layer, layer(inputs).detach()), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from([nn.Linear, nn.Conv1d, nn.Conv2d]), whole=st.booleans())
def test_columns_that_are_not_kept_are_left_out_of_what_is_read(data, kind, whole: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 3) if kind is nn.Linear else kind(5, 3, 2, padding=1)
    inputs = torch.rand(3, 5) if kind is nn.Linear else torch.rand(3, 5, *([4] * (1 if kind is nn.Conv1d else 2)))
    width = layer.weight[0].numel()
    each = width // 5 if whole else 1  # whole channels, or any columns
    chosen = data.draw(st.lists(st.booleans(), min_size=width // each, max_size=width // each))
    kept = torch.tensor(chosen).repeat_interleave(each)
    found = unfold_columns(layer, inputs, kept)
    assert found.dtype == torch.float64
    assert torch.equal(found, unfold_columns(layer, inputs)[:, :, kept])


@pytest.mark.parametrize("width", [0, 1, 255, 256, 258, 301])
@pytest.mark.parametrize("groups", [1, 2])
def test_second_moments_are_the_product_whatever_their_width(width: int, groups: int) -> None:
    read = torch.randn(groups, 20, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = gram_of(read, read[:, :, :1]).inner
    assert torch.allclose(found, read.mT @ read, rtol=1e-12, atol=1e-12)
    assert torch.allclose(found, found.mT, rtol=1e-12, atol=1e-12)


def test_tokens_of_a_linear_layer_are_readings_each() -> None:
    layer = nn.Linear(5, 3, bias=False).double()
    inputs = torch.randn(2, 7, 5, dtype=torch.float64)
    found = unfold_columns(layer, inputs) @ weight_columns(layer).mT
    assert found.shape == (1, 14, 3)
    assert torch.allclose(found, targets_of(layer, layer(inputs).detach()))


@pytest.mark.parametrize("numbers", [1, 2000, 2**24])
def test_streamed_sums_are_the_sums_of_all_images_at_once(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr(gram_module, "NUMBERS", numbers)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2)).double().eval()
    images = torch.rand(9, 2, 8, 8, dtype=torch.float64)
    passes = passes_over(network, images)
    streamed = stream_gram(passes, passes, "2")
    read = network[1](network[0](images)).detach()
    whole = gram_of(unfold_columns(network[2], read), targets_of(network[2], network(images).detach()))
    for name in ("inner", "cross", "inputs", "targets", "squares"):
        assert torch.allclose(getattr(streamed, name), getattr(whole, name), rtol=1e-10)
    assert streamed.count == whole.count == 9 * 16


def test_columns_and_units_that_are_left_out_are_not_summed() -> None:
    network = nn.Sequential(nn.Linear(6, 3)).double().eval()
    images = torch.rand(5, 6, dtype=torch.float64)
    kept = torch.tensor([True, False, True, True, False, True])
    passes = passes_over(network, images)
    whole, part = stream_gram(passes, passes, "0"), stream_gram(passes, passes, "0", kept=kept)
    units = torch.tensor([True, False, True])
    few = stream_gram(passes, passes, "0", kept=kept, units=units)
    assert torch.allclose(few.cross, whole.cross[:, units][:, :, kept])
    assert torch.allclose(few.squares, whole.squares[:, units])
    assert torch.allclose(part.inner, whole.inner[:, kept][:, :, kept])
    assert torch.allclose(part.cross, whole.cross[:, :, kept])
