"""Forwards that ask for shapes are recorded with the answers, for any number of images."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tracing import UnfitExample, Untraceable, ops, run, trace


def unpacked(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c * h * w)


def merged(x: Tensor) -> Tensor:
    while x.dim() > 2:
        x = x.flatten(-2)
    return x


def asserted(x: Tensor) -> Tensor:
    assert x.shape[1:] == (1, 4, 4), "small pictures alone"
    assert x.is_floating_point()
    return x.flatten(1)


def refused(x: Tensor) -> Tensor:
    if x.shape[-1] != 4:
        raise ValueError("four pixels a side")
    return x.flatten(1)


def small_batch(x: Tensor) -> Tensor:
    if len(x) > 2:
        raise ValueError("two images at most")
    return x


def several(x: Tensor) -> Tensor:
    assert len(x) > 1
    return x.reshape(len(x), -1)


ASKING: dict[str, Callable[[Tensor], Tensor]] = {
    "len": lambda x: x.reshape(len(x), -1),
    "dim": lambda x: x.flatten(1) if x.dim() == 4 else x,
    "a list of sizes": lambda x: x.view(-1, torch.Size(list(x.size()[1:])).numel()),
    "unpacked sizes": unpacked,
    "a loop over axes": merged,
    "a loop over rows": lambda x: torch.cat([x[:, :, k] for k in range(x.shape[2])], -1).flatten(1),
    "assertions": asserted,
    "unpacked parts": lambda x: torch.cat([*x.unbind(2)], -1).flatten(1),
    "arithmetic on sizes": lambda x: (x / math.sqrt(x.shape[-1])).reshape(x.shape[0], int(x.shape[2] ** 2)),
    "a multiple of the images": lambda x: x.reshape(len(x) * 2, 8).reshape(len(x), 16),
    "a part's length": lambda x: torch.cat(x.chunk(2, 2), 2).flatten(1) if len(x.chunk(2, 2)) == 2 else x,
    "a transpose": lambda x: x.flatten(1) if len(x[0, 0].T) == 4 else x,
    "a device": lambda x: x.flatten(1).to(x.device) if len(x.device.type) else x,
    "a tensor of its own": lambda x: x.flatten(1) + torch.arange(x.numel() // len(x)),
    "a row for each image": lambda x: x.flatten(1) + torch.full((len(x), 16), 0.5),
}


class Asking(nn.Module):
    def __init__(self, form: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.form, self.layer = form, nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(self.form(x)))


@pytest.mark.parametrize("name", ASKING)
def test_a_forward_that_asks_for_shapes_is_traced_for_any_number_of_images(name: str) -> None:
    model = Asking(ASKING[name]).eval()
    held = set(vars(model))
    graph = trace(model, torch.rand(1, 1, 4, 4)).fitting()
    assert list(graph.calls(ops.LINEAR)) == ["layer"]
    assert set(vars(model)) == held
    for count in (1, 2, 5):
        images = torch.rand(count, 1, 4, 4)
        made = run(graph, {graph.inputs[0]: images}, keep={graph.nodes[-2]})[graph.nodes[-2]]
        torch.testing.assert_close(made, model(images))


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (lambda x: x.flatten(1) if x.max() > 0 else -x.flatten(1), "control flow that depends on values"),
        (lambda x: x.flatten(1) if len(x) == 2 else 2 * x.flatten(1), "depend on the number of images"),
        (lambda x: torch.stack([row.flatten() for row in x]), "depend on the number of images"),
        (lambda x: x.flatten(1) * len(x) ** 2, "it uses 4 for 2, 9 for 3, 49 for 7"),
        (lambda x: x.flatten(1) + len(x) // 2, "it uses 1 for 2, 1 for 3, 3 for 7"),
        (lambda x: x.flatten(1)[: max(1, len(x) - 1)], "it uses 1 for 2, 2 for 3, 6 for 7"),
        (lambda x: -x.flatten(1) if len(x) == 1 else x.flatten(1), "depend on the number of images"),
        (lambda x: x.flatten(1) if len(x) < 4 else x.flatten(1) * 2, "depend on the number of images"),
        (lambda x: small_batch(x).flatten(1), "does not take 3 images"),
        (lambda x: x.flatten(1) + torch.rand(len(x), 16), "a tensor of its own that depends on the number"),
    ],
)
def test_what_depends_on_values_or_on_the_number_of_images_is_refused_in_one_line(
    form: Callable[[Tensor], Tensor], says: str
) -> None:
    with pytest.raises(Untraceable, match=says) as refusal:
        trace(Asking(form), torch.rand(1, 1, 4, 4))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (lambda x: x.view(len(x), 16), r"'view' does not take a value of shape \(1, 5, 5\): .*; check the image size"),
        (lambda x: asserted(x), r"AssertionError: small pictures alone\); check the images' shape"),
        (
            lambda x: refused(x),
            r"Asking does not take 2 images of shape \(1, 5, 5\) \(ValueError: .* check the images' shape",
        ),
        (lambda x: x.reshape(len(x), -1), r"'layer' does not take a value of shape \(25,\): .*; check the image size"),
    ],
)
def test_an_example_of_another_size_is_refused_as_such(form: Callable[[Tensor], Tensor], says: str) -> None:
    with pytest.raises(UnfitExample, match=says) as refusal:
        trace(Asking(form), torch.rand(1, 1, 5, 5))
    assert "\n" not in str(refusal.value)


def test_a_forward_that_refuses_a_single_image_is_traced_with_several() -> None:
    graph = trace(Asking(several).eval(), torch.rand(2, 1, 4, 4))
    assert list(graph.calls(ops.LINEAR)) == ["layer"]
