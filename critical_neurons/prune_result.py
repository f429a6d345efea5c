"""Prune result: the smaller network, what went, what it cost, and what is proved."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from critical_neurons.score_result import ScoreResult, proved_of_scores
from training import Masks, Removal


@dataclass(frozen=True, eq=False)
class PruneResult:
    """A pruned network and the account of its removal; plain data that can be pickled.

    Attributes:
        network: the smaller torch module, of the same classes, on the CPU in evaluation mode.
        masks: by layer, bool per unit: True = kept.
        removal: units, parameters and multiply-adds before and after, by layer too.
        accuracy_before, accuracy: of the dense network and of the smaller one, on the images held back, in [0, 1];
            R^2, at most 1, where the scores read quantities.
        accuracy_without_refit: of the same units' removal alone.
        refitted: whether the survivors were fitted anew.
        images: how many were held back to measure accuracy.
        asked: how much was to go, in words.
        tried: how many networks were looked at.
        seconds: that the call took; of scoring too, where it scored.
        scores: what ranked the units; None where a ranking was given.
        notes: what a reader must know.
        measure: what the accuracies are: `accuracy`, or `R^2`.
    """

    network: nn.Module
    masks: Masks
    removal: Removal
    accuracy_before: float
    accuracy: float
    accuracy_without_refit: float
    refitted: bool
    images: int
    asked: str
    tried: int
    seconds: float
    scores: ScoreResult | None
    notes: tuple[str, ...] = ()
    measure: str = "accuracy"

    def __str__(self) -> str:
        gone, points = self.removal, 100 * (self.accuracy - self.accuracy_before)
        refit = "survivors refitted" if self.refitted else "no refit kept"
        networks = "1 network" if self.tried == 1 else f"{self.tried} networks"
        rows = [
            ("units", gone.units_total, gone.units_total - gone.units_removed),
            ("parameters", gone.parameters_before, gone.parameters_after),
            ("multiply-adds", gone.multiply_adds_before, gone.multiply_adds_after),
        ]
        held = f"{points:+.2f} points on {self.images} images held back"
        measured = "the accuracies" if self.measure == "accuracy" else f"every {self.measure}"
        lines = [
            f"{'':<14} {'dense':>14} {'pruned':>14}",
            f"{self.measure:<14} {self.accuracy_before:>14.2%} {self.accuracy:>14.2%}   {held}",
            f"{'  without refit':<29} {self.accuracy_without_refit:>14.2%}",
            *(f"{name:<14} {before:>14,} {after:>14,}   {after / before:.1%} stay" for name, before, after in rows),
            "",
            *(f"{layer:<20} {int(mask.sum()):>6} of {len(mask)} units stay" for layer, mask in self.masks.items()),
            "",
            f"asked: {self.asked}; {refit}; {networks} tried, {self.seconds:.1f} s in all",
            f"proved: {self.proved}",
            f"measured, not proved: {measured}" + (", which chose among them" if self.tried > 1 else ""),
            *self.notes,
        ]
        return "\n".join(lines)

    @property
    def proved(self) -> str:
        """What is proved about the ranking; that a certificate speaks of scores, not of accuracy, is said with it."""
        if self.scores is None:
            return "nothing, the ranking was given"
        return f"of the scores, {proved_of_scores(self.scores.certificate)}"
