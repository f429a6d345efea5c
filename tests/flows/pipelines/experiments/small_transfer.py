"""A transfer small enough for tests: digits of 8x8 pixels to coloured pictures of three classes."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.flows.small_run import PATTERN

WORDS = {
    **{"dataset": "digits", "image_size": "8", "model": "fc2", "epochs": "3", "rewind_epochs": "1"},
    **{"images_per_class": "1", "scoring_sets": "2", "draws": "2", "seeds": "2"},
    **PATTERN,
}


def write_pictures(place: Path) -> str:
    """Pictures of three classes, each brighter in another third; the data set's name."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("left", "middle", "right")):
        (place / name).mkdir()
        for number in range(40):
            pixels = rng.integers(0, 120, (10, 12, 3), dtype=np.uint8)
            pixels[:, 4 * label : 4 * label + 4] += 100
            Image.fromarray(pixels).save(place / name / f"{number}.png")
    return f"folder:{place}"
