"""Units of several rows: attention heads and gated linear units, in the spellings that people use."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from tests.attention_networks import ATTENTIONS, SHAPE, Separate, attention_network, drawn_networks
from tracing import parts_called, trace
from tracing.units import Reader, UnitGroups, all_groups


def groups_of(model: nn.Module, images: Tensor) -> UnitGroups:
    return all_groups(trace(model.eval(), images).fitting())


@pytest.mark.parametrize("name", sorted(ATTENTIONS))
def test_every_spelling_of_attention_has_its_heads(name: str) -> None:
    model = attention_network(name, "mlp", 3, 2, 4, 0)
    assert groups_of(model, torch.rand(2, *SHAPE)).groups[ATTENTIONS[name][1]].units == 3


@given(drawn_networks())
@settings(max_examples=20, deadline=None)
def test_every_spelling_has_its_heads_and_its_gated_units(drawn: tuple) -> None:
    model, units, _, images = drawn
    found = groups_of(model, images)
    assert {name: found.groups[name].units for name in units} == units
    for name in units:
        group = found.groups[name]
        for layer in group.layers:
            lying = torch.stack(
                [row.spread(torch.ones(group.units, dtype=torch.bool), 99) for row in group.rows if row.layer == layer]
            )
            assert not bool((lying.sum(0) > 1).any())
        assert all(end.reader.target == reader.layer for end, reader in zip(group.ends, group.readers, strict=True))


@given(drawn_networks())
@settings(max_examples=20, deadline=None)
def test_no_row_of_a_unit_changes_what_another_hands_on(drawn: tuple) -> None:
    """Brute force: the rows of one unit are drawn anew, and only its entries of what is handed on change."""
    model, units, _, images = drawn
    found = groups_of(model, images)
    for name in units:
        group = found.groups[name]
        (reader,) = group.readers
        before = _handed(model, reader.layer, images)
        with torch.no_grad():
            for row in group.rows:
                layer = model.get_submodule(row.layer)
                weight = layer.in_proj_weight if isinstance(layer, nn.MultiheadAttention) else layer.weight
                weight[row.offset : row.offset + row.span] += torch.rand(row.span, weight.shape[1])
        after = _handed(model, reader.layer, images)
        assert torch.equal(before[..., reader.span :], after[..., reader.span :])
        assert not torch.equal(before[..., : reader.span], after[..., : reader.span])


def _handed(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, given, made: seen.append(given[0].clone()))
    with torch.no_grad(), parts_called(model):
        model(images)
    handle.remove()
    return seen[0]


def test_the_rows_of_a_head_are_queries_keys_and_values() -> None:
    model = attention_network("torch", "glu layer", 2, 3, 4, 0)
    found = groups_of(model, torch.rand(2, *SHAPE)).groups
    heads, gated = found["attention.inner"], found["mlp.wide"]
    assert heads.rows == tuple(Reader("attention.inner", 3, offset) for offset in (0, 6, 12))
    assert heads.readers == (Reader("attention.inner.out_proj", 3),)
    assert gated.rows == (Reader("mlp.wide", 1, 0), Reader("mlp.wide", 1, 4))
    assert gated.readers == (Reader("mlp.narrow", 1),)
    assert heads.axis == gated.axis == -1


def test_a_gated_unit_of_channels_is_followed_through_a_norm() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.GLU(1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 2)
    )
    group = groups_of(model, torch.rand(2, 1, 8, 8)).groups["0"]
    assert (group.units, group.axis, group.norms, group.readers) == (3, 1, (Reader("2", 1),), (Reader("3", 1),))


class Mixing(Separate):
    """Attention of which something is read besides, or changed so that no head stands alone."""

    def __init__(self, change: str) -> None:
        super().__init__(6, 2, 3)
        self.change, self.norm, self.output = change, nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x) for each in self._layers())
        if self.change == "norm over all heads":
            q, k, v = self.norm(q), k, v
        if self.change == "shifted values":
            v = v + 1
        heads = [self._apart(each) for each in (q, k, v)]
        mixed = self._merged(self._mixed(*heads))
        if self.change == "sum with the tokens":
            mixed = mixed + x
        if self.change == "values read":
            return self.output((self.proj(mixed) + v).mean(1))
        return self.output(self.proj(mixed).mean(1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("norm over all heads", "all of its rows are one unit"),
        ("shifted values", "does not hand on 0"),
        ("values read", "reads a part of its units"),
        ("sum with the tokens", "does not hand on 0"),
    ],
)
def test_heads_that_do_not_stand_alone_have_a_reason(change: str, reason: str) -> None:
    found = groups_of(Mixing(change), torch.rand(2, 5, 6))
    assert not {"query", "key", "value"} & found.owner.keys()
    for layer in ("query", "key", "value"):
        assert reason in found.reasons[layer]


def test_one_head_alone_and_a_layer_that_is_called_twice_have_a_reason() -> None:
    class Twice(nn.Module):
        def __init__(self, heads: int, calls: int) -> None:
            super().__init__()
            self.attention, self.output, self.calls = (
                nn.MultiheadAttention(6, heads, batch_first=True),
                nn.Linear(6, 2),
                calls,
            )

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(self.calls):
                x = self.attention(x, x, x)[0]
            return self.output(x.mean(1))

    images = torch.rand(2, 5, 6)
    assert "one head" in groups_of(Twice(1, 1), images).reasons["attention"]
    assert "cannot be followed" in groups_of(Twice(2, 2), images).reasons["attention"]
    assert "attention" in groups_of(Twice(2, 1), images).groups


def test_attention_as_torchvisions_swin_writes_it_is_left_alone() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.proj, self.output = nn.Linear(6, 18), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = F.linear(x, self.qkv.weight, self.qkv.bias).reshape(len(x), 5, 3, 2, 3).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return self.output(F.linear(mixed, self.proj.weight, self.proj.bias).mean(1))

    assert list(groups_of(Functional(), torch.rand(2, 5, 6)).groups) == []


class Chained(nn.Module):
    """Three parts of one layer, joined by a product and something else."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.change, self.wide, self.narrow, self.output = change, nn.Linear(6, 12), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.wide(x).chunk(3, -1)
        made = {
            "divided": lambda: a * c / b,
            "divided by a positive number": lambda: a * c / b.exp(),
            "reciprocal": lambda: a * c * b.reciprocal(),
            "divided, then a factor": lambda: c * (a / b),
            "logarithm": lambda: a * c * b.log(),
        }[self.change]()
        return self.output(self.narrow(made).mean(1))


