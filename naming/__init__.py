"""Names that people give, wherever they are read: the words and usual values of shared settings, near names, extras.

The lowest room: it knows Python alone, and all others may use it.
"""

from naming.choices import FIRST_ORDER, CutForm, DerivativesOf, GateName, LayerWeight, ScoreLoss
from naming.extras import EXTRAS, first_missing, install_command, missing_extra
from naming.nearest import did_you_mean
from naming.usual_values import (
    USUAL_GATE,
    USUAL_IMAGES,
    USUAL_IMAGES_PER_CLASS,
    USUAL_LOSS_WEIGHT,
    USUAL_RADIUS,
    USUAL_REFIT_IMAGES,
    USUAL_TOLERANCE,
)

__version__ = "0.1.0"

__all__ = [
    "EXTRAS",
    "FIRST_ORDER",
    "USUAL_GATE",
    "USUAL_IMAGES",
    "USUAL_IMAGES_PER_CLASS",
    "USUAL_LOSS_WEIGHT",
    "USUAL_RADIUS",
    "USUAL_REFIT_IMAGES",
    "USUAL_TOLERANCE",
    "CutForm",
    "DerivativesOf",
    "GateName",
    "LayerWeight",
    "ScoreLoss",
    "did_you_mean",
    "first_missing",
    "install_command",
    "missing_extra",
]
