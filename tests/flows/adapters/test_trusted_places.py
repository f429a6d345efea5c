"""A stranger's run names folders, addresses, tags and models: whoever checks it or goes on with it reads none."""

import os
import pickle
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from flows import stages, tracking
from flows.adapters import artifacts
from flows.config.command_line import words_of
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import ArtifactError, FlowError
from flows.pipelines.preparation import prepare_flow
from flows.tracking import Run
from tests.flows.adapters.strangers_run import (
    CONTINUING,
    MORE,
    SCORED,
    Touching,
    file_that_runs,
    refused,
    saying,
    typed,
)
from tests.flows.small_run import RunStage

ROOT = Path(__file__).resolve().parents[3]


def test_a_mask_is_carried_over_from_a_strangers_run_without_its_model(
    tmp_path: Path, marker: Path, stranger: list[Run], client: MlflowClient, honest: str
) -> None:
    words = {"model": honest, "image_size": "8", "dataset": "digits", "tracking_uri": client.tracking_uri, **SCORED}
    with saying(
        stranger, model=file_that_runs(tmp_path, marker), data_root=str(tmp_path), checkpoint="none.pt"
    ) as run_id:
        with pytest.raises(FlowError, match="target=digits is dataset too"):
            prepare_flow(ENTRY_POINTS["transfer"], {**words, "target": "digits", "mask_run": run_id})
        (tmp_path / "images").mkdir()
        found = tracking.find_stage(tracking.find_run(client.tracking_uri, run_id), "prune")
        assert set(artifacts.logged_masks(found)) == {"1"}
    assert not marker.exists()


def test_check_of_a_strangers_run_is_one_line_and_code_2_on_the_command_line(
    tmp_path: Path, marker: Path, stranger: list[Run], client: MlflowClient
) -> None:
    with saying(stranger, model=file_that_runs(tmp_path, marker)) as run_id:
        words = ["check", "--run_id", run_id, "--tracking_uri", client.tracking_uri, "--cache", "none"]
        ended = _command(words, tmp_path)
    assert ended.returncode == 2
    assert ended.stdout.endswith(" loading torch, MLflow and Prefect\n")
    assert ended.stdout.count("\n") == 1
    [line] = ended.stderr.splitlines()
    assert words_of(ENTRY_POINTS["check"], [*words[1:], *shlex.split(line.partition(" type ")[2])])["model"] == (
        f"{tmp_path / 'hostile file.py'}:net"
    )
    assert not marker.exists()


def test_the_run_that_is_served_to_the_task_must_name_what_was_named_before(
    tmp_path: Path, marker: Path, stranger: list[Run], client: MlflowClient, honest: str
) -> None:
    words = {"run_id": stranger[0].run_id, "tracking_uri": client.tracking_uri, "model": honest}
    settings = prepare_flow(ENTRY_POINTS["check"], words)
    scored = tracking.find_stage(stranger[0], "score")
    with (
        saying(stranger, model=file_that_runs(tmp_path, marker)),
        pytest.raises(ArtifactError, match="they have changed meanwhile"),
    ):
        stages.check_solutions(settings, scored, tracking.find_stage(scored, "train"))
    assert not marker.exists()


@pytest.mark.parametrize("name", CONTINUING)
def test_folders_of_images_and_options_of_a_solver_are_named_again_as_well(
    name: str, tmp_path: Path, stranger: list[Run], client: MlflowClient, honest: str
) -> None:
    data, options = f"folder:{tmp_path / 'private pictures'}", '{"presolve": "off"}'
    with saying(stranger, dataset=data, data_root=str(tmp_path / "root"), solver_options=options) as run_id:
        words = typed(refused(name, client, run_id, model=honest))
    wanted = {"dataset": data, "data_root": str(tmp_path / "root")}
    assert words == wanted | ({"solver_options": options} if name == "prune" else {})


def test_a_name_that_cannot_be_typed_is_shown_escaped(stranger: list[Run], client: MlflowClient) -> None:
    with saying(stranger, model="own.py\x1b[2J\n:net") as run_id:
        line = refused("check", client, run_id)
    assert r"model='own.py\x1b[2J\n:net'" in line
    assert line.endswith("train anew")


def test_a_tag_of_a_strangers_run_leads_no_file_out_of_the_check(
    tmp_path: Path, stranger: list[Run], client: MlflowClient, honest: str
) -> None:
    scored = tracking.find_stage(stranger[0], "score")
    [program] = scored.below("scoring set")
    client.set_tag(program.run_id, "block", f"{'../' * 20}{str(tmp_path / 'executed')[1:]}")
    client.set_tag(program.run_id, "block_place", "0")
    settings = prepare_flow(
        ENTRY_POINTS["check"], {"run_id": scored.run_id, "tracking_uri": client.tracking_uri, "model": honest}
    )
    try:
        with (
            tracking.open_run(scored, "check", {"stage": "check"}) as run,
            pytest.raises(FlowError, match=r"^2 of 2 solutions do not hold: no run \(scoring set 1\), .*again$"),
        ):
            stages.check_solutions(settings, scored, tracking.find_stage(scored, "train"), on_part=tracking.teller(run))
    finally:
        client.delete_tag(program.run_id, "block")
        client.delete_tag(program.run_id, "block_place")
    assert not list(tmp_path.iterdir())
    verdicts = sorted(item.path for item in client.list_artifacts(run.run_id))
    assert len(verdicts) == 2
    assert all(each.startswith("scoring_set_1") for each in verdicts)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTINUING)
def test_a_run_whose_places_lead_elsewhere_is_continued_without_them(
    name: str, run_stage: RunStage, tmp_path: Path, stranger: list[Run], client: MlflowClient, honest: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Touching(tmp_path / "executed")))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.0)
        places = {
            "checkpoint": str(tmp_path / "hostile.pt"),
            "cache": str(elsewhere / "cache"),
            "data_root": str(elsewhere / "data"),
            "tracking_uri": f"sqlite:///{elsewhere / 'm.db'}",
            "task_runner": "dask",
            "dask_address": f"tcp://127.0.0.1:{listening.getsockname()[1]}",
            "experiment": "elsewhere",
        }
        with saying(stranger, **places) as run_id:
            done = run_stage(name, run_id=run_id, model=honest, data_root=str(tmp_path / "own"), **MORE.get(name, {}))
            with pytest.raises(BlockingIOError):
                listening.accept()
    ended: MlflowRun = client.get_run(done)
    assert ended.info.status == "FINISHED"
    assert client.get_experiment(ended.info.experiment_id).name == "critical-neurons"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.pt"]
    logged = artifacts.logged_settings(Run(client.tracking_uri, ended.info.experiment_id, done))
    assert (logged.cache, logged.dask_address, logged.allow_pickle) == ("", "", False)


def _command(words: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-m", "flows", *words],
        cwd=ROOT,
        env={**environment, "PREFECT_HOME": str(home / "prefect"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
