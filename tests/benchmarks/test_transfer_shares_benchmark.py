"""The benchmark of carried masks: what it trains from each start, and that it goes on where it ended."""

from pathlib import Path

import pytest
import torch

import training
from benchmarks import transfer_shares
from benchmarks.transfer_shares import OUTPUT, RANDOM, TRANSFERRED, Bench, main


@pytest.mark.slow
def test_a_seed_is_measured_start_by_start_and_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    monkeypatch.setattr(transfer_shares, "PROGRAM_IMAGES", 20)
    words = ["--pair", "digits:digits", "--shares", "50", "--seeds", "2", "--images", "900", "--epochs", "4"]
    words += ["--starts", "trained,output", "--cache", str(tmp_path), "--picture", str(tmp_path / "shares.png")]
    main(words)
    first = capsys.readouterr()
    assert [line.split(" | ")[1] for line in first.out.splitlines()[2:]] == [
        "trained weights",
        "trained weights, output layer alone",
    ]
    assert len(list((tmp_path / "transfer-shares").glob("*.json"))) == 4
    monkeypatch.setattr(transfer_shares, "open_pair", pytest.fail)
    main(words)
    assert capsys.readouterr().out == first.out
    assert (tmp_path / "shares.png").stat().st_size > 5000


def test_with_the_output_layer_alone_nothing_else_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    trained: list[torch.nn.Module] = []
    usual = training.fit

    def fit(network, *given, **asked):
        made = usual(network, *given, **asked)
        trained.append(made.model)
        return made

    bench = Bench("fc3", ("digits", "digits"), 0, 200, 1, "")
    pair, masks = bench.pair, {"fc1": torch.arange(300).numpy() % 2 == 0}
    whole = {TRANSFERRED: masks, RANDOM: None}
    with monkeypatch.context() as watched:
        watched.setattr(transfer_shares.training, "fit", fit)
        transfer_shares.measure(pair, OUTPUT, whole)
    before = pair.starts[OUTPUT]
    assert torch.equal(trained[1].fc1.weight, before.fc1.weight)
    assert torch.equal(trained[0].fc2.weight[:, ::2], before.fc2.weight[:, ::2])
    assert not torch.equal(trained[1].output.weight, before.output.weight)


def test_words_that_name_no_start_are_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, line in ((["--starts", "late"], "choose of initial"), (["--pair", "digits"], "two data sets")):
        with pytest.raises(SystemExit):
            main(words)
        assert line in capsys.readouterr().err
