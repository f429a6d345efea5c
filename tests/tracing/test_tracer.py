"""Traced graphs: calls, shapes, arguments and readers, and what other threads may do meanwhile."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tracing import Op, UnfitExample, UnknownSpelling, Untraceable, ops, register, trace
from tracing.table import TABLE


class Mixed(nn.Module):
    """Layers, functions, methods, arithmetic on sizes, and a call that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aside, self.out = nn.Conv2d(1, 3, 3, stride=2), nn.Conv2d(3, 2, 1), nn.Linear(12, 2)
        self.scale = nn.Parameter(torch.full((3, 1, 1), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.conv(x)) * self.scale
        self.aside(h)
        return self.out(h.view(h.size(0), -1))


def test_a_graph_has_the_calls_in_order_without_those_that_nothing_uses() -> None:
    graph = trace(Mixed(), torch.rand(2, 1, 6, 6))
    assert [node.op for node in graph.nodes if node.live] == [
        ops.INPUT, ops.CONVOLUTION, ops.RELU, ops.MULTIPLY, ops.RESHAPE, ops.LINEAR, ops.OUTPUT,
    ]  # fmt: skip
    assert list(graph.calls(ops.CONVOLUTION, ops.LINEAR)) == ["conv", "out"]


def test_a_node_has_its_shape_and_its_arguments_by_name() -> None:
    graph = trace(Mixed(), torch.rand(2, 1, 6, 6))
    (conv,), (reshape,) = graph.calls(ops.CONVOLUTION)["conv"], [n for n in graph.nodes if n.op is ops.RESHAPE]
    assert conv.shape == (2, 3, 2, 2)
    assert conv.argument("stride") == (2, 2)
    assert conv.argument("weight") is conv.layer.weight
    assert reshape.argument("shape") == (2, -1)
    (factor,) = [node for node in graph.nodes if node.op is ops.MULTIPLY]
    assert torch.equal(factor.argument("other"), torch.full((3, 1, 1), 2.0))


def test_asking_for_a_shape_is_no_reading() -> None:
    graph = trace(Mixed(), torch.rand(2, 1, 6, 6))
    (factor,) = [node for node in graph.nodes if node.op is ops.MULTIPLY]
    assert [user.op for user in graph.users[factor]] == [ops.RESHAPE]
    (asked,) = [node for node in graph.nodes if node.op is ops.SHAPE]
    assert (asked.live, asked.known, asked.value) == (False, True, 2)


def test_one_op_is_found_however_it_is_spelled() -> None:
    spellings = [
        nn.ReLU(), torch.relu, functional.relu, functional.relu_, lambda x: x.relu(), lambda x: x.relu_(),
        lambda x: functional.relu(x, inplace=True), lambda x: functional.relu(x, True),
    ]  # fmt: skip

    class Applied(nn.Module):
        def __init__(self, function) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(x + 0)

    graphs = [trace(Applied(function), torch.rand(1, 2)) for function in spellings]
    assert {graph.nodes[-2].op for graph in graphs} == {ops.RELU}
    assert [graph.nodes[-2].in_place for graph in graphs] == [False, False, False, True, False, True, True, True]


def test_a_call_that_writes_over_what_others_read_stays_although_nothing_uses_it() -> None:
    class Aside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x * 2
            h.relu_()
            return h

    assert ops.RELU in [node.op for node in trace(Aside(), torch.rand(1, 2)).nodes]


def test_the_example_is_not_written_over() -> None:
    images = torch.full((1, 2), -1.0)
    trace(nn.Sequential(nn.ReLU(inplace=True)), images)
    assert images.tolist() == [[-1.0, -1.0]]


def test_where_the_example_does_not_fit_the_graph_says_so_and_keeps_what_came_before() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(2, 2))
    graph = trace(model, torch.rand(1, 4))
    assert [node.shape for node in graph.nodes] == [(1, 4), (1, 4), (1, 3), (1, 3), None, None]
    with pytest.raises(UnfitExample, match=r"'3' does not take a value of shape \(3,\): .*; check the image size") as e:
        graph.fitting()
    assert "\n" not in str(e.value)


def test_a_model_with_control_flow_on_values_is_refused_in_one_line() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(Untraceable, match=r"Branching cannot be traced by torch\.fx .* control flow") as raised:
        trace(Branching(), torch.rand(1, 2))
    assert "\n" not in str(raised.value)


