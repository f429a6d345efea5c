"""compose.yaml says what the pages say, and its servers and its worker start by the commands that other tests run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.cli import server as mlflow_server

from tests.flows.pipelines.deployment_commands import DEPLOY, POOL, WORKER

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


def test_the_worker_starts_by_the_commands_of_the_deployments_page(services: dict[str, dict[str, Any]]) -> None:
    shell, option, script = services["worker"]["command"]
    assert (shell, option) == ("sh", "-c")
    commands = [shlex.split(each.removeprefix("exec ")) for each in script.split(" && ")]
    pool, deploy, worker = (["prefect", *words] for words in (POOL, DEPLOY, WORKER))
    assert commands == [[*pool, "--overwrite"], deploy, worker]


def test_mlflow_takes_the_words_of_its_server(services: dict[str, dict[str, Any]]) -> None:
    program, command, *words = services["mlflow"]["command"]
    assert (program, command) == ("mlflow", "server")
    given = mlflow_server.make_context("server", words, resilient_parsing=False).params
    assert given["serve_artifacts"]
    assert given["host"] == "0.0.0.0"
    address = services["worker"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert address in given["allowed_hosts"].split(",")


def test_the_database_is_the_one_that_mlflow_is_given(services: dict[str, dict[str, Any]]) -> None:
    database, address = services["database"]["environment"], services["mlflow"]["environment"]
    user, name = database["POSTGRES_USER"], database["POSTGRES_DB"]
    secret = r"\$\{POSTGRES_PASSWORD\}"
    wanted = rf"postgresql\+psycopg2://{user}:{secret}@database:5432/{name}"
    assert re.fullmatch(wanted, address["MLFLOW_BACKEND_STORE_URI"])


def test_nothing_starts_before_what_it_needs_answers_and_nobody_else_can_reach_it(
    services: dict[str, dict[str, Any]],
) -> None:
    assert all(service["healthcheck"]["test"] for service in services.values())
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert services[needed]["healthcheck"]["test"], needed
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert set(services["worker"]["depends_on"]) == {"mlflow", "prefect"}


def test_neither_the_password_nor_the_images_go_into_the_image_or_into_git() -> None:
    for name in (".dockerignore", ".gitignore"):
        left_out = {line.strip("/") for line in (ROOT / name).read_text().splitlines()}
        assert {".env", "images"} <= left_out, name


def test_the_image_has_the_exact_versions_and_the_folders_that_are_kept(services: dict[str, dict[str, Any]]) -> None:
    file = (ROOT / "Dockerfile").read_text()
    assert "pip install --no-cache-dir -r requirements.txt" in file
    kept = {
        volume.split(":")[1] for each in services.values() for volume in each.get("volumes", []) if "$" not in volume
    }
    for place in kept - {"/var/lib/postgresql/data"}:
        assert f" {place} " in file, place
