"""The last lines of a flow: what it came to, read from the store, whatever was taken over."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows.pipelines.outcome import look_at, outcome_lines
from flows.tracking import Run
from flows.tracking.stores import view_page
from tests.flows.small_run import RunStage, run_of


def _cells(lines: list[str], name: str) -> list[str]:
    [line] = [each for each in lines if each.startswith(name)]
    return line.removeprefix(name).split()


def test_the_lines_of_a_main_run_have_its_figures_and_lead_to_its_files(
    client: MlflowClient, main_run: MlflowRun, stage_runs: dict[str, MlflowRun]
) -> None:
    lines = outcome_lines(run_of(client, main_run))
    metrics = {stage: run.data.metrics for stage, run in stage_runs.items()}
    removal = run_of(client, stage_runs["prune"]).json("removal.json")
    trained, compacted = _cells(lines, "trained"), _cells(lines, "compacted  ")
    assert trained[0] == f"{100 * metrics['train']['test_accuracy']:.2f}"
    assert trained[2:5] == [
        f"{removal[name]:,}" for name in ("units_total", "parameters_before", "multiply_adds_before")
    ]
    assert trained[5] == f"{metrics['train']['seconds']:.1f}"
    assert compacted[0] == f"{100 * metrics['compact']['test_accuracy']:.2f}"
    assert compacted[3:5] == [f"{metrics['compact'][name]:,.0f}" for name in ("parameters", "multiply_adds")]
    assert any(line.startswith("pruned") for line in lines)
    assert any(line.startswith("retrained") for line in lines)
    assert " ".join(_cells(lines, "proved")).startswith("scores optimal in 2 programs, largest gap ")
    for what in ("compacted network", "ONNX", "report"):
        [path] = _cells(lines, what)
        assert Path(path).is_file()
    assert lines[-2].endswith(look_at(run_of(client, main_run)))
    assert client.tracking_uri in lines[-2]
    [place] = [each for each in lines if each.startswith("compare runs")]
    assert place.endswith(view_page(client.tracking_uri, main_run.info.experiment_id))


def test_a_stage_alone_has_those_that_it_continued_as_earlier(
    client: MlflowClient, run_stage: RunStage, stage_runs: dict[str, MlflowRun]
) -> None:
    run_id = run_stage("compact", run_id=stage_runs["prune"].info.run_id, export="none")
    lines = outcome_lines(run_of(client, client.get_run(run_id)))
    assert _cells(lines, "trained")[-1] == _cells(lines, "scored")[-1] == "earlier"
    assert _cells(lines, "compacted  ")[-1] != "earlier"
    assert not any(line.startswith(("ONNX", "report", "retrained")) for line in lines)


def test_a_flow_without_such_stages_says_where_to_look_and_a_run_that_is_gone_that_it_is(
    client: MlflowClient, main_run: MlflowRun, stage_runs: dict[str, MlflowRun]
) -> None:
    below = run_of(client, stage_runs["train"])
    assert outcome_lines(below) == [f"{'look at it':<20}{look_at(below)}"]
    [line] = outcome_lines(Run(client.tracking_uri, main_run.info.experiment_id, "0" * 32))
    assert line.startswith("it cannot be read (")


def test_the_way_to_the_ui_shows_no_secret() -> None:
    for address, shown in {
        "http://user:secret@host:5000": "http://host:5000/#/experiments/3/runs/abc",
        "postgresql+psycopg2://user:secret@host/name": 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI", then http://',
        "sqlite:////tmp/mlflow.db": "mlflow ui --backend-store-uri sqlite:////tmp/mlflow.db, then http://127.0.0.1:5000/#/",
    }.items():
        line = look_at(Run(address, "3", "abc"))
        assert "secret" not in line
        assert line.startswith(shown)
