"""Overhead benchmark: Prefect and MLflow beside the work itself, and going on after an interruption.

    python -m benchmarks.overhead

The main job on scikit-learn's digits, once as a tracked flow and once as plain calls of the two libraries, in one
process with one Prefect server, whose start is not counted; then the same command again after its last stage was
interrupted. Seconds on the clock, medians of several rounds. Calls of the libraries alternate with flows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from mlflow import MlflowClient

import formulation
import training
from benchmarks.flow_commands import FORMER_DEFAULTS
from flows.adapters import library_settings
from flows.config.entry_points import entry_point
from flows.config.settings import Settings
from flows.execution.log_lines import write_log_lines
from flows.pipelines.flows import run_flow
from flows.pipelines.preparation import prepare_flow

WORDS = {"epochs": "5", "export": "none", **FORMER_DEFAULTS}
RULES = ("random", "critical")
STAGES = ("train", "score", "prune", "retrain", "compact")
TARGETS = {"a run": 10.0, "a stage": 2.0, "resuming": 5.0}  # seconds


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured")
    chosen = parser.parse_args(arguments)
    write_log_lines()
    with TemporaryDirectory() as place:
        tracked_run(Path(place), "warm up")
        tracked, plain, resumed = [], [], []
        for number in range(chosen.rounds):
            tracked.append(tracked_run(Path(place), f"round {number}"))
            plain.append(plain_run())
            resumed.append(_resumed(Path(place), f"round {number}"))
    print("| what | tracked | plain calls | overhead | target |", "|---|---|---|---|---|", sep="\n")
    for name in (*STAGES, "the whole run"):
        with_it, without = (median(each[name] for each in found) for found in (tracked, plain))
        target = TARGETS["a run" if name == "the whole run" else "a stage"]
        print(f"| {name} | {with_it:.2f} | {without:.2f} | {with_it - without:.2f} | <= {target:g} |")
    print(f"| going on after an interruption | {median(resumed):.2f} | - | {median(resumed):.2f} | <= 5 |")
    return 0


def tracked_run(place: Path, name: str) -> dict[str, float]:
    """The seconds of a tracked main job, and of its stages."""
    settings = _settings(place, name)
    start = time.perf_counter()
    run_id = run_flow("main", settings)
    found = {"the whole run": time.perf_counter() - start}
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_run(run_id).info.experiment_id
    for run in client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'"):
        found[run.data.tags["stage"]] = run.data.metrics["seconds"]
    return found


def _resumed(place: Path, name: str) -> float:
    """The seconds of the same command after its run was interrupted at the very end: all is found, nothing is done."""
    settings = _settings(place, name)
    client = MlflowClient(settings.tracking_uri)
    [experiment] = [each.experiment_id for each in client.search_experiments() if each.name == settings.experiment]
    [top] = client.search_runs([experiment], "tags.flow = 'main'")
    client.set_terminated(top.info.run_id, "KILLED")
    start = time.perf_counter()
    assert run_flow("main", settings) == top.info.run_id
    return time.perf_counter() - start


def _settings(place: Path, name: str) -> Settings:
    words = {"tracking_uri": f"sqlite:///{place / 'mlflow.db'}", "experiment": name, "cache": str(place / name)}
    return prepare_flow(entry_point("main"), {**WORDS, **words})


def plain_run() -> dict[str, float]:
    """The seconds of the same work as plain calls, by stage."""
    settings = _plain_settings()
    dataset = library_settings.dataset_of(settings)
    example = dataset.test.images[:1]
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = work()
        found[name] = time.perf_counter() - start
        return result

    def train() -> torch.nn.Module:
        network = library_settings.network_of(settings, dataset)
        return _evaluated(_fitted(settings, network, dataset, settings.epochs, None), dataset)

    trained = timed("train", train)
    assert isinstance(trained, torch.nn.Module)

    def score() -> Mapping[str, object]:
        sets = library_settings.scoring_sets_of(settings, trained, dataset)
        asked = library_settings.score_settings_of(settings)
        return formulation.mean_scores(
            [formulation.score(trained, each.images, each.labels, asked).scores for each in sets]
        )

    scores = timed("score", score)
    assert isinstance(scores, dict)

    def prune() -> training.Masks:
        masks = training.by_threshold(scores, settings.threshold).masks
        _evaluated(training.prune(trained, masks, example), dataset)
        images = dataset.validation
        evidence = training.Evidence(trained, images.images, images.labels, tuple(scores), settings.seed, scores)
        for rule in RULES:
            for values in training.draw_scores(rule, evidence, settings.draws if rule == "random" else 1):
                other = training.by_counts(values, training.counts(masks))
                network = training.prune(trained, other, example)
                training.evaluate(network, dataset.test, batch_size=settings.batch_size)
        return masks

    masks = timed("prune", prune)
    assert isinstance(masks, dict)
    pruned = training.prune(trained, masks, example)

    def retrain() -> torch.nn.Module:
        return _evaluated(_fitted(settings, pruned, dataset, settings.retrain_epochs, masks), dataset)

    final = timed("retrain", retrain)
    assert isinstance(final, torch.nn.Module)

    def compact() -> None:
        smaller = training.compact(final, masks, example)
        for images in (torch.rand(1000, *dataset.input_shape), dataset.test.images):
            for network in (final, smaller):
                training.predict(network, images)
        training.evaluate(smaller, dataset.test, batch_size=settings.batch_size)
        training.costs(final, smaller, masks, example, batches=(1, 64), seconds=0.3)

    timed("compact", compact)
    found["the whole run"] = sum(found.values())
    return found


def _plain_settings() -> Settings:
    """The settings of the plain calls: those of the flow."""
    return Settings.model_validate(WORDS)


def _fitted(
    settings: Settings,
    network: torch.nn.Module,
    dataset: training.Dataset,
    epochs: int,
    masks: training.Masks | None,
) -> torch.nn.Module:
    asked = library_settings.fit_settings_of(settings, epochs)
    return training.fit(network, dataset.train, dataset.validation, asked, masks=masks).model


def _evaluated(network: torch.nn.Module, dataset: training.Dataset) -> torch.nn.Module:
    for split in (dataset.test, dataset.validation):
        training.evaluate(network, split)
    return network


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
