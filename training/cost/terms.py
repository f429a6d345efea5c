"""Cost terms of a kept unit: the account of `removal` as a function of how many units each layer keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from training.errors import SelectionError, UnsupportedGraph
from training.pruning import WEIGHTED, Links, attention_multiply_adds, consumers, input_width, layer_places

# (producer, consumer, cost): cost * kept units of the producer * kept units of the consumer, None standing for 1.
Term = tuple[str | None, str | None, float]
What = Literal["parameters", "multiply_adds"]


def cost_terms(
    model: nn.Module, layers: Sequence[str], example_input: Tensor, what: What = "parameters"
) -> tuple[Term, ...]:
    """Terms whose sum is `removal`'s parameters_after or multiply_adds_after for any masks of these layers.

    A layer L whose outputs are units of a group g may lose them: r_L = n_g, else all. It reads the units of its
    producers p in columns of span_p each, and f_L columns that nothing removes:

        parameters      r_L (kernel_L (f_L + sum_p span_p n_p) + bias_L)  +  2 span_p n_p per BatchNorm with affine
        multiply-adds   r_L kernel_L (f_L + sum_p span_p n_p) positions_L

    A depthwise convolution on the way has kernel_L span_g n_g weights and span_g n_g biases. Of a unit of several rows,
    as an attention head is, a layer has rows_L n_g.

    Args:
        model: before removal.
        layers: names of those that may lose units.
        example_input: [n, ...], gives the shapes.
        what: `parameters` or `multiply_adds` (of one image).

    Returns:
        (producer, consumer, cost) each: the cost times the kept units of both, None standing for 1.

    Raises:
        SelectionError: an unknown `what`.
        UnsupportedGraph: units cannot be followed, or a grouped convolution may lose both inputs and outputs: its cost
            depends on which units stay in each group, not only on how many.
    """
    if what not in ("parameters", "multiply_adds"):
        raise SelectionError(f"what={what!r} is unknown: use parameters or multiply_adds")
    links = consumers(model, example_input, layers)
    positions = layer_places(model, example_input)
    found: dict[tuple[str | None, str | None], int] = {}
    attention = attention_multiply_adds(model, example_input) if what == "multiply_adds" else {}
    found[None, None] = sum(cost for name, cost in attention.items() if name not in links)
    for name, module in model.named_modules():
        if isinstance(module, WEIGHTED):
            terms = _of_layer(name, module, links, positions.get(name, 0), what)
        elif isinstance(module, nn.MultiheadAttention) and name in links:
            own = sum(value.numel() for value in module.parameters(recurse=False))
            terms = [(None, name, (own if what == "parameters" else attention[name]) // links[name].units)]
        elif what == "parameters":
            terms = _of_other(name, module, links)
        else:
            terms = []
        for producer, consumer, cost in terms:
            found[producer, consumer] = found.get((producer, consumer), 0) + cost
    return tuple((producer, consumer, float(cost)) for (producer, consumer), cost in found.items() if cost)


def _of_layer(
    name: str, module: nn.Module, links: Mapping[str, Links], positions: int, what: What
) -> list[tuple[str | None, str | None, int]]:
    assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    if carried := [
        (group, each.span) for group, link in links.items() for each in link.depthwise if each.layer == name
    ]:
        return _of_depthwise(module, carried, links, positions, what)
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    fed = [
        (producer, reader.span) for producer, each in links.items() for reader in each.readers if reader.layer == name
    ]
    made = [(group, row.span) for group, link in links.items() for row in link.makers if row.layer == name]
    makes = made[0][0] if made else None
    loses = makes is not None
    if groups > 1 and fed and loses:
        raise UnsupportedGraph(
            f"layer {name!r} has {groups} groups and both its inputs ({fed[0][0]!r}) and its outputs may go: its cost "
            f"is not that of counts; leave one of the two layers alone"
        )
    consumer, outputs = (makes, sum(span for _, span in made)) if loses else (None, module.weight.shape[0])
    # Of a grouped convolution each input column is read by the outputs of its own group only.
    rate = module.weight[0, 0].numel() * (positions if what == "multiply_adds" else 1)
    fixed = input_width(module) - sum(span * links[producer].units for producer, span in fed)
    terms: list[tuple[str | None, str | None, int]] = [
        (producer, consumer, rate * span * outputs // (1 if loses else groups)) for producer, span in fed
    ]
    terms.append((None, consumer, rate * fixed * outputs // groups))
    if what == "parameters" and module.bias is not None:
        terms.append((None, consumer, outputs))
    return terms


def _of_depthwise(
    module: nn.Linear | nn.Conv1d | nn.Conv2d,
    carried: list[tuple[str, int]],
    links: Mapping[str, Links],
    positions: int,
    what: What,
) -> list[tuple[str | None, str | None, int]]:
    """Each channel has a kernel of its own, and a bias."""
    each = module.weight[0].numel() * (positions if what == "multiply_adds" else 1)
    each += 1 if what == "parameters" and module.bias is not None else 0
    fixed = module.weight.shape[0] - sum(span * links[group].units for group, span in carried)
    return [(None, None, each * fixed), *((None, group, each * span) for group, span in carried)]


def _of_other(name: str, module: nn.Module, links: Mapping[str, Links]) -> list[tuple[str | None, str | None, int]]:
    """Of the other layers only a BatchNorm on a unit's way shrinks: weight and bias per channel."""
    parameters = sum(value.numel() for value in module.parameters(recurse=False))
    fed = [(layer, norm.span) for layer, each in links.items() for norm in each.norms if norm.layer == name]
    if not parameters or not fed:
        return [(None, None, parameters)]
    # torch types every attribute of a module as a tensor or a module; a norm's width is a number.
    channel = parameters // int(module.num_features)  # type: ignore[arg-type]
    fixed = parameters - channel * sum(span * links[layer].units for layer, span in fed)
    return [(None, None, fixed), *((layer, None, channel * span) for layer, span in fed)]
