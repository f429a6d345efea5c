"""The verb score: the library's scores from a loader, explained, kept, and printed."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import critical_neurons as cn
import formulation
from critical_neurons import ScoreResult
from formulation import InvalidImages, InvalidSetting, InvalidSolution, SolverUnavailable
from training import Dataset


def test_the_scores_are_the_librarys_on_the_images_that_are_kept(network: nn.Module, scored: ScoreResult) -> None:
    solution = formulation.score(network, scored.images, scored.labels, cn.DEFAULTS)
    assert len(scored.labels) == 50
    for layer, values in solution.scores.items():
        np.testing.assert_array_equal(scored.scores[layer], values)
        np.testing.assert_array_equal(scored.importance[layer], formulation.importance(solution)[layer])
    assert scored.certificate.status == "optimal"
    assert scored.certificate.checked


def test_the_papers_program_is_had_by_one_word(
    network: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]]
) -> None:
    found = cn.score(network, loader, images=10, settings=cn.PUBLISHED, time_limit=100.0)
    assert found.certificate.status == "optimal"
    assert found.certificate.settings["gate"] == "published"
    assert found.certificate.settings["layer_weight"] == "kernel"


def test_a_loader_and_the_tensors_give_the_same(
    network: nn.Module, scored: ScoreResult, loader: DataLoader[tuple[torch.Tensor, ...]]
) -> None:
    network.train()
    again = cn.score(network, loader, images=50)
    assert network.training
    network.eval()
    assert torch.equal(again.images, scored.images)
    assert again.certificate.objective == scored.certificate.objective


def test_print_shows_every_layer_and_what_is_proved(scored: ScoreResult) -> None:
    lines = str(scored).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["1", "3"]
    first = int(np.argsort(-scored.importance["1"], kind="stable")[0])
    assert lines[1].split("  ")[-1].startswith(f"{first},")
    assert lines[-1].startswith("optimal: objective ")
    assert "recomputed without the solver; 50 images" in lines[-1]


def test_a_result_is_kept_in_a_folder_and_in_a_pickle_without_the_network(
    network: nn.Module, scored: ScoreResult, tmp_path: Path
) -> None:
    loaded = cn.load_scores(scored.save(tmp_path / "scores"))
    for again in (loaded, pickle.loads(pickle.dumps(scored))):
        assert again.network is None
        assert str(again) == str(scored)
        assert again.explain(network, most=1) == scored.explain(most=1)
        with pytest.raises(InvalidSolution, match="give the one that was scored"):
            again.explain()
    (tmp_path / "scores" / "scoring_set.npz").write_bytes(b"damaged")
    with pytest.raises(InvalidSolution, match="cannot be read") as raised:
        cn.load_scores(tmp_path / "scores")
    assert "\n" not in str(raised.value)


def test_settings_are_changed_by_name_and_refused_in_the_librarys_words(network: nn.Module, digits: Dataset) -> None:
    small = cn.score(network, digits.train, images=10, loss_weight=0.5)
    assert small.certificate.settings["loss_weight"] == 0.5
    with pytest.raises(InvalidSetting, match=r"loss_wieght is no setting of a score call \(did you mean 'loss_weight'"):
        cn.score(network, digits.train, loss_wieght=1.0)
    with pytest.raises(InvalidSetting, match=r"loss_weight=-1\.0 is out of range"):
        cn.score(network, digits.train, loss_weight=-1.0)
    with pytest.raises(SolverUnavailable, match="'none' is not installed"):
        cn.score(network, digits.train, images=10, solver="none")
    far = (2 * digits.train.images, digits.train.labels)
    with pytest.raises(InvalidImages, match="outside pixel_range"):
        cn.score(network, far, images=10, gate="published", radius=1e-3)
