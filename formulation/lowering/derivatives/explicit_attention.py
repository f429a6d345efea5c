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
            return torch._scaled_dot_product_attention_math(*args, **named)[0]
        if func is F.multi_head_attention_forward and named.get("need_weights") is False:
            return func(*args, **(named | {"need_weights": True}))[0], None
        return func(*args, **named)
