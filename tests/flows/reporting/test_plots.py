"""The pictures of sweep and robustness hold what they are given."""

import io

import numpy as np
from matplotlib.figure import Figure

from flows.reporting.plots import agreement_figure, curve_figure, spread_figure
from flows.reporting.rank_correlation import agreement


def drawn(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def test_a_sweep_has_a_curve_and_a_star_per_point() -> None:
    figure = curve_figure(["gate=pattern", "gate=linear"], [0, 50], [[0.9, 0.5], [0.9, 0.7]], [(0.2, 0.8), (0.3, 0.85)])
    (panel,) = figure.axes
    lines = [line.get_xydata().tolist() for line in panel.get_lines()]
    np.testing.assert_allclose(lines[0], [[0, 90], [50, 50]])
    np.testing.assert_allclose(lines[1], [[20, 80]])
    np.testing.assert_allclose(lines[2], [[0, 90], [50, 70]])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["gate=pattern", "gate=linear"]
    assert drawn(figure)


def test_more_points_than_markers_can_be_drawn() -> None:
    names = [str(number) for number in range(15)]
    assert drawn(curve_figure(names, [0, 10], [[0.9, 0.8]] * 15, [(0.1, 0.8)] * 15))


def test_a_constant_layer_is_named_so_and_the_others_with_their_mean() -> None:
    steep = np.array([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
    figure = agreement_figure({"conv1": agreement(np.ones((3, 3))), "fc1": agreement(steep)})
    assert [panel.get_title() for panel in figure.axes[:2]] == ["conv1: constant", "fc1: mean -0.33"]
    assert drawn(figure)


def test_a_box_per_kind_spans_all_sets() -> None:
    figure = spread_figure({"units removed": {"balanced": [1.0, 2.0, 9.0], "by class": [4.0, 4.0]}})
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["balanced", "by class"]
    heights = np.concatenate([line.get_ydata() for line in panel.get_lines()])
    assert (heights.min(), heights.max()) == (1.0, 9.0)
    assert drawn(figure)
