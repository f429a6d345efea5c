"""The notebooks of examples/: small, with the outputs of one run from top to bottom, and still true when run again."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LARGEST = 500_000  # bytes of a file, its pictures included
LONGEST = 60  # CPU seconds of a run, on one thread


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_one_run_from_top_to_bottom_without_an_error(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]


def run(name: str, asked: str) -> Any:
    """Run a notebook in a kernel of its own, in the project's folder; what an expression comes to at its end."""
    nbclient = pytest.importorskip("nbclient", reason="needs requirements-dev.txt")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)
    question = f"import json, time\nprint(json.dumps([{asked}, time.process_time()]))"
    notebook.cells.append(nbformat.v4.new_code_cell(question))
    nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(ROOT)}}).execute()
    answer, seconds = json.loads(notebook.cells[-1].outputs[0].text)
    assert seconds < LONGEST
    return answer


@pytest.mark.slow
def test_scores_say_which_neurons_matter_and_a_tenth_of_the_parameters_does_nearly_as_well() -> None:
    asked = """{
        "status": again.certificate.status,
        "same": all((again.scores[layer] == scores.scores[layer]).all() for layer in scores.scores),
        "half": [least_first[len(counts) // 2], most_first[len(counts) // 2]],
        "pulls": [len(of_most), len(of_least)],
        "accuracy": [training.evaluate(each, data.test).accuracy for each in (network, result.network)],
        "parameters": [sum(each.numel() for each in one.parameters()) for one in (network, result.network)],
    }"""
    found = run("which_neurons_matter", asked)
    assert (found["status"], found["same"]) == ("optimal", True)
    least_first, most_first = found["half"]
    assert least_first > most_first + 0.2
    assert found["pulls"][0] > found["pulls"][1] == 0
    dense, smaller = found["accuracy"]
    assert smaller > dense - 0.03
    assert found["parameters"][1] < found["parameters"][0] / 5


@pytest.mark.slow
def test_the_pruned_network_makes_a_smaller_model_and_torch_agrees_with_both_optima() -> None:
    asked = """{
        name: {
            "size": [answer["condition"], answer["variables"], answer["binaries"], answer["rows"]],
            "margin": margins(networks[name], answer["knobs"]),
            "cost": [answer["cost"], float(COST @ answer["knobs"])],
        }
        for name, answer in answers.items()
    }"""
    found = run("pruned_network_in_an_optimisation_model", asked)
    for answer in found.values():
        assert answer["size"][0] == "optimal"
        assert answer["margin"] == pytest.approx(1.0, abs=1e-5)
        assert answer["cost"][0] == pytest.approx(answer["cost"][1], abs=1e-6)
    dense, pruned = (found[name]["size"][1:] for name in ("dense", "pruned"))
    assert all(few < 0.7 * many for few, many in zip(pruned, dense, strict=True))
