"""The tools of .pre-commit-config.yaml, on the whole project: the same list here, there and so in CI."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_project_passes(hook: dict[str, str]) -> None:
    program, *words = hook["entry"].split()
    # Beside the interpreter: the environment need not be activated.
    command = [str(Path(sys.executable).with_name(program)), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
