"""The command that renews what is made from the settings."""

from pathlib import Path

import pytest

from flows.config import generate


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the generated files, which the command takes for the project's."""
    for file in generate.documents():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text((generate.ROOT / file).read_text())
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    return tmp_path


def test_a_stale_file_is_named_with_the_command_and_renewed_by_it(
    copies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copies / "MLproject").read_text()
    (copies / "MLproject").write_text(before.replace("default: 20", "default: 21"))
    (copies / "docs" / "parameters.md").unlink()
    assert generate.generate(["--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "MLproject is stale: python -m flows.config.generate renews it",
        "docs/parameters.md is stale: python -m flows.config.generate renews it",
    ]
    assert generate.generate([]) == 0
    assert (copies / "MLproject").read_text() == before
    assert generate.generate(["--check"]) == 0


def test_an_unknown_word_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.generate(["--chek"]) == 2
    assert capsys.readouterr().err == "error: python -m flows.config.generate takes no words but --check\n"
