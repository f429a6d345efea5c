"""Solutions, certificates and scores that the check refuses: altered, damaged or missing."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows import stages, tracking
from flows.adapters import artifacts
from flows.errors import CheckRefused
from flows.stages.scoring.score import certificate_tags
from flows.tracking import Run
from formulation import Solution
from tests.flows.small_run import PATTERN, RunStage
from training import Scores


@pytest.fixture(scope="module")
def scored(run_stage: RunStage, client: MlflowClient, main_run: MlflowRun) -> Run:
    """A score run of two sets, for these tests to damage."""
    above = run_stage("score", run_id=main_run.info.run_id, images_per_class="1", scoring_sets="2", **PATTERN)
    return tracking.find_stage(tracking.find_run(client.tracking_uri, above), "score")


@pytest.fixture
def sets(scored: Run) -> Iterator[list[Run]]:
    """Its two scoring sets; whatever a test makes of them is put right after it."""
    found = sorted(scored.below("scoring set"), key=lambda run: run.tags()["scoring_set"])
    mean, solutions = artifacts.logged_scores(scored), [artifacts.logged_solution(each) for each in found]
    importance = artifacts.logged_importance(scored)
    yield found
    artifacts.log_scores(tracking.telling_at_once(scored), mean)
    artifacts.log_importance(tracking.telling_at_once(scored), importance)
    for each, solution in zip(found, solutions, strict=True):
        artifacts.log_solution(tracking.telling_at_once(each), solution)
        artifacts.log_scores(tracking.telling_at_once(each), solution.scores)
        tracking.telling_at_once(each).add_tags(certificate_tags(solution))


def check(scored: Run) -> Run:
    """Check in a run of its own; that run."""
    trained = tracking.find_stage(scored, "train")
    with tracking.open_run(scored, "check", {"stage": "check"}) as run:
        stages.check_solutions(artifacts.logged_settings(scored), scored, trained, on_part=tracking.teller(run))
    return run


def moved(scores: Scores) -> Scores:
    layer = next(iter(scores))
    return {**scores, layer: scores[layer] + 1e-3}


def with_claim(**claims: object) -> Callable[[Solution], Solution]:
    return lambda solution: replace(solution, certificate=replace(solution.certificate, **claims))


def with_other_settings(solution: Solution) -> Solution:
    return with_claim(settings={**solution.certificate.settings, "gap": 0.5})(solution)


def without_proof(solution: Solution) -> Solution:
    return replace(solution, dual_bound=None)


def with_other_multipliers(solution: Solution) -> Solution:
    assert solution.dual_bound is not None
    return replace(solution, dual_bound=replace(solution.dual_bound, cut_duals=solution.dual_bound.cut_duals / 2))


def with_lower_bound(solution: Solution) -> Solution:
    certificate = solution.certificate
    return with_claim(bound=certificate.bound - 1.0, status="time_limit", gap=certificate.gap + 1.0)(solution)


@pytest.mark.parametrize(
    ("alter", "what"),
    [
        (with_other_settings, "the certificate and its score run differ in gap"),
        (with_claim(checked=False), "never checked"),
        (with_lower_bound, "the certificate says gap|the certificate's notes"),
        (lambda solution: replace(solution, rounds=()), "history's rounds say 0"),
        (lambda solution: replace(solution, scores=moved(solution.scores)), "the forward pass finds|violates"),
        (without_proof, "no duals"),
        (with_other_multipliers, "the certificate says proved bound"),
    ],
    ids=["settings", "checked", "bound", "history", "scores", "proof", "duals"],
)
def test_an_altered_solution_is_refused_and_says_why(
    scored: Run, sets: list[Run], alter: Callable[[Solution], Solution], what: str
) -> None:
    artifacts.log_solution(tracking.telling_at_once(sets[0]), alter(artifacts.logged_solution(sets[0])))
    with pytest.raises(CheckRefused, match=f"^1 of 2 solutions do not hold: {sets[0].run_id} "):
        check(scored)
    [run] = scored.below("check")[-1:]
    assert re.search(what, str(run.json("scoring_set_1.json")["reason"]))


def test_a_certificate_of_before_there_was_a_choice_of_losses_holds(scored: Run, sets: list[Run]) -> None:
    for each in sets:
        solution = artifacts.logged_solution(each)
        without = {name: value for name, value in solution.certificate.settings.items() if name != "loss"}
        earlier = with_claim(settings=without)(solution)
        artifacts.log_solution(tracking.telling_at_once(each), earlier)
        tracking.telling_at_once(each).add_tags(certificate_tags(earlier))
    assert check(scored).metrics()["solutions_refused"] == 0


def test_an_optimal_bound_that_the_last_round_does_not_have_is_refused(scored: Run, sets: list[Run]) -> None:
    solution = artifacts.logged_solution(sets[0])
    assert solution.certificate.proved_bound == solution.certificate.bound == solution.rounds[-1].bound
    last = replace(solution.rounds[-1], bound=solution.certificate.bound - 0.5)
    artifacts.log_solution(tracking.telling_at_once(sets[0]), replace(solution, rounds=(*solution.rounds[:-1], last)))
    with pytest.raises(CheckRefused, match="1 of 2 solutions do not hold"):
        check(scored)


def test_a_damaged_solution_is_refused_by_its_run_and_the_others_are_checked(
    scored: Run, sets: list[Run], client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "certificate.json").write_text("{")
    tracking.telling_at_once(sets[0]).add_files(tmp_path, "solution")
    with pytest.raises(CheckRefused, match=f"^1 of 2 solutions do not hold: {sets[0].run_id} "):
        check(scored)
    [run] = scored.below("check")[-1:]
    refused, held = (run.json(f"scoring_set_{number}.json") for number in (1, 2))
    assert str(refused["reason"]).startswith(f"run_id={sets[0].run_id}: its solution cannot be read (")
    assert "/tmp" not in str(refused["reason"])
    assert held["holds"] is True
    assert client.get_run(run.run_id).data.metrics["solutions_refused"] == 1
    assert client.get_run(run.run_id).info.status == "FAILED"


def test_scores_that_are_not_those_of_the_solution_are_refused(scored: Run, sets: list[Run]) -> None:
    artifacts.log_scores(tracking.telling_at_once(sets[1]), moved(artifacts.logged_scores(sets[1])))
    with pytest.raises(CheckRefused, match=f"^1 of 2 solutions do not hold: {sets[1].run_id} "):
        check(scored)


def test_mean_scores_that_are_not_the_mean_are_refused(scored: Run, sets: list[Run]) -> None:
    artifacts.log_scores(tracking.telling_at_once(scored), moved(artifacts.logged_scores(scored)))
    with pytest.raises(CheckRefused, match=f"run_id={scored.run_id}: scores.npz is not the mean"):
        check(scored)


def test_importance_that_is_not_that_of_the_solutions_is_refused(scored: Run, sets: list[Run]) -> None:
    artifacts.log_importance(tracking.telling_at_once(scored), moved(artifacts.logged_importance(scored)))
    with pytest.raises(CheckRefused, match=f"run_id={scored.run_id}: importance.npz is not that of its solutions"):
        check(scored)


@pytest.mark.parametrize("tag", ["1", "3", "x"], ids=["twice", "too_many", "no_number"])
def test_a_scoring_set_that_is_missing_or_too_many_is_refused(
    scored: Run, sets: list[Run], client: MlflowClient, tag: str
) -> None:
    client.set_tag(sets[1].run_id, "scoring_set", tag)
    try:
        with pytest.raises(CheckRefused, match=r"no run \(scoring set 2\)"):
            check(scored)
    finally:
        client.set_tag(sets[1].run_id, "scoring_set", "2")


def test_a_scoring_set_whose_run_is_not_finished_is_refused(scored: Run, sets: list[Run], client: MlflowClient) -> None:
    client.set_terminated(sets[1].run_id, "FAILED")
    try:
        with pytest.raises(CheckRefused, match=f"^1 of 2 solutions do not hold: {sets[1].run_id} "):
            check(scored)
    finally:
        client.set_terminated(sets[1].run_id, "FINISHED")


def test_the_check_finds_the_solutions_behind_a_run_of_another_experiment(
    run_stage: RunStage, client: MlflowClient, scored: Run
) -> None:
    pruned = run_stage("prune", run_id=scored.run_id, experiment="other", draws="1")
    elsewhere = tracking.find_stage(tracking.find_run(client.tracking_uri, pruned), "prune")
    assert elsewhere.experiment_id != scored.experiment_id
    assert tracking.find_stage(elsewhere, "score") == scored
    above = run_stage("check", run_id=elsewhere.run_id)
    checked = tracking.find_stage(tracking.find_run(client.tracking_uri, above), "check")
    assert checked.metrics()["solutions"] == 2
