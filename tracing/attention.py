"""torch's attention and encoder layers written out as calls that can be followed, where torch makes one fused call.

    head_j = softmax(Q_j K_j' / sqrt(d)) V_j,    Q_j, K_j, V_j = rows j d .. (j + 1) d - 1 of the three projections
    attention = out_proj(head_1, ..., head_h)

The columns of `out_proj` that read a head are the place where it can be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Forward = Callable[..., Any]


class FewerHeads(nn.MultiheadAttention):
    """An attention layer with some of another's heads; its projections are as wide as the heads that it has.

    The state dict has the names of the layer that it is made from. Masks may be [queries, keys] alone.
    """

    def __init__(self, layer: nn.MultiheadAttention, kept: Tensor) -> None:
        """Of a layer that `is_followed`; `kept` is a bool for each of its heads. The weights are copies."""
        nn.Module.__init__(self)
        for name in ("embed_dim", "kdim", "vdim", "dropout", "batch_first", "head_dim", "add_zero_attn"):
            setattr(self, name, getattr(layer, name))
        self.num_heads = int(kept.sum())
        # What keeps an encoder layer of torch from its fused call, which takes heads for the whole width.
        self._qkv_same_embed_dim = False
        rows = kept.repeat_interleave(layer.head_dim).repeat(3)
        for name, value in (("in_proj_weight", layer.in_proj_weight), ("in_proj_bias", layer.in_proj_bias)):
            some = None if value is None else nn.Parameter(value.detach()[rows].clone(), value.requires_grad)
            self.register_parameter(name, some)
        for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            self.register_parameter(name, None)
        self.bias_k = self.bias_v = None
        self.out_proj = layer.out_proj
        self.train(layer.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As the forward of `nn.MultiheadAttention`, see `attended`."""
        return attended(
            self, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        )


def is_followed(layer: nn.Module) -> TypeGuard[nn.MultiheadAttention]:
    """Whether a layer is attention of torch's own forward whose heads are rows of one weight, and nothing else."""
    return (
        isinstance(layer, nn.MultiheadAttention)
        and type(layer).forward in (nn.MultiheadAttention.forward, FewerHeads.forward)
        and layer.in_proj_weight is not None
        and layer.bias_k is None
        and layer.bias_v is None
        and not layer.add_zero_attn
    )


def written_out(
    layer: nn.Module, given: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None
) -> Forward | None:
    """A forward that computes what the layer's own does, by calls of its parts; None where there is none.

    Args:
        layer: of any kind.
        given, named: what the forward is called with.
    """
    if is_followed(layer):
        padding, mask = _argument(given, named, 3, "key_padding_mask"), _argument(given, named, 5, "attn_mask")
        plain = padding is None and (mask is None or (isinstance(mask, Tensor) and mask.ndim == 2))
        return partial(attended, layer) if plain else None
    if zeroes_padding(layer, given, named):
        return None
    found = next((made for kind, made in ENCODERS.items() if type(layer).forward is kind.forward), None)
    return None if found is None else partial(found, layer)


def zeroes_padding(layer: nn.Module, given: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None) -> bool:
    """Whether an encoder of torch may put 0 at padded tokens, as it does with nested tensors and not without.

    It takes nested tensors in evaluation mode without gradients, where every image of the batch is padded at its end.

    Args:
        layer: of any kind.
        given, named: what the forward is called with.
    """
    if type(layer).forward is not nn.TransformerEncoder.forward or not getattr(layer, "use_nested_tensor", False):
        return False
    mask, padding = _argument(given, named, 1, "mask"), _argument(given, named, 2, "src_key_padding_mask")
    return mask is None and padding is not None


@contextmanager
def parts_called(model: nn.Module) -> Iterator[None]:
    """Inside the block, attention and encoder layers call their parts, so that hooks on these see what they read.

    Args:
        model: as it was behind the block.
    """
    with ExitStack() as stack:
        for layer in model.modules():
            if written_out(layer) is not None and "forward" not in vars(layer):
                layer.forward = partial(_as_it_fits, layer)
                stack.callback(delattr, layer, "forward")
        yield


