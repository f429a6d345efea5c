"""The command line as a person uses it: what it prints, where, and its exit codes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from flows.__main__ import main
from flows.config.entry_points import ENTRY_POINTS
from tests.busy import BUSY

ROOT = Path(__file__).resolve().parents[3]


def test_help_lists_every_flow_and_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(name in overview for name in ENTRY_POINTS)
    assert main(["score", "--help"]) == 0
    assert "--loss_weight" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["mian"], ["main", "--treshold", "1"], ["main", "--gap", "nan"], ["score"], ["test", "--suite", "x"]],
)
def test_a_wrong_word_gives_one_line_and_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1


def test_what_the_words_alone_can_tell_is_refused_before_torch_mlflow_and_prefect_are_imported() -> None:
    commands = [
        ["main", "--threshold", "2"],
        ["main", "--threshold", "0.3"],
        ["main", "--selection", "program", "--rule", "snip"],
        ["gradual", "--selection", "tolerance"],
    ]
    code = (
        f"import sys; from flows.__main__ import main; code = {{main(words) for words in {commands}}}; "
        "sys.exit(2 if code == {2} and not {'torch', 'mlflow', 'prefect'} & set(sys.modules) else 99)"
    )
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True).returncode == 2
    assert time.monotonic() - start < BUSY


def test_what_only_the_data_can_tell_gives_one_line_and_code_2_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["main", "--dataset", "folder:no/such/folder", "--tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: image folder no/such/folder does not exist")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_tracking_server_that_is_away_is_told_of_in_one_line(prefect_server: None) -> None:
    store = "http://127.0.0.1:9"  # nobody listens there
    words = [sys.executable, "-m", "flows", "train", "--epochs", "1", "--cache", "none", "--tracking_uri", store]
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()}
    ended = subprocess.run(words, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert ended.stdout.count("\n") == 1
    assert ended.stdout.endswith(" loading torch, MLflow and Prefect\n")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: tracking store {store} cannot be opened: ")
