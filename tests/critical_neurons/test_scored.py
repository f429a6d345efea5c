"""The verb score: the library's scores from a loader, explained, kept, and printed."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import critical_neurons as cn
import formulation
from critical_neurons import ScoreResult
from formulation import InvalidImages, InvalidModel, InvalidSetting, InvalidSolution, SolverUnavailable
from training import DataError, Dataset, LabelError


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
        assert again.explain(network.train(), most=1) == scored.explain(most=1)
        network.eval()
        with pytest.raises(InvalidSolution, match="give the one that was scored"):
            again.explain()
    with pytest.raises(InvalidSolution, match="is no folder of scores"):
        cn.load_scores(tmp_path / "nowhere")
    (tmp_path / "scores" / "scoring_set.npz").write_bytes(b"damaged")
    with pytest.raises(InvalidSolution, match="cannot be read") as raised:
        cn.load_scores(tmp_path / "scores")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("verb", [cn.score, cn.prune], ids=["score", "prune"])
def test_what_is_no_plain_module_is_refused_before_it_is_called(verb: Callable[..., object], digits: Dataset) -> None:
    with torch.device("meta"):
        meta = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    for model, says in ((meta, "meta device"), (lazy, "without a shape yet"), (meta.state_dict(), "is a OrderedDict")):
        with pytest.raises(InvalidModel, match=says):
            verb(model, digits.train)


def test_settings_are_changed_by_name_and_refused_in_the_librarys_words(network: nn.Module, digits: Dataset) -> None:
    small = cn.score(network, digits.train, images=10, loss_weight=0.5)
    assert small.certificate.settings["loss_weight"] == 0.5
    with pytest.raises(InvalidSetting, match=r"score takes no loss_wieght \(did you mean 'loss_weight'"):
        cn.score(network, digits.train, loss_wieght=1.0)
    with pytest.raises(InvalidSetting, match=r"loss_weight=-1\.0 is out of range"):
        cn.score(network, digits.train, loss_weight=-1.0)
    with pytest.raises(SolverUnavailable, match="'none' is not installed"):
        cn.score(network, digits.train, images=10, solver="none")
    far = (2 * digits.train.images, digits.train.labels)
    with pytest.raises(InvalidImages, match="outside pixel_range"):
        cn.score(network, far, images=10, gate="published", radius=1e-3)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (
            lambda x: x,
            lambda y: (y + 1) % 10,
            "right about .* are these the labels, the order of classes",
        ),
        (lambda x: x * 255, lambda y: y, "the network is right about|were asked for"),
        (lambda x: x[:30], lambda y: y[:30], "scored on [0-9]+ images, 200 were asked for"),
        (lambda x: x, lambda y: y.clamp(max=7), "no image of class 8, 9 speaks"),
    ],
    ids=["labels", "pixels", "few", "classes"],
)
def test_images_that_make_the_scores_doubtful_are_a_warning_and_a_note_that_is_kept(
    network: nn.Module, digits: Dataset, tmp_path: Path, images: Any, labels: Any, said: str
) -> None:
    data = (images(digits.train.images[:300]), labels(digits.train.labels[:300]))
    with pytest.warns(cn.DoubtfulScores, match=said):
        found = cn.score(network, data)
    assert any(re.search(said, note) for note in found.notes)
    assert "doubtful: " in str(found)
    assert cn.load_scores(found.save(tmp_path / "scores")).notes == found.notes


def test_a_program_that_was_not_solved_to_its_gap_makes_the_scores_doubtful(
    network: nn.Module, digits: Dataset
) -> None:
    with pytest.warns(
        cn.DoubtfulScores, match="the program ended by round_limit at a gap of .*; raise time_limit or max"
    ):
        found = cn.score(network, digits.train, images=50, max_rounds=2)
    assert found.certificate.status == "round_limit"
    assert "doubtful: the program ended by round_limit" in str(found)
    with pytest.warns(cn.DoubtfulScores, match="the program ended by round_limit"):
        pruned = cn.prune(network, digits.train, share=0.5, images=50, max_rounds=2)
    assert any("the program ended by round_limit" in note for note in pruned.notes)


def test_scores_of_units_that_cannot_be_removed_say_so(digits: Dataset, tmp_path: Path) -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(784, 6), nn.Linear(6, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(torch.cumsum(torch.relu(self.first(x.flatten(1))), 1))
            return y

    network = Summed().eval()
    images = digits.train.images[:60]
    with torch.no_grad():
        labels = network(images).argmax(1)
    with (
        pytest.warns(cn.DoubtfulScores),
        pytest.warns(cn.UnremovableUnits, match="none of these units can be removed: layer 'first'.* 'cumsum'"),
    ):
        found = cn.score(network, (images, labels), images=20)
    assert list(found.unremovable) == ["first"]
    assert str(found).splitlines()[-1].startswith("cannot be removed: layer 'first'")
    assert cn.load_scores(found.save(tmp_path / "scores")).unremovable == {}


def test_images_of_a_network_that_knows_them_are_no_matter_of_doubt(scored: ScoreResult) -> None:
    assert scored.notes == ()
    assert scored.unremovable == {}


def test_labels_from_one_and_pixels_that_are_nan_are_told_apart_from_other_faults(
    network: nn.Module, digits: Dataset
) -> None:
    images, labels = digits.train.images[:50].clone(), digits.train.labels[:50]
    with pytest.raises(LabelError, match=r"label 10 is out of range.*; labels that begin at 1 become"):
        cn.score(network, (images, labels + 1))
    images[7, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="image 7 of a batch holds NaN or infinite values"):
        cn.score(network, (images, labels))


def test_an_explanation_is_printed_as_a_table(scored: ScoreResult) -> None:
    pulls = scored.explain(most=1)
    lines = str(pulls).splitlines()
    assert len(lines) == 1 + len(pulls)
    assert lines[1].startswith(f"{pulls[0].layer}[{pulls[0].unit}]")
    assert f"image {pulls[0].image} of the scoring set, of class {pulls[0].label}" in lines[1]


def test_whoever_asks_is_told_line_by_line(network: nn.Module, digits: Dataset) -> None:
    said: list[str] = []
    cn.score(network, digits.train, images=20, progress=said.append)
    assert said[0] == "score    20 images"
    assert said[-1].startswith(f"score    round {len(said) - 2}: objective ")
