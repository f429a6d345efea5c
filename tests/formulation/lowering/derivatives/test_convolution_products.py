"""Products with convolutions' matrices are torch's own, whatever way the shapes choose."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation.lowering.derivatives import convolution_products as ways
from formulation.lowering.derivatives.convolution_products import Steps, kernel_product, transposed_product

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, Steps, dict[str, int]]:
    kernel, stride, dilation = (draw(sizes) for _ in range(3))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    groups, fed, made = draw(st.sampled_from([1, 1, 2, 4])), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    images, channels = draw(st.integers(1, 5)), fed * groups
    room = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    height, width = (size + draw(st.integers(0, 4)) for size in room)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    h = torch.randn(images, channels, height, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(made * groups, fed, *kernel, dtype=torch.float64, generator=generator)
    # every way is tried on small maps
    limits = {name: draw(st.sampled_from([0, 10**6])) for name in ("DEPTHWISE", "TOGETHER", "MOVED")}
    return h, weight, Steps(F.conv2d, stride, padding, dilation, groups), limits


@settings(max_examples=150, deadline=None)
@given(cases())
def test_they_are_those_of_torch_in_both_directions(case: tuple) -> None:
    h, weight, steps, limits = case
    before = {name: getattr(ways, name) for name in limits}
    asked = h.clone().requires_grad_()
    expected = F.conv2d(asked, weight, None, *steps.rest)
    a = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (slopes,) = torch.autograd.grad(expected, asked, a)
    try:
        for name, limit in limits.items():
            setattr(ways, name, limit)
        found, back = kernel_product(h, weight, steps), transposed_product(a, tuple(h.shape), weight, steps)
    finally:
        for name, limit in before.items():
            setattr(ways, name, limit)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(back, slopes, rtol=0, atol=1e-12)
    assert abs(float((a * found).sum() - (back * h).sum())) < 1e-10  # one is the other's transpose
