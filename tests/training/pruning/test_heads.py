"""Attention heads and gated linear units as units: masked, counted, ranked, refitted behind, cut out, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from onnxruntime import InferenceSession
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import training
from tests.attention_networks import SHAPE, attention_network, drawn_networks
from tracing import FewerHeads, parts_called
from training import Evidence, MaskError
from training.cost import cost_terms
from training.data import Split
from training.models import build
from training.pruning import consumers, prune, removal, removed_entries
from training.pruning.compaction import compact, load_compact, save_compact
from training.pruning.compaction.layer_surgery import PlacedLinear
from training.pruning.ranking.activations import responses
from training.pruning.refit import refit_layers

IMAGES = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
TOKENS_ALONE = IMAGES.squeeze(1)
CLOSE = 1e-6


@given(drawn_networks())
@settings(max_examples=25, deadline=None)
def test_the_compacted_network_is_the_masked_one(drawn: tuple) -> None:
    model, units, masks, images = drawn
    assert units.items() <= {name: link.units for name, link in consumers(model, images).items()}.items()
    masked, compacted, account = (
        prune(model, masks, images),
        compact(model, masks, images),
        removal(model, masks, images),
    )
    with torch.no_grad():
        torch.testing.assert_close(compacted(images), masked(images), atol=CLOSE, rtol=CLOSE)
    assert sum(value.numel() for value in compacted.parameters()) == account.parameters_after
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    for what, expected in (("parameters", account.parameters_after), ("multiply_adds", account.multiply_adds_after)):
        terms = cost_terms(model, list(masks), images, what)
        assert sum(cost * kept.get(p or "", 1) * kept.get(c or "", 1) for p, c, cost in terms) == expected
    assert removal(compacted, {}, images).multiply_adds_before == account.multiply_adds_after


@given(drawn_networks())
@settings(max_examples=6, deadline=None)
def test_the_exported_program_is_the_compacted_network(drawn: tuple) -> None:
    model, _, masks, images = drawn
    compacted = compact(model, masks, images)
    exported = torch.export.export(compacted, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), compacted(images), atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("attention", ["torch", "fused"])
def test_onnx_runtime_gives_the_compacted_networks_logits(attention: str, tmp_path: Path) -> None:
    model = attention_network(attention, "glu layer", 3, 2, 4, 0)
    layer = "attention.inner" if attention == "torch" else "attention.qkv"
    masks = {layer: np.array([True, False, True]), "mlp.wide": np.array([False, True, True, True])}
    compacted = compact(model, masks, IMAGES)
    written = training.export_onnx(compacted, IMAGES[:1], tmp_path / "network.onnx")
    (found,) = InferenceSession(written.path).run(None, {"images": IMAGES.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, compacted(IMAGES), atol=1e-5)


def test_a_removed_head_is_the_network_without_its_term_of_the_projection() -> None:
    """Brute force: out_proj applied to the other heads' values alone, which torch's own layer computes."""
    model = attention_network("torch", "mlp", 3, 2, 4, 0)
    masks = {"attention.inner": np.array([True, False, True])}

    def without(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values = given[0].clone()
        values[..., 2:4] = 0
        return (values,)

    handle = model.get_submodule("attention.inner.out_proj").register_forward_pre_hook(without)
    with torch.no_grad(), parts_called(model):
        expected = model(IMAGES)
    handle.remove()
    with torch.no_grad():
        torch.testing.assert_close(prune(model, masks, IMAGES)(IMAGES), expected, atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize(
    ("attention", "layer", "kind"),
    [
        ("torch", "attention.inner", FewerHeads),
        ("fused", "attention.qkv", nn.Linear),
        ("chunked", "attention.qkv", PlacedLinear),
    ],
)
def test_heads_are_really_gone(attention: str, layer: str, kind: type[nn.Module]) -> None:
    model = attention_network(attention, "mlp", 3, 2, 4, 0)
    compacted = compact(model, {layer: np.array([True, False, True])}, IMAGES)
    found = compacted.get_submodule(layer)
    assert type(found) is kind
    weight = found.in_proj_weight if isinstance(found, FewerHeads) else found.weight
    assert weight.shape == (3 * 4, 6)
    if attention == "fused":
        assert (model.attention.heads, compacted.attention.heads) == (3, 2)
    if kind is not PlacedLinear:
        again = compact(compacted, {layer: np.array([True, False])}, IMAGES)
        both = compact(model, {layer: np.array([True, False, False])}, IMAGES)
        with torch.no_grad():
            torch.testing.assert_close(again(IMAGES), both(IMAGES), atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_encoder_of_torch_loses_heads_and_units(norm_first: bool, activation: str, batch_first: bool) -> None:
    class Encoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            one = nn.TransformerEncoderLayer(
                6, 2, 8, activation=activation, batch_first=batch_first, norm_first=norm_first
            )
            self.encoder = nn.TransformerEncoder(one, 2, enable_nested_tensor=False)
            self.output = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x if batch_first else x.transpose(0, 1)
            return self.output(self.encoder(x).mean(1 if batch_first else 0))

    torch.manual_seed(0)
    model = Encoded().eval()
    layers = [f"encoder.layers.{k}.{part}" for k in (0, 1) for part in ("self_attn", "linear1")]
    assert set(consumers(model, TOKENS_ALONE)) == set(layers)
    masks = {name: np.arange(2 if name.endswith("attn") else 8) % 2 == 0 for name in layers}
    compacted = compact(model, masks, TOKENS_ALONE)
    with torch.no_grad():
        expected = prune(model, masks, TOKENS_ALONE)(TOKENS_ALONE)
        torch.testing.assert_close(compacted(TOKENS_ALONE), expected, atol=CLOSE, rtol=CLOSE)
    compacted.train()(TOKENS_ALONE).sum().backward()
    refitted = refit_layers(model, masks, TOKENS_ALONE)
    assert "encoder.layers.0.self_attn.out_proj" in refitted.layers


def test_the_projection_behind_removed_heads_is_fitted_anew() -> None:
    model = build("vit_tiny", input_shape=(1, 8, 8), classes=3, seed=0).eval()
    images = torch.rand(20, 1, 8, 8)
    masks = {f"block{k}.attention": np.array([True, False, True, False]) for k in (1, 2, 3, 4)}
    found = refit_layers(model, masks, images)
    assert {f"block{k}.attention.out_proj" for k in (1, 2, 3, 4)} <= found.layers.keys()
    assert "block2.attention" in found.left
    assert "block1.attention" not in found.left
    first = found.layers["block1.attention.out_proj"]
    assert first.error_after < first.error_before
    assert first.columns == 32
    zeros = removed_entries(model, masks, images[:1])
    state = found.network.state_dict()
    assert all(not bool(state[name][gone].any()) for name, gone in zeros.items())
    with torch.no_grad():
        expected, cut = model(images), prune(model, masks, images[:1])(images)
        assert float((found.network(images) - expected).norm()) < float((cut - expected).norm())


def test_every_rule_ranks_heads_by_its_own_measure() -> None:
    model = attention_network("torch", "swiglu of one", 3, 2, 4, 0)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    layers = ("attention.inner", "mlp.wide")
    evidence = Evidence(model, IMAGES, labels, layers)
    found = {rule: training.draw_scores(rule, evidence, 1)[0] for rule in training.RULES if rule != "critical"}
    assert {name: len(each) for name, each in found["l2_norm"].items()} == {"attention.inner": 3, "mlp.wide": 4}
    rows = model.attention.inner.in_proj_weight.detach().double().reshape(3, 3, 2, 6)
    np.testing.assert_allclose(found["l2_norm"]["attention.inner"], rows.square().sum((0, 2, 3)).sqrt(), rtol=1e-6)
    for name, scores in found.items():
        assert all(np.isfinite(each).all() for each in scores.values()), name


def test_the_response_of_a_head_is_what_the_projection_reads_and_its_gradient() -> None:
    model = attention_network("torch", "mlp", 3, 2, 4, 0)
    split = Split(IMAGES, torch.tensor([0, 1, 2, 0, 1, 2]))
    (found,) = responses(model, split, ["attention.inner"], batch_size=6, device="cpu")
    kept: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        given[0].retain_grad()
        kept.append(given[0])

    handle = model.get_submodule("attention.inner.out_proj").register_forward_pre_hook(keep)
    with parts_called(model):
        cross_entropy(model(split.images), split.labels, reduction="sum").backward()
    handle.remove()
    for values, expected in (
        (found["attention.inner"].activation, kept[0]),
        (found["attention.inner"].gradient, kept[0].grad),
    ):
        apart = expected.detach().unflatten(-1, (3, 2)).permute(0, 2, 1, 3)
        np.testing.assert_allclose(values.sum(2), apart.sum((2, 3)), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "mask", "message"),
    [
        ("attention.inner", np.array([True, False]), "one bool for each of its 3 units is needed"),
        ("attention.inner", np.zeros(3, bool), "removes all 3 units"),
        ("mlp.wide", np.array([True, False]), "one bool for each of its 4 units is needed"),
        ("mlp.wide", np.arange(8) > 1, "one bool for each of its 4 units is needed"),
        ("mlp.wide", np.ones(2, bool), "one bool for each of its 4 units is needed"),
    ],
)
def test_masks_of_another_length_are_refused(layer: str, mask: np.ndarray, message: str) -> None:
    model = attention_network("torch", "glu layer", 3, 2, 4, 0)
    with pytest.raises(MaskError, match=message):
        prune(model, {layer: mask}, IMAGES)


def test_a_compacted_network_without_heads_is_saved_and_loaded(tmp_path: Path) -> None:
    model = build("vit_tiny", input_shape=(1, 8, 8), classes=3, seed=0).eval()
    images = torch.rand(4, 1, 8, 8)
    masks = {"block1.attention": np.array([True, False, True, False]), "block2.fc1": np.arange(128) < 60}
    compacted = compact(model, masks, images)
    save_compact(compacted, masks, (1, 8, 8), tmp_path / "compact.pt", model="vit_tiny")
    loaded = load_compact(tmp_path / "compact.pt")
    with torch.no_grad():
        assert torch.equal(loaded(images), compacted(images))
    written = attention_network("fused", "glu layer", 3, 2, 4, 0)
    few = {"attention.qkv": np.array([True, False, True]), "mlp.wide": np.arange(4) > 0}
    assert compact(written, few, IMAGES).get_submodule("attention.qkv").out_features == 12


class Cropping(nn.Module):
    """Attention that reads some tokens alone, beside numbers that are none of heads."""

    def __init__(self, number: str) -> None:
        super().__init__()
        self.heads, self.number, self.patience = 4, number, 4
        self.most = 4
        self.qkv, self.proj, self.output = nn.Linear(6, 24), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, : self.most] if self.number == "tokens" else x
        q, k, v = self.qkv(x).reshape(len(x), -1, 3, self.heads, 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.output(self.proj(mixed).mean(1))


@pytest.mark.parametrize("number", ["tokens", "nothing"])
def test_only_the_number_that_the_forward_needs_smaller_is_lowered(number: str) -> None:
    torch.manual_seed(0)
    model, few, many = Cropping(number).eval(), torch.rand(3, 2, 6), torch.rand(3, 7, 6)
    masks = {"qkv": np.array([True, False, True, False])}
    compacted = compact(model, masks, few)
    assert (compacted.heads, compacted.most, compacted.patience) == (2, 4, 4)
    with torch.no_grad():
        expected = prune(model, masks, few)(many)
        torch.testing.assert_close(compacted(many), expected, atol=CLOSE, rtol=CLOSE)


def test_numbers_around_a_gated_layer_stay() -> None:
    model = attention_network("torch", "glu layer", 3, 2, 4, 0)
    model.mlp.patience = 4
    compacted = compact(model, {"mlp.wide": np.array([True, False, True, False])}, IMAGES)
    assert compacted.mlp.patience == 4
