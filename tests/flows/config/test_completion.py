"""Completion: bash itself completes flows, settings and choices by the script."""

import shutil
import subprocess

import pytest

from flows.__main__ import main
from flows.config import ENTRY_POINTS, completion_of
from flows.errors import SettingsError


def _completed(*words: str) -> list[str]:
    bash = shutil.which("bash") or pytest.skip("bash is not installed")
    ask = f"{completion_of(['bash'])}\nCOMP_WORDS=({' '.join(words)} '')\nCOMP_CWORD={len(words)}\n_critical_neurons\n"
    ask += 'printf "%s\\n" "${COMPREPLY[@]}"'
    return subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_flows_then_their_settings_then_choices() -> None:
    assert set(ENTRY_POINTS) < set(_completed("critical-neurons"))
    assert set(_completed("critical-neurons", "compact")) == {
        f"--{name}" for name in (*ENTRY_POINTS["compact"].accepted, "help")
    }
    assert _completed("critical-neurons", "compact", "--export") == ["none", "torch", "onnx", "all"]
    assert _completed("critical-neurons", "compact", "--run_id") == []


def test_the_command_line_prints_the_script_and_refuses_other_shells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "bash"]) == 0
    assert "complete -o default" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="takes the name of a shell"):
        completion_of(["fish"])


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "0.1.0\n"
