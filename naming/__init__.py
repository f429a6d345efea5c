"""Names that people give, wherever they are read: the words of shared choices, what a misspelt name may mean, extras.

The lowest room: it knows Python alone, and all others may use it.
"""

from naming.choices import FIRST_ORDER, CutForm, DerivativesOf, GateName, LayerWeight
from naming.extras import EXTRAS, first_missing, install_command, missing_extra
from naming.nearest import did_you_mean

__version__ = "0.1.0"

__all__ = [
    "EXTRAS",
    "FIRST_ORDER",
    "CutForm",
    "DerivativesOf",
    "GateName",
    "LayerWeight",
    "did_you_mean",
    "first_missing",
    "install_command",
    "missing_extra",
]
