"""Ranking units: by a simple rule, or by the program on the network as it is by then."""

from dataclasses import dataclass, field

from torch import nn

import formulation
import training
from flows.settings import Settings
from flows.solving import solved
from flows.translation import device_of
from formulation import Certificate
from training import Dataset, Evidence, Masks, Scores, ScoringSet


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks the units of a network that may have lost some.

    Attributes:
        images: what the program sees.
        scores: the program's of the whole network, for rules about them.
        certificates: of what the program said so far, one per call.
    """

    settings: Settings
    dataset: Dataset
    images: ScoringSet
    scores: Scores
    certificates: list[Certificate] = field(default_factory=list)

    def __call__(self, network: nn.Module, masks: Masks) -> Scores:
        """One value per unit, higher = keep; raises FormulationError and TrainingError."""
        if self.settings.rule != "program":
            return rule_values(self.settings, self.settings.rule, network, self.dataset, self.scores)[0]
        images, labels = self.images.images, self.images.labels
        solution = solved(self.settings, network.eval(), images, labels)
        self.certificates.append(solution.certificate)
        return formulation.importance(solution)


def rule_values(
    settings: Settings, rule: str, network: nn.Module, dataset: Dataset, scores: Scores, draws: int = 1
) -> list[Scores]:
    """What a rule makes of the validation images: one value per unit of each layer that has scores, for each draw."""
    split, layers = dataset.validation, tuple(scores)
    evidence = Evidence(network, split.images, split.labels, layers, settings.seed, scores, device=device_of(settings))
    with training.torch_threads(settings.threads):
        return training.draw_scores(rule, evidence, draws)
