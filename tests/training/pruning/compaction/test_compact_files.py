from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from tests.attention_networks import SHAPE as ROWS
from tests.attention_networks import drawn_networks
from tests.training.networks import Bypassed, Forked, Residual, drawn_masks, example, mixed, stir
from training import build, load_checkpoint
from training.digests import model_digest
from training.errors import CheckpointError, MaskError
from training.pruning import Masks, consumers
from training.pruning.compaction import compact, load_compact, read_spec, save_compact

SHAPE = (1, 28, 28)


def compacted_lenet5(path: Path) -> tuple[nn.Module, Masks]:
    model = build("lenet5", input_shape=SHAPE, classes=10, seed=1)
    images = torch.zeros(1, *SHAPE)
    masks = drawn_masks(model, list(consumers(model, images)), 0)
    compacted = compact(model, masks, images)
    save_compact(compacted, masks, SHAPE, path, model="lenet5")
    return compacted, masks


def test_a_built_in_model_comes_back_from_its_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "lenet5.pt"
    compacted, masks = compacted_lenet5(path)
    again = load_compact(path)
    images = torch.rand(20, *SHAPE)
    assert model_digest(again) == model_digest(compacted)
    assert torch.equal(again(images), compacted.eval()(images))
    assert not again.training
    content = torch.load(path, weights_only=True)
    assert json.loads(json.dumps(content["spec"])) == asdict(read_spec(path)) == content["spec"]
    assert content["spec"]["kept"] == {layer: np.flatnonzero(mask).tolist() for layer, mask in masks.items()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["lenet5.pt"]
    # The same file is a checkpoint of the compacted model.
    other = compact(build("lenet5", input_shape=SHAPE, classes=10, seed=2), masks, images)
    assert model_digest(load_checkpoint(other, path)) == model_digest(compacted)


@pytest.mark.parametrize("make", [mixed, Residual, Forked])
def test_any_architecture_is_shrunk_again_whatever_its_weights(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    model = stir(make(), 3)
    images = example(model, 20)
    masks = drawn_masks(model, list(consumers(model, images)), 1, 0.4)
    compacted = compact(model, masks, images)
    save_compact(compacted, masks, images.shape[1:], tmp_path / "a.pt")
    torch.manual_seed(9)
    again = load_compact(tmp_path / "a.pt", make())
    assert torch.equal(again(images), compacted(images))
    with pytest.raises(CheckpointError, match="holds a model without a name, which is not built in: give load_compact"):
        load_compact(tmp_path / "a.pt")


def test_a_file_does_not_decide_what_code_runs(tmp_path: Path) -> None:
    compacted, masks = compacted_lenet5(tmp_path / "a.pt")
    save_compact(compacted, masks, SHAPE, tmp_path / "b.pt", model="own.py:factory")
    with pytest.raises(CheckpointError, match=r"holds own\.py:factory, which is not built in"):
        load_compact(tmp_path / "b.pt")


def change_weight(content: dict[str, Any]) -> None:
    content["state_dict"]["fc1.weight"][0, 0] += 1


def drop_weight(content: dict[str, Any]) -> None:
    del content["state_dict"]["fc1.bias"]


def swap_unit(content: dict[str, Any]) -> None:
    kept, units = content["spec"]["kept"]["fc1"], content["spec"]["units"]["fc1"]
    content["spec"]["kept"]["fc1"] = sorted({*kept[1:], min(set(range(units)) - set(kept))})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_weight, "is damaged: its weights are not those that its spec records"),
        (drop_weight, "is damaged: its weights are not those"),
        (lambda c: c["spec"]["shapes"].update({"fc1.bias": [1]}), "is damaged: its weights are not those"),
        (lambda c: c["spec"].update(version=1), "has format version 1, this program reads 2"),
        (lambda c: c["spec"].update(kept={}), "its spec is not one of save_compact"),
        (lambda c: c["spec"]["kept"].update(conv1=[6]), "its spec is not one of save_compact"),
        (lambda c: c["spec"]["kept"].update(conv1=None), "its spec is not one of save_compact"),
        (lambda c: c["spec"].pop("digest"), "its spec is not one of save_compact"),
        (lambda c: c["spec"].update(input_shape=[1, 28]), "its spec is not one of save_compact"),
        (lambda c: c["spec"].update(input_shape=[1, 8, 8]), "asks for a model that cannot be built"),
        (lambda c: c["spec"]["kept"].update(fc1=[0]), "does not fit the model .misshaped: fc1.weight"),
        (swap_unit, "is damaged: the units kept are not those that were saved"),
        (lambda c: c["spec"].update(dtype="float12"), "its spec is not one of save_compact"),
        (lambda c: c["spec"].update(dtype="nn"), "its spec is not one of save_compact"),
        (lambda c: c["spec"].update(dtype="int64"), "its spec is not one of save_compact"),
        (lambda c: c["spec"].update(model="fc3"), "does not fit model Sequential .mask for 'conv1'"),
        (lambda c: c.pop("spec"), "holds no compacted model: write it with save_compact"),
        (lambda c: c.pop("state_dict"), "holds no state dict"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = tmp_path / "a.pt"
    compacted_lenet5(path)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_compact(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_compact(path)
    compacted_lenet5(path)
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:40], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            load_compact(path)
        assert "\n" not in str(caught.value)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    compacted_lenet5(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"does not fit model Sequential \(mask for 'conv1'"):
        load_compact(tmp_path / "a.pt", build("fc3", input_shape=SHAPE, classes=10, seed=0))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_compact(tmp_path / "a.pt", build("lenet5", input_shape=SHAPE, classes=9, seed=0))


def test_masks_of_another_removal_are_refused_when_saving(tmp_path: Path) -> None:
    compacted, masks = compacted_lenet5(tmp_path / "a.pt")
    other = {**masks, "fc2": np.arange(84) < 3}
    with pytest.raises(MaskError, match="mask for 'fc2' keeps 3 units, the compacted model has"):
        save_compact(compacted, other, SHAPE, tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


def test_masks_of_a_part_of_the_units_are_refused_when_saving(tmp_path: Path) -> None:
    """Half as many are no units of two rows each, nor one head or three the two that are left."""
    model = build("fc3", input_shape=SHAPE, classes=10, seed=0)
    compacted = compact(model, {"fc1": np.arange(300) < 150}, torch.zeros(1, *SHAPE))
    for kept in (75, 1):
        with pytest.raises(MaskError, match=f"mask for 'fc1' keeps {kept} units, the compacted model has 150"):
            save_compact(compacted, {"fc1": np.arange(300) < kept}, SHAPE, tmp_path / "a.pt")
    shape, name = (1, 8, 8), "block1.attention"
    compacted = compact(
        build("vit_tiny", input_shape=shape, classes=3, seed=0), {name: np.arange(4) < 2}, torch.zeros(1, *shape)
    )
    for kept in (1, 3):
        with pytest.raises(MaskError, match=f"mask for '{name}' keeps {kept} units, the compacted model has 2"):
            save_compact(compacted, {name: np.arange(4) < kept}, shape, tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


@given(drawn_networks())
@settings(max_examples=12, deadline=None)
def test_networks_of_units_of_several_rows_are_saved_and_loaded(drawn: tuple) -> None:
    model, _, masks, images = drawn
    compacted = compact(model, masks, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        save_compact(compacted, masks, ROWS, path)
        with torch.no_grad():
            assert torch.equal(load_compact(path, model)(images), compacted(images))


@pytest.mark.parametrize("make", [Bypassed, Forked])
def test_masks_of_as_many_but_other_units_are_not_loaded(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    model = stir(make(), 3)
    images = example(model, 20)
    masks = {layer: np.arange(len(mask)) < 2 for layer, mask in drawn_masks(model, consumers(model, images), 1).items()}
    compacted = compact(model, masks, images)
    other = {layer: mask[::-1].copy() for layer, mask in masks.items()}
    assert not torch.equal(compact(model, other, images)(images), compacted(images))
    save_compact(compacted, other, images.shape[1:], tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="the units kept are not those"):
        load_compact(tmp_path / "a.pt", make())


def test_a_model_of_another_precision_comes_back_in_it(tmp_path: Path) -> None:
    model = build("lenet5", input_shape=SHAPE, classes=10, seed=1).double()
    images = torch.rand(4, *SHAPE, dtype=torch.float64)
    masks = drawn_masks(model, list(consumers(model, images)), 0)
    compacted = compact(model, masks, images).eval()
    assert save_compact(compacted, masks, SHAPE, tmp_path / "a.pt", model="lenet5").dtype == "float64"
    given = build("lenet5", input_shape=SHAPE, classes=10, seed=2)
    for again in (load_compact(tmp_path / "a.pt"), load_compact(tmp_path / "a.pt", given)):
        assert model_digest(again) == model_digest(compacted)
        assert torch.equal(again(images), compacted(images))
    assert given.fc1.weight.dtype == torch.float32