def test_a_second_input_is_named() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(Untraceable, match="second input 'y'"):
        trace(Two(), torch.rand(1, 2))


@pytest.mark.parametrize("counts", [False, True], ids=["", "asks for its shape"])
def test_what_else_a_forward_takes_has_its_default(counts: bool) -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(  # type: ignore[no-untyped-def]
            self, x: Tensor, mask: Tensor | None = None, *more: Tensor, features: bool = False, **others
        ) -> Tensor | tuple[Tensor, Tensor]:
            if counts and len(x) < 1:
                raise ValueError("no images")
            if mask is not None:
                x = x * mask
            if more or "labels" in others:
                raise ValueError("too many inputs")
            made: Tensor = self.layer(x)
            return (made, x) if features else made

    graph = trace(Optional(), torch.rand(4, 2))
    assert not graph.failure
    assert [node.op for node in graph.nodes] == [ops.INPUT, ops.LINEAR, ops.OUTPUT]


def test_a_forward_of_any_number_of_inputs_is_given_one() -> None:
    class Many(nn.Module):
        def forward(self, *images: Tensor) -> Tensor:
            return torch.relu(images[0])

    assert [node.op for node in trace(Many(), torch.rand(4, 2)).nodes] == [ops.INPUT, ops.RELU, ops.OUTPUT]


def test_an_unknown_op_leaves_the_rest_known() -> None:
    graph = trace(nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2), nn.ReLU()), torch.rand(1, 2))
    assert [node.op for node in graph.nodes] == [
        ops.INPUT, ops.LINEAR, ops.UNKNOWN, ops.LINEAR, ops.RELU, ops.OUTPUT,
    ]  # fmt: skip
    assert graph.nodes[2].shape == (1, 2)
    assert graph.nodes[2].where == "'_1' (GELU)"


def test_a_layer_of_ones_own_is_registered_and_then_called_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = 2.0

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    class Own(Doubling):
        pass

    doubling = Op("doubling", {"input": None, "factor": 1.0}, unitwise=True)
    monkeypatch.setattr("tracing.table.TABLE", dict(TABLE))
    assert trace(nn.Sequential(Doubling()), torch.rand(1, 2)).nodes[1].op is ops.MULTIPLY
    register(Doubling, doubling)
    node = trace(nn.Sequential(Doubling()), torch.rand(1, 2)).nodes[1]
    assert (node.op, node.argument("factor"), node.kind) == (doubling, 2.0, "Doubling")
    register(Own, doubling)
    assert trace(nn.Sequential(Own()), torch.rand(1, 2)).nodes[1].op is doubling


@pytest.mark.parametrize("target", [int, 3, None])
def test_what_is_no_operation_cannot_be_registered(target: object) -> None:
    with pytest.raises(UnknownSpelling, match="register a layer class, a function or"):
        register(target, ops.RELU)


def test_modes_and_statistics_stay_as_they_were() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()).train()
    model[1].eval()
    trace(model, torch.rand(3, 2))
    assert [part.training for part in model.modules()] == [True, True, False]
    assert model[0].num_batches_tracked == 0


class Waiting(nn.Module):
    """A model in the midst of whose tracing others may act."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.begun, self.done = nn.Linear(2, 2), threading.Event(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        made = self.layer(x)
        self.begun.set()
        assert self.done.wait(20)
        return torch.relu(made)


def test_while_one_thread_traces_others_call_modules_as_ever() -> None:
    waiting, other, images = Waiting(), nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2)
    expected, graphs = other(images), []
    thread = threading.Thread(target=lambda: graphs.append(trace(waiting, images)))
    thread.start()
    assert waiting.begun.wait(20)
    try:
        assert torch.equal(other(images), expected)
        assert other[0].weight is dict(other.named_parameters())["0.weight"]
    finally:
        waiting.done.set()
        thread.join()
    assert [node.op for node in graphs[0].nodes] == [ops.INPUT, ops.LINEAR, ops.RELU, ops.OUTPUT]


def test_threads_that_trace_wait_for_one_another() -> None:
    first, graphs = Waiting(), []
    threads = [
        threading.Thread(target=lambda model=model: graphs.append(trace(model, torch.rand(1, 2))))
        for model in (first, nn.Sequential(nn.Linear(2, 1)))
    ]
    threads[0].start()
    assert first.begun.wait(20)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    assert graphs == []
    first.done.set()
    for thread in threads:
        thread.join()
    assert sorted(len(graph.nodes) for graph in graphs) == [3, 4]
