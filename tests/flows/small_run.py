"""The settings of the one run that the tests share, small enough for seconds."""

from collections.abc import Callable

SMALL = {"epochs": "4", "images_per_class": "1", "scoring_sets": "2", "draws": "2", "threshold": "0.2"}

RunStage = Callable[..., str]
