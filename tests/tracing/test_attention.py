"""torch's attention and encoder layers written out: the same values, their parts called, fewer heads."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from tracing import FewerHeads, Untraceable, is_followed, parts_called, trace
from tracing.attention import attended

CLOSE = 1e-5


def layer(*, batch_first: bool = True, bias: bool = True) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(6, 3, batch_first=batch_first, bias=bias).eval()
    with torch.no_grad():
        for value in made.parameters():
            value.normal_()
    return made


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", [None, torch.eye(4, 5, dtype=torch.bool), torch.arange(20.0).reshape(4, 5)])
def test_written_out_attention_is_torchs(
    batch_first: bool, bias: bool, need_weights: bool, mask: Tensor | None
) -> None:
    made = layer(batch_first=batch_first, bias=bias)
    query, key, value = torch.rand(2, 4, 6), torch.rand(2, 5, 6), torch.rand(2, 5, 6)
    if not batch_first:
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    with torch.no_grad():
        expected, weights = made(query, key, value, need_weights=need_weights, attn_mask=mask)
        found, others = attended(made, query, key, value, need_weights=need_weights, attn_mask=mask)
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=CLOSE)
    assert (weights is None) == (others is None)
    if weights is not None:
        torch.testing.assert_close(others, weights, atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_sequence_without_images_is_taken(batch_first: bool) -> None:
    made, tokens = layer(batch_first=batch_first), torch.rand(5, 6)
    with torch.no_grad():
        found, expected = attended(made, tokens, tokens, tokens)[0], made(tokens, tokens, tokens)[0]
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_fewer_heads_are_the_layer_whose_other_heads_have_no_weights(batch_first: bool, bias: bool) -> None:
    made, kept = layer(batch_first=batch_first, bias=bias), torch.tensor([True, False, True])
    fewer = pickle.loads(pickle.dumps(FewerHeads(made, kept)))
    fewer.out_proj = nn.Linear(4, 6)
    columns = kept.repeat_interleave(2)
    with torch.no_grad():
        fewer.out_proj.weight.copy_(made.out_proj.weight[:, columns])
        fewer.out_proj.bias.zero_() if made.out_proj.bias is None else fewer.out_proj.bias.copy_(made.out_proj.bias)
        made.out_proj.weight[:, ~columns] = 0
        tokens = torch.rand(2, 5, 6)
        for need_weights in (False,):
            found, expected = (each(tokens, tokens, tokens, need_weights=need_weights)[0] for each in (fewer, made))
            torch.testing.assert_close(found, expected, atol=CLOSE, rtol=CLOSE)
    assert set(fewer.state_dict()) >= set(made.state_dict())
    assert (fewer.num_heads, fewer.head_dim, len(fewer.in_proj_weight)) == (2, 2, 12)


def test_fewer_heads_refuse_masks_that_are_not_of_queries_and_keys() -> None:
    made, tokens = layer(), torch.rand(2, 5, 6)
    fewer = FewerHeads(made, torch.tensor([True, True, True]))
    with pytest.raises(ValueError, match="no key_padding_mask"):
        fewer(tokens, tokens, tokens, key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))


@pytest.mark.parametrize(
    "options",
    [{"kdim": 4}, {"vdim": 4}, {"add_bias_kv": True}, {"add_zero_attn": True}],
    ids=lambda each: next(iter(each)),
)
def test_attention_whose_heads_are_not_rows_of_one_weight_is_left_as_it_is(options: dict) -> None:
    assert not is_followed(nn.MultiheadAttention(6, 3, **options))
    assert is_followed(layer())


class Encoded(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(6, 3, 8, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(one, 2, norm=nn.LayerNorm(6), enable_nested_tensor=False)
        self.output = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.encoder(x).mean(1))


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_is_traced_into_its_layers(norm_first: bool, activation: str) -> None:
    torch.manual_seed(0)
    model, images = Encoded(norm_first=norm_first, activation=activation).eval(), torch.rand(3, 5, 6)
    graph = trace(model, images)
    assert list(graph.attentions) == ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"]
    assert sum(node.target.endswith("linear1") for node in graph.nodes) == 2
    with torch.no_grad():
        torch.testing.assert_close(graph.module(images), model(images), atol=CLOSE, rtol=CLOSE)


def test_parts_are_called_inside_the_block_alone() -> None:
    model, images = Encoded().eval(), torch.rand(3, 5, 6)
    seen: list[tuple[int, ...]] = []
    attention = model.get_submodule("encoder.layers.0.self_attn.out_proj")
    handle = attention.register_forward_hook(lambda _, given, made: seen.append(tuple(given[0].shape)))
    with torch.no_grad():
        before = model(images)
        with parts_called(model):
            inside = model(images)
        assert seen == [(3, 5, 6)]
        model(images)
    handle.remove()
    assert seen == [(3, 5, 6)]
    torch.testing.assert_close(inside, before, atol=CLOSE, rtol=CLOSE)
    assert not any("forward" in vars(part) for part in model.modules())


class Padded(nn.Module):
    """An encoder of torch whose padded tokens are told by their first number."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(one, 2, **options)
        self.output = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.encoder(x, src_key_padding_mask=x[..., 0] > 2).mean(1))


def padded_tokens() -> Tensor:
    images = torch.rand(3, 5, 6)
    images[1, 3:, 0] = 3.0
    images[2, 4:, 0] = 3.0
    return images


def test_an_encoder_that_puts_0_at_padded_tokens_in_some_passes_alone_is_refused() -> None:
    torch.manual_seed(0)
    model, images = Padded().eval(), padded_tokens()
    with torch.no_grad():
        fast = model(images)
    assert float((fast - model(images)).abs().max()) > 0.01  # torch's own two forwards differ
    with pytest.raises(Untraceable, match=r"'encoder'.*use_nested_tensor = False"):
        trace(model, images)
    model.encoder.use_nested_tensor = False
    assert trace(model, images).module is not None


def test_an_encoder_without_nested_tensors_is_traced_with_its_padding() -> None:
    torch.manual_seed(0)
    model, images = Padded(enable_nested_tensor=False).eval(), padded_tokens()
    graph = trace(model, images)
    with torch.no_grad():
        torch.testing.assert_close(graph.module(images), model(images), atol=CLOSE, rtol=CLOSE)
    with torch.no_grad(), parts_called(model):
        inside = model(images)
    torch.testing.assert_close(inside, model(images), atol=CLOSE, rtol=CLOSE)


def test_fewer_heads_refuse_a_hint_of_causality_without_a_mask_as_torch_does() -> None:
    made, tokens = layer(), torch.rand(2, 5, 6)
    fewer = FewerHeads(made, torch.tensor([True, False, True]))
    for each in (made, fewer):
        with pytest.raises(RuntimeError, match="Need attn_mask"):
            each(tokens, tokens, tokens, is_causal=True, need_weights=False)
