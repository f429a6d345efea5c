"""Inputs of a transfer, and what is refused before anything is written."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import tracking
from flows.adapters.library_settings import dataset_of, network_of
from flows.config.entry_points import ENTRY_POINTS
from flows.config.settings import Settings
from flows.errors import FlowError
from flows.pipelines.experiments.transfer_inputs import on_target, with_shape
from flows.pipelines.preparation import prepare_flow
from tests.flows.pipelines.experiments.small_transfer import WORDS
from training import TrainingError

OWN = Path(__file__).with_name("own_networks.py")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"target": "digits"}, "target=digits is dataset too"),
        ({"target": "digit"}, "dataset 'digit' is unknown"),
        ({"epochs": "0", "rewind_epochs": "0"}, "epochs=0: every arm"),
        ({"rewind_epochs": "4"}, "rewind_epochs=4 is more than epochs=3"),
        ({"images_per_class": "5"}, "of folder:.* has 3 validation images"),
        ({"mask_run": "0" * 32}, f"mask_run={'0' * 32}: .*no such run in"),
        ({"model": f"{OWN}:headless"}, "the output layer of a model with 10 outputs cannot be found"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(
    words: dict[str, str], message: str, pictures: str, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if "mask_run" in words:
        tracking.open_store(uri, "elsewhere")
    with pytest.raises((FlowError, TrainingError), match=message) as refused:
        prepare_flow(ENTRY_POINTS["transfer"], WORDS | {"target": pictures, "tracking_uri": uri} | words)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "mlflow.db").exists() == ("mask_run" in words)
    if "mask_run" in words:
        assert MlflowClient(uri).get_experiment_by_name("critical-neurons") is None


def test_a_mask_of_a_run_in_no_store_is_refused_and_no_store_is_made(pictures: str, tmp_path: Path) -> None:
    words = {"target": pictures, "tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "mask_run": "0" * 32}
    with pytest.raises(FlowError, match=f"mask_run={'0' * 32}: there is no tracking store"):
        prepare_flow(ENTRY_POINTS["transfer"], WORDS | words)
    assert not list(tmp_path.iterdir())


def test_the_targets_images_take_the_shape_of_the_first_data_set(pictures: str) -> None:
    settings = with_shape(Settings(dataset="digits", target=pictures))
    assert (settings.image_size, settings.channels) == (28, 1)
    assert dataset_of(on_target(settings)).input_shape == (1, 28, 28)
    assert with_shape(settings) == settings


def test_images_that_are_not_square_need_a_size_unless_both_data_sets_have_theirs(pictures: str) -> None:
    with pytest.raises(FlowError, match="images of 10x12, target=digits of 28x28: give image_size"):
        with_shape(Settings(dataset=pictures, target="digits"))
    again = pictures + "/"
    settings = with_shape(Settings(dataset=pictures, target=again))
    assert dataset_of(on_target(settings)).input_shape == dataset_of(settings).input_shape == (3, 10, 12)


def test_a_network_with_outputs_of_its_own_gets_a_new_head_for_the_target_alone(pictures: str) -> None:
    settings = with_shape(Settings(dataset="digits", target=pictures, model=f"{OWN}:small"))
    assert network_of(settings, dataset_of(settings))[-1].out_features == 10
    target = on_target(settings)
    assert network_of(target, dataset_of(target))[-1].out_features == 3
    with pytest.raises(TrainingError, match="has 10 outputs but the data has 3 classes"):
        network_of(target.model_copy(update={"new_head": False}), dataset_of(target))