@pytest.mark.parametrize("change", ["divided", "reciprocal", "divided, then a factor", "logarithm"])
def test_units_whose_removal_divides_0_by_0_have_a_reason(change: str) -> None:
    found = groups_of(Chained(change), torch.rand(2, 5, 6))
    assert "wide" not in set(found.owner)
    assert "wide" in set(found.reasons)


def test_units_that_are_divided_by_what_is_not_0_without_them_are_units() -> None:
    assert groups_of(Chained("divided by a positive number"), torch.rand(2, 5, 6)).groups["wide"].units == 4


def test_layers_that_share_a_bias_have_a_reason() -> None:
    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = (nn.MultiheadAttention(6, 2, batch_first=True) for _ in range(2))
            self.first, self.second, self.output = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            for attention in (self.one, self.two):
                x = x + attention(x, x, x)[0]
            return self.output(self.second(self.first(x).relu()).relu().mean(1))

    model, images = Sharing(), torch.rand(2, 5, 6)
    assert {"one", "two"} <= set(groups_of(model, images).groups)
    model.two.in_proj_bias = model.one.in_proj_bias
    model.second.bias = model.first.bias
    found = groups_of(model, images)
    layers = {"one", "two", "first", "second"}
    assert layers & set(found.owner) == set()
    assert layers <= set(found.reasons)
    assert "give it its own bias" in found.reasons["first"]
