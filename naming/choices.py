"""Choices that the command line and the program share: each word is written here, once."""

from __future__ import annotations

from typing import Literal

GateName = Literal["published", "pattern", "linear", "exact"]
LayerWeight = Literal["units", "kernel", "network", "total"]
CutForm = Literal["tangent", "lifted"]
ScoreLoss = Literal["cross_entropy", "squared"]
DerivativesOf = Literal["auto", "lowering", "autograd"]

FIRST_ORDER: tuple[GateName, ...] = ("pattern", "linear")  # phases and picks are those of the unpruned network
