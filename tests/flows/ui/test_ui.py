"""The MLflow UI as a person sees it; pictures of it are kept in pytest's cache folder."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from flows.config import COLUMNS
from flows.pipelines.outcome import look_at
from flows.tracking import Run
from flows.tracking.stores import view_page
from flows.tracking.stores.views import FIRST
from tests.flows.backends.servers import tracking_server
from tests.flows.small_run import SMALL, RunStage, store_in
from tests.flows.ui.browser import Browser, all_drawn, browser, chromium, curves_page, runs_page

STEPS = 3
SCHEDULE = {"schedule": "iterative", "selection": "share", "share": "0.4", "steps": str(STEPS), "exchange": "0"}
RULES = ("program", "taylor")
TRIES = 10
CARD = "experiment-view-compare-runs-card"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Shown:
    """Two main runs that differ by their rule, and the server that shows them."""

    server: str
    client: MlflowClient
    experiment: str
    tops: tuple[str, ...]

    def stages(self, stage: str) -> list[str]:
        """The nested runs of a stage, one for each run on top."""
        return [
            run.info.run_id
            for top in self.tops
            for run in self.client.search_runs(
                [self.experiment], f"tags.mlflow.parentRunId = '{top}' AND tags.stage = '{stage}'"
            )
        ]


@pytest.fixture(scope="module")
def shown(run_stage: RunStage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    chromium()
    place = tmp_path_factory.mktemp("ui")
    store = store_in(place)
    small = {**SMALL, **SCHEDULE, "export": "none", "tracking_uri": store}
    del small["threshold"]
    tops = tuple(run_stage("main", **small, rule=rule) for rule in RULES)
    client = MlflowClient(store)
    with tracking_server(place / "server", store) as server:
        yield Shown(server.uri, client, client.get_run(tops[0]).info.experiment_id, tops)


@pytest.fixture(scope="module")
def seen(shown: Shown, pytestconfig: pytest.Config) -> Iterator[Browser]:
    with browser(Path(pytestconfig.cache.mkdir("screenshots"))) as opened:
        yield opened


def test_masks_of_two_runs_stand_side_by_side_and_the_slider_goes_through_the_steps(
    shown: Shown, seen: Browser
) -> None:
    page = seen.open(runs_page(shown.server, shown.experiment, "CHART"))
    page.get_by_placeholder("Search metric charts").fill("mask")
    card = page.get_by_test_id(CARD).filter(has_text="mask fc1")  # enough units for every step
    card.locator("img").nth(1).wait_for()
    # The picture is as wide as the longest name, which must fit into its card.
    _configure(page, card)
    page.get_by_role("dialog").get_by_text("Show run parameters").click()
    page.get_by_role("dialog").get_by_role("button", name="Save changes").click()
    card.locator("[data-component-id=fullscreen_button_chartcard]").click()
    dialog = page.get_by_role("dialog")
    images, slider = dialog.locator("img"), dialog.get_by_role("slider")
    slider.focus()
    pictures = []
    for step in range(STEPS + 1):
        at_step = dialog.locator(f"img[src*='step%2B{step}%2B']")
        at_step.nth(1).wait_for()
        page.wait_for_function("() => [...document.querySelectorAll('[role=dialog] img')].every(i => i.naturalWidth)")
        assert slider.get_attribute("aria-valuenow") == str(step)
        assert at_step.count() == len(RULES) == images.count()
        assert {
            run for run in shown.tops if any(run in (each.get_attribute("src") or "") for each in at_step.all())
        } == {*shown.tops}
        left, right = (at_step.nth(number).bounding_box() for number in range(2))
        assert left
        assert right
        assert abs(left["y"] - right["y"]) < left["height"] / 2, "beside, not below"
        assert left["x"] + left["width"] <= right["x"]
        pictures.append(at_step.first.screenshot())
        seen.keep(f"masks_step_{step}")
        page.keyboard.press("ArrowRight")
    assert all(before != after for before, after in pairwise(pictures))


def test_the_view_that_a_flow_names_shows_accuracy_and_size_first_and_the_models(shown: Shown, seen: Browser) -> None:
    address = view_page(shown.server, shown.experiment)
    page = seen.open(address)
    header = "[role=columnheader][col-id='{}']"
    page.locator(header.format("metrics.`accuracy_compacted`")).wait_for()
    page.get_by_text("network", exact=True).nth(len(shown.tops) - 1).wait_for()
    seen.keep("view")
    first = [*(f"metrics.`{name}`" for name in FIRST), *(f"params.`{name}`" for name in COLUMNS)]
    places = {name: box["x"] for name in first if (box := page.locator(header.format(name)).bounding_box())}
    assert list(places) == sorted(places, key=lambda name: places[name])
    assert list(places) == first
    for top in shown.tops:
        assert page.get_by_text(shown.client.get_run(top).info.run_name, exact=True).count()


def test_the_page_of_a_run_that_a_flow_names_shows_its_description_and_its_model(shown: Shown, seen: Browser) -> None:
    run = Run(shown.server, shown.experiment, shown.tops[0])
    page = seen.open(look_at(run))
    page.get_by_role("heading", name=shown.client.get_run(run.run_id).info.run_name).wait_for()
    page.get_by_text("accuracy_compacted").first.wait_for()
    [model] = shown.client.get_run(run.run_id).outputs.model_outputs
    seen.keep("run")
    page = seen.open(f"{shown.server}/#/experiments/{shown.experiment}/models/{model.model_id}")
    page.get_by_text("multiply_adds", exact=True).first.wait_for()
    seen.keep("model")


def test_scores_of_two_runs_are_compared_unit_by_unit(shown: Shown, seen: Browser) -> None:
    page = seen.open(runs_page(shown.server, shown.experiment, "ARTIFACT"))
    for words in (r"scores\.json", r"Group by:\s*unit", r"Compare:\s*score"):
        page.get_by_text(re.compile(words)).first.wait_for()
    page.get_by_text(_units(shown.client, shown.tops[0])[0], exact=True).first.wait_for()
    seen.keep("scores")
    for top in shown.tops:
        name = shown.client.get_run(top).info.run_name
        assert page.get_by_text(name, exact=True).count() >= 2, "in the list and above its column"


def test_the_curves_of_two_runs_are_drawn_with_every_step(shown: Shown, seen: Browser) -> None:
    page = seen.open(curves_page(shown.server, shown.experiment, shown.stages("prune"), "step.validation_accuracy"))
    page.locator(".js-plotly-plot .legend .traces, .js-plotly-plot .scatterlayer .trace").nth(1).wait_for(
        state="attached"  # a level line has no height, which counts as hidden
    )
    page.wait_for_function(
        "count => [...document.querySelectorAll('.js-plotly-plot')].some("
        "plot => plot.data.filter(curve => curve.y && curve.y.length >= count).length >= 2)",
        arg=STEPS,
    )
    seen.keep("curves")
    drawn = page.evaluate(
        "() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data.map(curve => [...curve.y]))"
    )
    logged = [
        [metric.value for metric in shown.client.get_metric_history(run, "step.validation_accuracy")]
        for run in shown.stages("prune")
    ]
    for values in logged:
        assert any(curve == pytest.approx(values) for curve in drawn)


def test_the_report_shows_all_its_pictures_and_asks_nobody_for_anything(shown: Shown, seen: Browser) -> None:
    for name, top in zip(RULES, shown.tops, strict=True):
        path = Path(shown.client.download_artifacts(top, "report.html"))
        page = seen.open(path.as_uri())
        images = page.locator("img")
        assert images.count() >= 4  # accuracies, scores, a mask for each layer
        assert all_drawn(images)
        assert [address for address in seen.asked if not address.startswith(("data:", path.as_uri()))] == []
        for title in ("Accuracy on the test images", "What was removed", "Scores", "Masks", "Certificates"):
            assert page.get_by_role("heading", name=title).count() == 1
        page.screenshot(path=seen.pictures / f"report_{name}.png", full_page=True)


def test_the_report_is_read_inside_the_ui_too(shown: Shown, seen: Browser) -> None:
    address = f"{shown.server}/#/experiments/{shown.experiment}/runs/{shown.tops[0]}/artifacts/report.html"
    page = seen.open(address)
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name="Accuracy on the test images").wait_for()
    assert all_drawn(frame.locator("img"))
    seen.keep("report_in_ui")


def test_the_run_on_top_says_in_words_what_it_came_to(shown: Shown, seen: Browser) -> None:
    page = seen.open(f"{shown.server}/#/experiments/{shown.experiment}/runs/{shown.tops[0]}")
    page.get_by_text("every unit scored by a mixed-integer program").first.wait_for()
    page.get_by_text("test accuracy", exact=True).first.wait_for()
    page.get_by_text("accuracy_retrained", exact=True).first.wait_for()
    seen.keep("run_on_top")


def _configure(page: Page, card: Locator) -> None:
    # The list of runs renews itself now and then, which closes a menu.
    for _ in range(TRIES):
        card.get_by_test_id(f"{CARD}-menu").click()
        try:
            page.get_by_role("menuitem", name="Configure").click(timeout=3000)
        except PlaywrightTimeout:
            continue
        return
    pytest.fail("the menu of the chart does not stay open")


def _units(client: MlflowClient, run: str) -> list[str]:
    table = json.loads(Path(client.download_artifacts(run, "scores.json")).read_text())
    column = table["columns"].index("unit")
    return [row[column] for row in table["data"]]
