"""Refit: after a removal the surviving weights are fitted anew by least squares, without labels.

Gram matrices are streamed over images; whatever reads them (the refit, structured OBS) never holds activations.
"""

from training.pruning.refit.gram import Gram, gram_of, stream_gram, targets_of, unfold_columns, weight_columns
from training.pruning.refit.passes import Passes, passes_over
from training.pruning.refit.survivors import LayerRefit, Refitted, refit, refit_layers

__all__ = [
    "Gram",
    "LayerRefit",
    "Passes",
    "Refitted",
    "gram_of",
    "passes_over",
    "refit",
    "refit_layers",
    "stream_gram",
    "targets_of",
    "unfold_columns",
    "weight_columns",
]
