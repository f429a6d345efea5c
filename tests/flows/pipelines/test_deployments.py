"""The flows as deployments: what a form shows, and what becomes of what it sends."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter, LogFilter
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.schema_tools.validation import is_valid

from flows.config.command_line import settings_of
from flows.config.entry_points import ENTRY_POINTS
from flows.config.settings import Settings
from flows.pipelines.deployments import offered_flow
from flows.pipelines.flows import FLOWS
from tests.busy import BUSY
from tests.flows.small_run import SMALL

ROOT = Path(__file__).resolve().parents[3]


def schema(name: str) -> dict:
    return offered_flow(name).parameters.model_dump()


@pytest.mark.parametrize("name", FLOWS)
def test_a_form_has_a_field_with_help_for_every_setting_of_the_entry_point(name: str) -> None:
    point, fields = ENTRY_POINTS[name], schema(name)["properties"]
    assert list(fields) == list(point.accepted)
    for setting, field in fields.items():
        assert field["description"].startswith(Settings.model_fields[setting].description)
        assert field["description"].endswith("as in the earlier run") == (setting not in point.own)


@pytest.mark.parametrize("name", FLOWS)
def test_the_defaults_of_a_form_are_those_of_the_entry_point(name: str) -> None:
    point, fields = ENTRY_POINTS[name], schema(name)["properties"]
    given = {setting: fields[setting]["default"] for setting in point.own if "default" in fields[setting]}
    assert set(point.own) - set(given) == ({"run_id"} if point.after else set()) == set(schema(name)["required"])
    assert settings_of(given) == Settings(**point.defaults)


def test_a_form_shows_choices_and_limits() -> None:
    fields = schema("main")["properties"]
    assert fields["gate"]["enum"] == ["published", "pattern", "linear", "exact"]
    assert (fields["epochs"]["type"], fields["epochs"]["minimum"]) == ("integer", 0)
    assert (fields["threshold"]["type"], fields["threshold"]["maximum"]) == ("number", 1)
    assert fields["relax"]["type"] == "boolean"


@pytest.mark.parametrize("wrong", [{"epochs": "abc"}, {"epochs": -1}, {"gate": "exakt"}, {"relax": "no"}])
def test_a_form_refuses_a_value_of_the_wrong_type_or_out_of_range(wrong: dict[str, object]) -> None:
    assert is_valid({"epochs": 4, "gate": "exact", "relax": False}, schema("main"))
    assert not is_valid(wrong, schema("main"))


def test_prefect_finds_a_deployed_flow_by_its_entrypoint() -> None:
    assert load_flow_from_entrypoint("flows.pipelines.deployments.main") is offered_flow("main")


@pytest.fixture(scope="module")
def deployed_run(prefect_server: None, client: MlflowClient) -> MlflowRun:
    values = {
        **settings_of(SMALL).model_dump(include=set(SMALL)),
        "tracking_uri": client.tracking_uri,
        "export": "none",
    }
    return client.get_run(offered_flow("main")(**values, data_root=None))


def test_a_deployed_flow_does_the_work_of_the_flow_it_is_named_after(deployed_run: MlflowRun) -> None:
    assert deployed_run.info.status == "FINISHED"
    assert deployed_run.data.params["export"] == "none"


def test_the_mlflow_run_names_the_prefect_run_and_that_one_shows_the_way_back(deployed_run: MlflowRun) -> None:
    number = deployed_run.data.tags["prefect.flow_run"]
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(number)
        runs = FlowRunFilter.model_validate({"id": {"any_": [number]}})
        found = prefect.read_artifacts(artifact_filter=ArtifactFilter(), flow_run_filter=runs)
    [artifact] = [each for each in found if each.key == "mlflow-run"]
    [bar] = [each for each in found if each.type == "progress"]
    assert flow_run.name == deployed_run.data.tags["prefect.flow_run_name"]
    assert float(str(bar.data)) == 100.0
    assert deployed_run.info.run_id in artifact.data


def test_the_progress_lines_are_logs_of_the_prefect_run(deployed_run: MlflowRun) -> None:
    number = deployed_run.data.tags["prefect.flow_run"]
    wanted = LogFilter.model_validate({"flow_run_id": {"any_": [number]}})
    deadline = time.monotonic() + 20
    said = ""
    # Prefect sends logs every few seconds.
    while "largest difference to the masked network" not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.5)
        with get_client(sync_client=True) as prefect:
            said = "\n".join(log.message for log in prefect.read_logs(wanted))
    assert "epoch 4 of 4" in said
    assert "set 2: optimal" in said


def test_what_a_person_can_mend_is_the_message_of_the_failed_run_in_one_line(
    prefect_server: None, tmp_path: Path
) -> None:
    state = offered_flow("main")(channels=2, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", return_state=True)
    assert state.is_failed()
    assert state.message == "channels=2: must be 0, 1 or 3"
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_named_but_away_gives_one_line_and_code_2_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        code = (
            "import sys; from flows.__main__ import main; code = main(['main']); "
            "sys.exit(code if not {'torch', 'mlflow'} & set(sys.modules) else 99)"
        )
        start = time.monotonic()
        done = _python(code, tmp_path, PREFECT_API_URL=address)
    assert time.monotonic() - start < BUSY
    assert done.returncode == 2
    assert done.stdout.endswith(" main     loading torch, MLflow and Prefect\n")
    assert done.stdout.count("\n") == 1
    assert done.stderr.startswith(f"error: Prefect server {address} does not answer (")
    assert done.stderr.count("\n") == 1


def test_serve_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    done = _python("import sys; from flows.__main__ import main; sys.exit(main(['serve']))", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: PREFECT_API_URL is not set: start one with `prefect server start`")
    assert done.stderr.count("\n") == 1


def _python(code: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1", **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
