"""Forged params, metrics, tags, tables and files of a finished score run: who rewrites some of them is refused."""

import json
import re
import sqlite3

import numpy as np
import pytest

from flows.stages.scoring.compared import FILES
from tests.flows.stages.scoring.scored_store import CERTIFICATE, Forgery, ScoredStore, check_run, refusal_of


def gap_in_metric(store: ScoredStore) -> None:
    store.tell(store.solved, **{"certificate.gap": 0.0})


def status_in_tag(store: ScoredStore) -> None:
    store.tag(store.solved, "certificate.status", "time_limit")


def status_of_the_score_run(store: ScoredStore) -> None:
    store.tag(store.scored, "certificate.status", "stalled")


def a_param(store: ScoredStore) -> None:
    store.param("loss_weight", "7.0")


def a_param_that_is_none(store: ScoredStore) -> None:
    store.param("gap", "small")


def objective_of_a_round_in_its_metric(store: ScoredStore) -> None:
    store.tell(store.solved, objective=store.solution.certificate.objective - 1e-7)


def largest_gap_of_the_score_run(store: ScoredStore) -> None:
    store.tell(store.scored, largest_gap=0.0)


def programs_of_the_score_run(store: ScoredStore) -> None:
    store.tell(store.scored, programs=3.0)


def table_of_certificates(store: ScoredStore) -> None:
    path = store.folder(store.scored) / "certificates.json"
    table = json.loads(path.read_text())
    table["data"][0][table["columns"].index("seconds")] += 1.0
    path.write_text(json.dumps(table))
    store.vouch(store.scored, "certificates.json")


def table_of_scores(store: ScoredStore) -> None:
    path = store.folder(store.scored) / "scores.json"
    table = json.loads(path.read_text())
    table["data"][0][table["columns"].index("score")] += 1e-3
    path.write_text(json.dumps(table))
    store.vouch(store.scored, "scores.json")


def content_tag_of_the_solution(store: ScoredStore) -> None:
    store.tag(store.solved, "content.score set", "0" * 64)


def content_tag_of_the_mean(store: ScoredStore) -> None:
    store.tag(store.scored, "content.average", "0" * 64)


def content_tag_left_out(store: ScoredStore) -> None:
    store.client.delete_tag(store.solved.run_id, "content.score set")


def a_scoring_set_packed_anew(store: ScoredStore) -> None:
    path = store.folder(store.scored) / "scoring_set_1.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["indices"] = arrays["indices"] + 1
    np.savez_compressed(path, **arrays)
    store.vouch(store.scored, "scoring_set_1.npz")


def a_file_behind_its_digest(store: ScoredStore) -> None:
    path = store.folder(store.solved) / CERTIFICATE
    path.write_text(path.read_text() + "\n")


def a_metric_left_out(store: ScoredStore) -> None:
    with sqlite3.connect(store.database, timeout=30) as connection:
        for table in ("metrics", "latest_metrics"):
            connection.execute(
                f"DELETE FROM {table} WHERE run_uuid = ? AND key = 'certificate.proved_bound'", (store.solved.run_id,)
            )


FORGERIES: dict[Forgery, str] = {
    gap_in_metric: "metric certificate.gap",
    status_in_tag: "tag certificate.status",
    status_of_the_score_run: "tag certificate.status",
    a_param: "param says loss_weight=7.0",
    a_param_that_is_none: "param gap is damaged",
    objective_of_a_round_in_its_metric: "metric objective",
    largest_gap_of_the_score_run: "metric largest_gap",
    programs_of_the_score_run: "metric programs",
    table_of_certificates: "certificates.json .* column seconds",
    table_of_scores: "scores.json .* column score",
    content_tag_of_the_solution: "content.score set",
    content_tag_of_the_mean: "content.average",
    content_tag_left_out: "content.score set",
    a_scoring_set_packed_anew: "scoring_set_1.npz",
    a_file_behind_its_digest: "certificate.json is not what was logged",
    a_metric_left_out: "no metric certificate.proved_bound",
}


def test_the_run_holds_before_it_is_forged(scored_store: ScoredStore) -> None:
    assert check_run(scored_store) == ""
    assert set(scored_store.scored.contents()) <= set(FILES)


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda each: each.__name__)
def test_a_forged_run_is_refused_by_name(forging: ScoredStore, forgery: Forgery) -> None:
    said = refusal_of(forging, forgery)
    assert re.search(FORGERIES[forgery], said), said or "it was accepted"
