"""The benchmark of several masks goes on where it was interrupted, and finds the same."""

from dataclasses import replace
from pathlib import Path

import pytest

import training
from benchmarks import several_masks
from benchmarks.kept import keep, kept
from benchmarks.trained import train_all


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "found.json"
    assert kept(path, lambda: {"a": (1.0, 2.0)}) == {"a": [1.0, 2.0]}
    assert kept(path, pytest.fail) == {"a": [1.0, 2.0]}
    keep(path, "other")
    assert kept(path, pytest.fail) == "other"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_it_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several_masks, "NUMBER", 2)
    monkeypatch.setattr(several_masks, "EPOCHS", 1)
    digits = training.load("digits", root=None, seed=0, image_size=28)
    trained = train_all(["fc3"], "digits", 60, cache=tmp_path, root=tmp_path, epochs=4, seed=0)["fc3"]
    settings = replace(several_masks.SETTINGS, time_limit=20.0, gap=0.5)
    folder = tmp_path / "cell"
    measured: list[object] = []
    usual = several_masks.accuracies

    def accuracies(*given):
        measured.append(given)
        return usual(*given)

    monkeypatch.setattr(several_masks, "accuracies", accuracies)
    first = several_masks.measure(trained, digits, settings, folder)
    assert len(measured) == 4
    (folder / "random-2.json").unlink()
    monkeypatch.setattr(several_masks, "found_masks", pytest.fail)
    assert several_masks.measure(trained, digits, settings, folder) == first
    lines = several_masks.table("fc3, digits", first)
    assert [line.split(" | ")[1] for line in lines] == ["1", "2", "mean of these", "random, mean", "whole network"]
    assert first["rows"][0]["shared"] == 100
    assert first["rows"][1]["shared"] < 100
    assert all(row["bound"] <= row["objective"] for row in first["rows"])
    assert len(measured) == 5
