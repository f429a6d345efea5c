"""The public face: score, prune and hold a network of one's own, in a few lines, from any loader of images and labels.

It has no mathematics of its own: it wires `formulation` and `training`, and returns plain values that can be kept.
"""

from critical_neurons.held_units import HeldUnits, hold
from critical_neurons.loaders import DoubtfulScores, UnremovableUnits
from critical_neurons.prune_result import PruneResult
from critical_neurons.pruned import prune
from critical_neurons.score_result import Explanation, ScoreResult, load_scores
from critical_neurons.scored import DEFAULTS, PUBLISHED, score
from naming import __version__

__all__ = [
    "DEFAULTS",
    "PUBLISHED",
    "DoubtfulScores",
    "Explanation",
    "HeldUnits",
    "PruneResult",
    "ScoreResult",
    "UnremovableUnits",
    "__version__",
    "hold",
    "load_scores",
    "prune",
    "score",
]
