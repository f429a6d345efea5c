"""Parts of traced modules, and layers behind them."""

from __future__ import annotations

import torch
from torch import nn

from tracing import followed_by, ops, part, trace


def test_parts_in_a_row_are_the_module_and_hold_its_layers() -> None:
    model, images = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(5, 3)
    graph = trace(model, images[:1])
    (relu,) = [node for node in graph.nodes if node.op is ops.RELU]
    first = part(graph, graph.inputs[0], relu, name="First")
    second = part(graph, relu, graph.output.given["values"], name="Second")
    assert torch.equal(second(first(images)), model(images))
    assert second.get_submodule("2") is model[2]
    assert type(first).__name__ == "First"


def test_a_layer_behind_a_traced_module_has_the_name_given() -> None:
    model, images, head = nn.Sequential(nn.Linear(3, 4)), torch.rand(5, 3), nn.Linear(4, 2)
    graph = trace(model, images[:1])
    whole = part(graph, graph.inputs[0], graph.nodes[1], name="Block")
    both = followed_by(whole, head, child="head", name="Headed")
    assert torch.equal(both(images), head(model(images)))
    assert both.get_submodule("head") is head
