"""The mask program by the settings: as many units as a share leaves, and what it proves in the result."""

import pytest
import torch
from torch import nn

import formulation
from flows.adapters import choice_in_words, choose_within_share, log_mask_program, needs_importance, plan_of, select
from flows.cache import StageResult
from flows.config import Settings
from flows.errors import SettingsError
from training import ScoringSet

WIDTHS = {"1": 12, "3": 8}
SETTINGS = Settings(selection="program", share=0.5, leave_alone="3", refit_weight=0.5)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)]
    return nn.Sequential(*layers).eval()


def images() -> ScoringSet:
    pixels = torch.rand((30, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    return ScoringSet(pixels, network()(pixels).argmax(dim=1), torch.arange(30))


def test_it_keeps_what_a_share_leaves_of_each_layer_and_logs_what_is_proved() -> None:
    selection, solution = choose_within_share(SETTINGS, network(), images(), WIDTHS)
    assert {layer: int(mask.sum()) for layer, mask in selection.masks.items()} == {"1": 6, "3": 8}
    assert solution.certificate.settings["refit_weight"] == 0.5
    scoring = images()
    formulation.check_mask(network(), scoring.images, scoring.labels, solution)
    result = StageResult()
    log_mask_program(result, solution)


def test_other_stages_and_steps_refuse_it() -> None:
    with pytest.raises(SettingsError, match="one_shot alone"):
        select(SETTINGS, {}, {}, None)
    with pytest.raises(SettingsError, match="cannot be taken in steps"):
        plan_of(SETTINGS, WIDTHS, None)
    assert not needs_importance(SETTINGS)
    assert "mask program" in choice_in_words(SETTINGS)
