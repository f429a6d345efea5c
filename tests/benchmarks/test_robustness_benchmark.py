"""The benchmark of how far scores depend on the images, on a small network."""

import pytest

import training
from benchmarks.robustness import AGREEING, PATTERN, measure, row


@pytest.fixture(scope="module")
def fitted():
    dataset = training.load("digits", root="", seed=0)
    network = training.build("fc2", input_shape=dataset.input_shape, classes=len(dataset.classes), seed=0)
    return training.fit(network, dataset.train, dataset.validation, training.FitSettings(epochs=5)).model, dataset


def test_one_set_scored_again_and_again_agrees_with_itself_and_different_sets_less(fitted):
    network, dataset = fitted
    sets = training.draw_sets(network, dataset.validation, sets=3, images_per_class=2, classes=dataset.classes, seed=0)
    same = measure(network, dataset, [sets[0]] * 3, PATTERN)
    different = measure(network, dataset, sets, PATTERN)
    layers = [name for name in same if name.startswith("scores_min.")]
    assert layers
    assert all(same[name] == pytest.approx(1.0) for name in layers)
    assert all(different[name] < 1.0 for name in layers)


def test_a_row_shows_the_mean_and_the_least_of_every_layer_and_accuracies_in_percent(fitted):
    network, dataset = fitted
    sets = training.draw_sets(network, dataset.validation, sets=2, images_per_class=2, classes=dataset.classes, seed=0)
    metrics = measure(network, dataset, sets, AGREEING)
    layer = next(name for name in metrics if name.startswith("importance_mean.")).removeprefix("importance_mean.")
    line = row("a network", "agreeing", metrics)
    assert f"{layer} {metrics[f'importance_mean.{layer}']:.2f} ({metrics[f'importance_min.{layer}']:.2f})" in line
    assert f"{100 * metrics['accuracy.30']:.2f} | {100 * metrics['accuracy.50']:.2f} |" in line
