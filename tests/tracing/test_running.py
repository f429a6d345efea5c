"""Running part of a graph, with other values for some readers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tracing import Instead, ops, run, trace


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.second(h) + h


def test_the_whole_graph_computes_what_the_module_computes() -> None:
    model, images = Residual(), torch.rand(5, 3)
    graph = trace(model, images[:1])
    assert torch.equal(run(graph, {graph.inputs[0]: images}, keep={graph.output})[graph.output], model(images))


def test_part_of_it_goes_on_from_known_values() -> None:
    model, images = Residual(), torch.rand(5, 3)
    graph = trace(model, images[:1])
    (relu,) = [node for node in graph.nodes if node.op is ops.RELU]
    emitted = run(graph, {graph.inputs[0]: images}, keep={relu})[relu]
    behind = [node for node in graph.nodes if node in graph.after([relu]) and node is not relu]
    found = run(graph, {relu: emitted}, keep={graph.output}, nodes=behind)
    assert torch.equal(found[graph.output], model(images))


def test_some_readers_may_get_another_value() -> None:
    model, images = Residual(), torch.rand(5, 3)
    graph = trace(model, images[:1])
    (relu,) = [node for node in graph.nodes if node.op is ops.RELU]
    (second,) = graph.calls(ops.LINEAR)["second"]
    instead = {relu: [Instead(torch.zeros_like, frozenset([second]))]}
    found = run(graph, {graph.inputs[0]: images}, keep={graph.output}, instead=instead)[graph.output]
    torch.testing.assert_close(found, torch.relu(model.first(images)) + model.second.bias)


def test_what_is_kept_is_not_written_over_by_what_reads_it() -> None:
    model, images = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)), torch.rand(5, 3) - 0.5
    nn.init.constant_(model[0].bias, -1.0)  # below 0 whatever weights are drawn
    graph = trace(model, images[:1])
    (linear,) = graph.calls(ops.LINEAR)["0"]
    kept = run(graph, {graph.inputs[0]: images}, keep={linear})
    assert torch.equal(kept[linear], model[0](images))
    assert (kept[linear] < 0).any()


@pytest.mark.parametrize(
    "written", [lambda h: h.detach(), torch.detach, lambda h: h.clone().detach_(), lambda h: h.clone().data]
)
def test_values_that_the_forward_detaches_still_have_their_derivative(written: Callable[[Tensor], Tensor]) -> None:
    class Detached(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(torch.tanh(written(torch.tanh(input))))

    model, images = Detached(3, 2), torch.rand(5, 3).requires_grad_()
    graph = trace(model, images[:1].detach())
    made = run(graph, {graph.inputs[0]: images}, keep={graph.output})[graph.output]
    (slopes,) = torch.autograd.grad(made.sum(), images)
    inner = torch.tanh(images.detach())
    expected = model.weight.sum(0) * (1 - torch.tanh(inner) ** 2) * (1 - inner**2)
    torch.testing.assert_close(slopes, expected)
    assert torch.equal(made, model(images.detach()))
