from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.networks import mixed
from training.digests import model_digest
from training.errors import CheckpointError
from training.models.checkpoints import load_checkpoint
from training.models.foreign_states import HOLDERS, accuracy_said, renamed_to_fit

PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "_orig_mod.module.",
    "module._orig_mod.",
    "model.module._orig_mod.",
    "backbone.",
)


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in mixed(0).state_dict().items()}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_state_dict_is_found_under_every_name_that_training_scripts_give_it(holder: str, tmp_path: Path) -> None:
    torch.save({holder: mixed(0).state_dict(), "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "c.pt")
    assert model_digest(load_checkpoint(mixed(1), tmp_path / "c.pt")) == model_digest(mixed(0))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_wrappers_are_taken_off_where_the_names_then_fit(prefix: str, tmp_path: Path) -> None:
    torch.save({"model": prefixed(prefix)}, tmp_path / "c.pt")
    assert model_digest(load_checkpoint(mixed(1), tmp_path / "c.pt")) == model_digest(mixed(0))


def test_the_files_of_torchs_own_wrappers_are_read(tmp_path: Path) -> None:
    compiled = mixed(0)
    compiled[0] = torch.compile(compiled[0], backend="eager")  # type: ignore[assignment]
    averaged = torch.optim.swa_utils.AveragedModel(mixed(0))
    for wrapped in (torch.compile(mixed(0), backend="eager"), nn.DataParallel(mixed(0)), averaged, compiled):
        torch.save(wrapped.state_dict(), tmp_path / "c.pt")  # type: ignore[attr-defined]
        assert model_digest(load_checkpoint(mixed(1), tmp_path / "c.pt")) == model_digest(mixed(0))


def test_a_model_whose_own_names_begin_like_a_wrappers_keeps_them(tmp_path: Path) -> None:
    model = nn.ModuleDict({"model": nn.Linear(2, 2), "module": nn.Linear(2, 2)})
    state = model.state_dict()
    assert renamed_to_fit(state, state) is state
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "c.pt")
    assert model_digest(load_checkpoint(model, tmp_path / "c.pt")) == model_digest(model)


def test_names_that_no_prefix_makes_fit_are_refused_as_they_are_in_the_file(tmp_path: Path) -> None:
    torch.save({**prefixed("module."), "criterion.weight": torch.ones(2)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"unexpected: module\.\S+"):
        load_checkpoint(mixed(1), tmp_path / "c.pt")


def test_two_names_that_a_prefix_alone_keeps_apart_are_not_made_one(tmp_path: Path) -> None:
    weights = {"module.weight": torch.ones(2, 2), "model.weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    torch.save(weights, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(nn.Linear(2, 2), tmp_path / "c.pt")


def test_a_file_with_two_state_dicts_is_refused_by_their_names(tmp_path: Path) -> None:
    torch.save({"model": mixed(0).state_dict(), "net": mixed(1).state_dict()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"several state dicts \(model, net\): save the network's alone"):
        load_checkpoint(mixed(1), tmp_path / "c.pt")


def test_safetensors_without_its_package_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.safetensors").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"not installed: pip install safetensors$"):
        load_checkpoint(mixed(), tmp_path / "c.safetensors")


def test_safetensors_are_read_and_damaged_ones_refused(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch", reason="the package safetensors is not installed")
    path = tmp_path / "c.safetensors"
    files.save_file(prefixed("module."), path)
    assert model_digest(load_checkpoint(mixed(1), path)) == model_digest(mixed(0))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_checkpoint(mixed(1), path)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"best_acc1": 91.5, "epoch": 90}, 0.915),
        ({"val_acc": torch.tensor(0.8), "train_accuracy": 0.7}, 0.8),
        ({"acc": 93}, 0.93),
        ({"accumulated": 7.0, "access": 0.5, "acc": "high", "accuracy": [0.5]}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_accuracy_that_a_file_says_is_a_part_of_1(beside: dict[str, object], said: float | None) -> None:
    assert accuracy_said({"state_dict": {}, **beside}) == (None if said is None else pytest.approx(said))
