"""Explicit attention: products and a softmax in place of fused kernels, which have no derivatives forwards."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class ExplicitAttention(TorchFunctionMode):
    """Inside the block, attention is computed by operations that torch differentiates in both directions."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            return torch._scaled_dot_product_attention_math(*args[:3], **_with_added_mask(args, named))[0]
        if func is F.multi_head_attention_forward and named.get("need_weights") is False:
            return func(*args, **(named | {"need_weights": True}))[0], None
        return func(*args, **named)


def _with_added_mask(args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments behind query, key and value, with 0 and -inf for a mask of bools, which torch's would add as 1."""
    named = dict(zip(("attn_mask", "dropout_p", "is_causal"), args[3:], strict=False)) | named
    mask = named.get("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        query = args[0] if args else named["query"]
        named["attn_mask"] = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    return named
