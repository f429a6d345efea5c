"""Usual values of settings that the program, the public face and the flows share: each is written here, once.

With these the scores of LeNet-5 and FC-3 agree between sets of images (docs/results/robustness.md).
"""

from __future__ import annotations

from naming.choices import GateName

USUAL_GATE: GateName = "linear"
USUAL_LOSS_WEIGHT = 0.1
USUAL_RADIUS = 0.0  # a gate of first order is defined at no other
USUAL_IMAGES_PER_CLASS = 20
USUAL_IMAGES = 10 * USUAL_IMAGES_PER_CLASS  # of ten classes, where their number is not known
USUAL_TOLERANCE = 0.5  # points of accuracy that a removal may cost
USUAL_REFIT_IMAGES = 1000
