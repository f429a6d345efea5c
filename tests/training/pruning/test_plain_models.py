from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from training import compact, prune, refit
from training.errors import UnsupportedGraph

IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
MASKS = {"1": np.arange(8) > 2}


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def weight_normed() -> nn.Module:
    made = model()
    torch.nn.utils.parametrizations.weight_norm(made[1])
    return made


def masked() -> nn.Module:
    made = model()
    torch.nn.utils.prune.l1_unstructured(made[1], "weight", 0.3)
    return made


NOT_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: torch.compile(model(), backend="eager"),  # type: ignore[dict-item,return-value]
    "data parallel": lambda: nn.DataParallel(model()),
    "weight norm": weight_normed,
    "masked by torch": masked,
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_score_refuses_prune_compact_and_refit_refuse_in_the_same_words(what: str) -> None:
    from formulation import InvalidModel, ScoreSettings, score

    network, said = NOT_PLAIN[what](), []
    with pytest.raises(InvalidModel) as refusal:
        score(network, IMAGES, torch.zeros(6, dtype=torch.int64), ScoreSettings())
    for verb in (prune, compact, refit):
        with pytest.raises(UnsupportedGraph) as other:
            verb(network, MASKS, IMAGES)
        said.append(str(other.value))
    assert said == [str(refusal.value)] * 3
