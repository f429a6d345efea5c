"""Forged certificates of a finished score run: who rewrites some of what is said of a solution is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from flows import tracking
from flows.adapters import artifacts
from flows.stages.scoring.score import certificate_tags
from formulation.solution import relative_gap
from tests.flows.stages.scoring.scored_store import Forgery, ScoredStore, refusal_of


def seconds_in_certificate(store: ScoredStore) -> None:
    store.rewrite(seconds=store.solution.certificate.seconds + 100)


def seconds_in_certificate_and_metric(store: ScoredStore) -> None:
    seconds = store.solution.certificate.seconds + 100
    store.rewrite(seconds=seconds)
    store.tell(store.solved, **{"certificate.seconds": seconds})


def rows_in_certificate(store: ScoredStore) -> None:
    store.rewrite(rows=store.solution.certificate.cuts + 1)


def rows_in_certificate_and_metric(store: ScoredStore) -> None:
    rows = store.solution.certificate.cuts + 1
    store.rewrite(rows=rows)
    store.tell(store.solved, **{"certificate.rows": rows})


def residual_in_certificate(store: ScoredStore) -> None:
    store.rewrite(largest_residual=store.solution.certificate.largest_residual + 1e-10)


def version_in_certificate(store: ScoredStore) -> None:
    store.rewrite(solver_version="9.9.9")


def version_in_certificate_and_tag(store: ScoredStore) -> None:
    store.rewrite(solver_version="9.9.9")
    store.tag(store.solved, "solver", "highs 9.9.9")


def version_in_certificate_and_every_tag(store: ScoredStore) -> None:
    version_in_certificate(store)
    for name, value in certificate_tags(store.solution).items():
        store.tag(store.solved, name, value)


def solver_in_certificate(store: ScoredStore) -> None:
    store.rewrite(solver="gurobi")


def notes_in_certificate(store: ScoredStore) -> None:
    store.rewrite(notes=["proved by two solvers"])


def gap_in_certificate(store: ScoredStore) -> None:
    gap = store.solution.certificate.gap
    assert gap > 4e-7
    store.rewrite(gap=gap - 4e-7)


def gap_in_certificate_and_metric(store: ScoredStore) -> None:
    gap_in_certificate(store)
    store.tell(store.solved, **{"certificate.gap": store.solution.certificate.gap})


def bound_everywhere_but_in_the_multipliers(store: ScoredStore) -> None:
    solution, bound = store.solution, store.solution.certificate.bound + 4e-7
    gap = relative_gap(solution.certificate.objective, bound)
    last = replace(solution.rounds[-1], bound=bound, gap=gap)
    claimed = replace(solution.certificate, bound=bound, proved_bound=bound, gap=gap)
    artifacts.log_solution(
        tracking.telling_at_once(store.solved),
        replace(solution, certificate=claimed, rounds=(*solution.rounds[:-1], last)),
    )
    names = {"certificate.bound": bound, "certificate.proved_bound": bound, "certificate.gap": gap}
    store.tell(store.solved, **names)
    for name, value in certificate_tags(store.solution).items():
        store.tag(store.solved, name, value)


def status_in_certificate(store: ScoredStore) -> None:
    store.rewrite(status="time_limit")


def ones_at_a_gap_of_ten(store: ScoredStore) -> None:
    solution = store.solution
    ones = {name: np.ones_like(values) for name, values in solution.scores.items()}
    claimed = replace(solution.certificate, status="time_limit", gap=10.0)
    artifacts.log_solution(tracking.telling_at_once(store.solved), replace(solution, scores=ones, certificate=claimed))
    artifacts.log_scores(tracking.telling_at_once(store.solved), ones)


def settings_of_the_certificate(store: ScoredStore) -> None:
    store.rewrite(settings={**store.solution.certificate.settings, "gap": 10.0})


def settings_of_certificate_and_run(store: ScoredStore) -> None:
    """A wider gap asked for, in settings.json and the certificates, and not in the params."""
    path = store.folder(store.scored) / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gap": 10.0}))
    store.vouch(store.scored, "settings.json")
    settings_of_the_certificate(store)


def history_cut_in_certificate(store: ScoredStore) -> None:
    solution = store.solution
    rounds = [replace(each, index=k) for k, each in enumerate(solution.rounds[1:])]
    assert rounds
    store.rewrite(rounds=len(rounds), history=[each.to_dict() for each in rounds])


def history_cut_in_certificate_and_metrics(store: ScoredStore) -> None:
    history_cut_in_certificate(store)
    store.tell(store.solved, **{"certificate.rounds": store.solution.certificate.rounds})
    store.forget_steps(store.solved, 0)


def checked_in_certificate(store: ScoredStore) -> None:
    store.rewrite(checked=False)


FORGERIES: dict[Forgery, str] = {
    seconds_in_certificate: "metric certificate.seconds",
    seconds_in_certificate_and_metric: "certificates.json .* column seconds",
    rows_in_certificate: "metric certificate.rows",
    rows_in_certificate_and_metric: "tag certificate.digest",
    residual_in_certificate: "metric certificate.largest_residual",
    version_in_certificate: "tag certificate.digest|tag solver",
    version_in_certificate_and_tag: "tag certificate.digest",
    version_in_certificate_and_every_tag: "certificates.json .* column solver_version",
    solver_in_certificate: "says solver",
    notes_in_certificate: "notes",
    gap_in_certificate: "says gap",
    gap_in_certificate_and_metric: "says gap",
    bound_everywhere_but_in_the_multipliers: "says proved bound",
    status_in_certificate: "notes|status time_limit",
    ones_at_a_gap_of_ten: "violates|says objective|says gap",
    settings_of_the_certificate: "differ in gap",
    settings_of_certificate_and_run: "param says gap=0.001",
    history_cut_in_certificate: "metric certificate.rounds",
    history_cut_in_certificate_and_metrics: "metric (bound|gap|objective|rows)",
    checked_in_certificate: "never checked",
}


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda each: each.__name__)
def test_a_forged_certificate_is_refused_by_name(forging: ScoredStore, forgery: Forgery) -> None:
    said = refusal_of(forging, forgery)
    assert re.search(FORGERIES[forgery], said), said or "it was accepted"
