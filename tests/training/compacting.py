"""The check of every compaction: against the masked network on 1,000 random images, and against the account."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.training.networks import drawn_masks, example
from training.digests import model_digest
from training.pruning import Masks, consumers, prune, removal
from training.pruning.compaction import compact
from training.pruning.compaction.layer_surgery import GroupwiseConv

IMAGES = 1000


def check(model: nn.Module, seed: int = 0, keep: float = 0.5, masks: Masks | None = None) -> nn.Module:
    """Compact at random masks: the masked network's outputs, and the cost that the account says."""
    images = example(model)
    masks = drawn_masks(model, list(consumers(model, images)), seed, keep) if masks is None else masks
    before = model_digest(model)
    compacted, account = compact(model, masks, images), removal(model, masks, images)
    drawn = example(model, IMAGES, seed=seed + 1)
    with torch.no_grad():
        torch.testing.assert_close(compacted(drawn), prune(model, masks, images)(drawn), atol=1e-5, rtol=0.0)
    assert sum(value.numel() for value in compacted.parameters()) == account.parameters_after
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        compacted(drawn[:1])
    assert counter.get_total_flops() // 2 == account.multiply_adds_after
    assert type(compacted) is type(model)
    if not any(isinstance(part, GroupwiseConv) for part in compacted.modules()):
        assert list(compacted.state_dict()) == list(model.state_dict())
    assert model_digest(model) == before
    return compacted
