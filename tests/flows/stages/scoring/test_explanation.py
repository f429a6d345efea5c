"""Explanations that are logged on request: images and constraints that hold scores up, and score ranges."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run as MlflowRun
from torch import nn

import formulation
from flows import tracking
from flows.adapters import artifacts
from flows.adapters.library_settings import dataset_of
from flows.adapters.programs import ProgramInputs, ProgramSpec
from flows.stages.scoring.explain import PULL_COLUMNS, STRONGEST, log_explanation, log_ranges
from flows.tracking import Run
from formulation import ScoreSettings, Solution
from tests.flows.small_run import PATTERN, RunStage
from training import ScoringSet

Solved = tuple[nn.Module, ScoringSet, Solution]
FIRST = ProgramSpec(1)
DIGITS = [str(digit) for digit in range(10)]
LOGGED = {"explanation.json", "explanation_by_class.json", "explanation.png", "ranges.json", "ranges.png"}


@pytest.fixture(scope="module")
def explained(run_stage: RunStage, client: MlflowClient, main_run: MlflowRun) -> Run:
    """A score run of one set, with all that can be asked for."""
    words = {**PATTERN, "images_per_class": "1", "explain": "true", "ranges": "true"}
    above = run_stage("score", run_id=main_run.info.run_id, **words)
    return tracking.find_stage(tracking.find_run(client.tracking_uri, above), "score")


@pytest.fixture(scope="module")
def scoring_set_run(explained: Run) -> Run:
    [found] = explained.below("scoring set")
    return found


@pytest.fixture(scope="module")
def classes(explained: Run) -> tuple[str, ...]:
    return tuple(dataset_of(artifacts.logged_settings(explained)).classes)


@pytest.fixture(scope="module")
def solved(explained: Run, scoring_set_run: Run) -> Solved:
    settings = artifacts.logged_settings(explained)
    network = artifacts.logged_network(tracking.find_stage(explained, "train"), settings, dataset_of(settings))
    return network, artifacts.logged_scoring_set(explained, 1), artifacts.logged_solution(scoring_set_run)


def posed(network: nn.Module, scoring_set: ScoringSet) -> ProgramInputs:
    return ProgramInputs(network, scoring_set.images, scoring_set.labels, ScoreSettings())


def artifact_names(client: MlflowClient, run: Run) -> set[str]:
    return {Path(item.path).name for item in client.list_artifacts(run.run_id)}


def rows(run: Run, file: str) -> list[dict[str, object]]:
    path = download_artifacts(run_id=run.run_id, artifact_path=file, tracking_uri=run.uri)
    table = json.loads(Path(path).read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_the_strongest_pulls_stand_in_a_table(scoring_set_run: Run, solved: Solved, classes: tuple[str, ...]) -> None:
    network, scoring_set, solution = solved
    expected = formulation.explain(network, scoring_set.images, scoring_set.labels, solution, most=STRONGEST)
    found = rows(scoring_set_run, "explanation.json")
    assert {pull.kind for pull in expected} == {"image", "cut"}
    assert list(found[0]) == list(PULL_COLUMNS)
    for row, pull in zip(found, expected, strict=True):
        assert row["class"] == classes[pull.label]
        assert row["kind"] == {"image": "image", "cut": "row"}[pull.kind]
        assert row["price"] == pytest.approx(pull.sparsity_cost, abs=1e-9)
        same = ("layer", "unit", "image", "node", "activation")
        assert [row[name] for name in same] == [getattr(pull, name) for name in same]
        for name in ("score", "reduced_cost", "pull"):
            assert row[name] == pytest.approx(getattr(pull, name), abs=1e-9)


def test_the_pulls_of_all_images_are_summed_by_class(
    scoring_set_run: Run, solved: Solved, classes: tuple[str, ...]
) -> None:
    network, scoring_set, solution = solved
    pulls = formulation.explain(network, scoring_set.images, scoring_set.labels, solution, most=len(scoring_set))
    expected: dict[tuple[str, int, str], float] = {}
    for pull in pulls:
        if pull.kind == "image":
            place = (pull.layer, pull.unit, classes[pull.label])
            expected[place] = expected.get(place, 0.0) + pull.pull
    found = {(r["layer"], r["unit"], r["class"]): r["pull"] for r in rows(scoring_set_run, "explanation_by_class.json")}
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_ranges_stand_in_a_table_around_the_scores(scoring_set_run: Run, solved: Solved) -> None:
    network, scoring_set, solution = solved
    expected = formulation.score_ranges(network, scoring_set.images, scoring_set.labels, solution)
    found = rows(scoring_set_run, "ranges.json")
    assert len(found) == sum(map(len, solution.scores.values()))
    for row in found:
        lowest, highest = (ends[row["unit"]] for ends in expected[row["layer"]])
        assert (row["lowest"], row["highest"]) == pytest.approx((lowest, highest), abs=1e-6)
        assert row["score"] == pytest.approx(solution.scores[row["layer"]][row["unit"]], abs=1e-9)
        assert row["lowest"] - 1e-6 <= row["score"] <= row["highest"] + 1e-6
    widths = [row["highest"] - row["lowest"] for row in found]
    assert scoring_set_run.metrics()["range_largest"] == pytest.approx(max(widths), abs=1e-6)


def test_all_that_is_asked_for_is_logged_and_nothing_else(
    client: MlflowClient, scoring_set_run: Run, stage_runs: dict[str, MlflowRun]
) -> None:
    assert artifact_names(client, scoring_set_run) >= LOGGED
    score = stage_runs["score"]
    unasked = Run(client.tracking_uri, score.info.experiment_id, score.info.run_id).below("scoring set")
    for run in unasked:
        assert not artifact_names(client, run) & LOGGED


def test_ranges_that_take_too_long_are_missing_with_a_word_and_the_scores_stay(
    client: MlflowClient, explained: Run, solved: Solved, caplog: pytest.LogCaptureFixture
) -> None:
    network, scoring_set, solution = solved
    hurried = {**solution.certificate.settings, "time_limit": 1e-3}
    late = replace(solution, certificate=replace(solution.certificate, settings=hurried))
    with tracking.open_run(explained, "late", {}) as run, caplog.at_level(logging.WARNING, "flows"):
        log_ranges(tracking.telling_at_once(run), FIRST, posed(network, scoring_set), late)
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert not artifact_names(client, run)
    assert "time limit of 0.001 s" in run.tags()["ranges"]
    assert "set 1: no ranges: the time limit of 0.001 s" in caplog.text


def test_ranges_whose_solver_fails_are_missing_with_a_word_and_the_scores_stay(
    client: MlflowClient, explained: Run, solved: Solved, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise formulation.SolverFailed("highs ended with status 'Unknown'; try other solver_options")

    monkeypatch.setattr(formulation, "score_ranges", fail)
    with tracking.open_run(explained, "failed", {}) as run:
        log_ranges(tracking.telling_at_once(run), FIRST, posed(*solved[:2]), solved[2])
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert not artifact_names(client, run)
    assert run.tags()["ranges"].startswith("none: highs ended")


def test_scores_without_multipliers_are_not_explained_and_it_says_so(
    client: MlflowClient, explained: Run, solved: Solved, caplog: pytest.LogCaptureFixture
) -> None:
    network, scoring_set, solution = solved
    with tracking.open_run(explained, "unproved", {}) as run, caplog.at_level(logging.WARNING, "flows"):
        log_explanation(
            tracking.telling_at_once(run),
            FIRST,
            posed(network, scoring_set),
            replace(solution, dual_bound=None),
            DIGITS,
        )
    assert not artifact_names(client, run)
    assert "holds no duals" in run.tags()["explanation"]
    assert "set 1: no explanation: the solution holds no duals" in caplog.text


def test_scores_that_are_all_zero_leave_empty_tables(client: MlflowClient, explained: Run, solved: Solved) -> None:
    network, scoring_set, solution = solved
    nothing = replace(solution, scores={layer: np.zeros_like(values) for layer, values in solution.scores.items()})
    with tracking.open_run(explained, "nothing", {}) as run:
        log_explanation(tracking.telling_at_once(run), FIRST, posed(network, scoring_set), nothing, DIGITS)
    assert rows(run, "explanation.json") == rows(run, "explanation_by_class.json") == []