def _as_it_fits(layer: nn.Module, *given: Any, **named: Any) -> Any:
    made = written_out(layer, given, named)
    return type(layer).forward(layer, *given, **named) if made is None else made(*given, **named)


def attended(
    layer: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The forward of an attention layer that `is_followed`, by calls of its parts.

    Args:
        layer: whose weights are used.
        query, key, value, need_weights, average_attn_weights: as for torch's.
        key_padding_mask: None.
        attn_mask: [queries, keys] or None.
        is_causal: a hint that the mask is causal, which is computed by the mask.

    Raises:
        ValueError: a mask of another kind.
        RuntimeError: `is_causal` without a mask, as torch's.
    """
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    if key_padding_mask is not None or (attn_mask is not None and attn_mask.ndim != 2):
        raise ValueError("attention without some heads takes no key_padding_mask and masks [queries, keys] alone")
    queries, keys, values = (_heads(layer, each) for each in _projected(layer, query, key, value))
    dropout = layer.dropout if layer.training else 0.0
    mask = attn_mask.logical_not() if attn_mask is not None and attn_mask.dtype == torch.bool else attn_mask
    if not need_weights:
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
        return layer.out_proj(_merged(layer, mixed)), None
    products = queries @ keys.transpose(-2, -1) * layer.head_dim**-0.5
    if mask is not None:
        products = products.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else products + mask
    weights = F.dropout(torch.softmax(products, -1), dropout, layer.training)
    mixed = weights @ values
    return layer.out_proj(_merged(layer, mixed)), weights.mean(-3) if average_attn_weights else weights


def _projected(layer: nn.MultiheadAttention, *given: Tensor) -> list[Tensor]:
    """Queries, keys and values, each [..., width]: what is the same is projected once."""
    made: dict[int, tuple[Tensor, ...]] = {}
    for each in given:
        if id(each) not in made:
            made[id(each)] = F.linear(each, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    return [made[id(each)][which] for which, each in enumerate(given)]


def _heads(layer: nn.MultiheadAttention, values: Tensor) -> Tensor:
    """[images, heads, tokens, d] of [images, tokens, width], or of [tokens, images, width]; images may be missing."""
    # torch leaves the method without types.
    apart: Tensor = values.unflatten(-1, (layer.num_heads, layer.head_dim))  # type: ignore[no-untyped-call]
    return apart.transpose(-3, -2) if layer.batch_first else apart.movedim(0, -2)


def _merged(layer: nn.MultiheadAttention, heads: Tensor) -> Tensor:
    return (heads.transpose(-3, -2) if layer.batch_first else heads.movedim(-2, 0)).flatten(-2)


def _encoded_layer(
    layer: nn.TransformerEncoderLayer,
    src: Tensor,
    src_mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """An encoder layer's forward without its fused call."""

    def attention(x: Tensor) -> Tensor:
        return layer._sa_block(x, src_mask, src_key_padding_mask, is_causal)

    if layer.norm_first:
        src = src + attention(layer.norm1(src))
        return src + layer._ff_block(layer.norm2(src))
    src = layer.norm1(src + attention(src))
    made: Tensor = layer.norm2(src + layer._ff_block(src))
    return made


def _encoded(
    encoder: nn.TransformerEncoder,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Tensor:
    """An encoder's forward, layer after layer."""
    for layer in encoder.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
    made: Tensor = src if encoder.norm is None else encoder.norm(src)
    return made


ENCODERS: Mapping[type[nn.Module], Forward] = {
    nn.TransformerEncoderLayer: _encoded_layer,
    nn.TransformerEncoder: _encoded,
}


def _argument(given: tuple[Any, ...], named: Mapping[str, Any] | None, place: int, name: str) -> Any:
    return given[place] if len(given) > place else (named or {}).get(name)
