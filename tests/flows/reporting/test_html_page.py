"""A run as one page, and the words a run is found again by: its title and its command."""

import io
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from PIL import Image

from flows.config.command_line import chosen, settings_of, words_of
from flows.config.entry_points import ENTRY_POINTS
from flows.config.settings import Settings
from flows.pipelines.preparation import prepare_flow
from flows.pipelines.stage_runs import TITLE, run_title
from flows.reporting.html_page import Command, Picture, Section, Table, figure_png, page, pixels_png
from flows.stages.summaries.html_report import REPORT, command_of

MAIN = ENTRY_POINTS["main"]
PICTURE = Picture("one pixel", pixels_png(np.zeros((1, 1, 3), np.uint8)))
REFERENCES = ("src", "href", "srcset", "action", "data", "poster")


class _Read(HTMLParser):
    """The words of a page, what it refers to, and its elements by name."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.references: list[str] = []
        self.elements: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.references += [value or "" for name, value in attrs if name in REFERENCES]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _read(text: str) -> _Read:
    read = _Read()
    read.feed(text)
    read.close()
    return read


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_words_are_shown_as_they_are_and_never_become_elements(words: str) -> None:
    plain = [Section("title", ["x", Table(("x",), [("x",)]), Command("x")])]
    given_words = [Section(words, [words, Table((words,), [(words,)]), Command(words)])]
    before, after = (_read(page("x", "x", sections)) for sections in (plain, given_words))
    assert after.elements == before.elements
    assert after.references == []
    assert sum(part == words for part in after.words) == 5 or "\r" in words


def test_a_picture_stands_in_the_page_itself() -> None:
    read = _read(page("x", "x", [Section("pictures", [PICTURE])]))
    (source,) = read.references
    assert source.startswith("data:image/png;base64,")
    assert "one pixel" in read.words


def test_a_section_without_parts_is_left_out() -> None:
    assert "nothing" not in page("x", "x", [Section("nothing", [])])


def test_numbers_of_a_table_stand_right_and_a_missing_one_is_a_dash() -> None:
    text = page("x", "x", [Section("x", [Table(("a", "b", "c", "d"), [(1 / 3, 7, None, True)])])])
    assert '<td class="number">0.333333</td><td class="number">7</td><td class="number">-</td><td>yes</td>' in text


def test_the_same_figure_is_the_same_picture() -> None:
    def drawn() -> bytes:
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, 1])
        return figure_png(figure)

    assert drawn() == drawn()
    assert Image.open(io.BytesIO(drawn())).size == (100, 100)


def test_the_report_of_a_run_stands_alone_and_holds_what_was_logged(client: MlflowClient, main_run: MlflowRun) -> None:
    read = _read(Path(client.download_artifacts(main_run.info.run_id, REPORT)).read_text())
    assert all(reference.startswith("data:image/png;base64,") for reference in read.references)
    assert not {"script", "link", "iframe"} & set(read.elements)
    for name in ("trained", "pruned", "retrained"):
        assert f"{100 * main_run.data.metrics[f'accuracy_{name}']:.2f} %" in read.words
    assert main_run.info.run_id in read.words
    assert any(words.startswith("python -m flows main") for words in read.words)


def test_the_masks_stand_on_the_run_on_top_too(client: MlflowClient, main_run: MlflowRun) -> None:
    names = [item.path for item in client.list_artifacts(main_run.info.run_id, "images")]
    for layer in ("conv1", "conv2", "fc1", "fc2"):
        assert any(f"mask {layer}+step+0+" in name and name.endswith(".png") for name in names)


SPOKEN = st.fixed_dictionaries(
    {},
    optional={
        "dataset": st.sampled_from(["mnist", "digits"]),
        "model": st.sampled_from(["fc3", 'a b\'s "net".py:net']),
        "epochs": st.integers(1, 9).map(str),
        "loss_weight": st.floats(1e-3, 1e3).map(repr),
        "gate": st.sampled_from(["linear", "pattern"]),
        "share": st.sampled_from(["0.25", "0.5"]),
        "solver_options": st.just('{"presolve": "off"}'),
        "compare": st.sampled_from(["", "random,dead"]),
        "seed": st.integers(0, 99).map(str),
    },
)


@given(SPOKEN)
def test_the_command_in_the_report_is_that_run_again(words: dict[str, str]) -> None:
    settings = settings_of({**MAIN.defaults, **words})
    command = shlex.split(command_of(settings))
    assert command[:4] == ["python", "-m", "flows", "main"]
    again = settings_of({**MAIN.defaults, **words_of(MAIN, command[4:])})
    assert chosen(MAIN, again) == chosen(MAIN, settings)


def test_the_command_names_no_place_of_this_machine() -> None:
    settings = Settings(data_root="/somewhere", tracking_uri="sqlite:////elsewhere.db", cache="none", threads=2)
    assert command_of(settings) == "python -m flows main"


@given(SPOKEN)
def test_a_title_is_short_and_says_so_when_it_leaves_something_out(words: dict[str, str]) -> None:
    settings = settings_of({**MAIN.defaults, **words})
    title = run_title("main", settings)
    named = f"main: {settings.model.rpartition(':')[2]} on {settings.dataset}"
    assert title == named or title.endswith(f" ({named})")
    assert len(title) <= max(TITLE, len(named)) + len(" (, …)")
    shown = [name for name in chosen(MAIN, settings) if f"{name}=" in title]
    told = set(chosen(MAIN, settings)) - {"model", "dataset"}
    assert set(shown) <= told
    assert ("…" in title) == (set(shown) != told)


def test_a_title_tells_first_what_people_compare() -> None:
    settings = prepare_flow(MAIN, {"epochs": "3", "share": "0.5", "selection": "share", "rule": "taylor"})
    assert run_title("main", settings) == "rule=taylor, selection=share, … (main: lenet5 on digits)"
