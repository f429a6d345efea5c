"""The pictures, pixel by pixel."""

import numpy as np
import pytest

from flows.reporting.figures import (
    KEPT,
    REMOVED,
    arm_figure,
    image_picture,
    kernel_picture,
    mask_picture,
    pull_figure,
    range_figure,
    score_histogram,
    unit_columns,
)


def test_a_mask_shows_every_unit_in_its_colour() -> None:
    mask = np.array([True, False, True, True, False, True, True])
    picture = mask_picture(mask)
    assert picture.dtype == np.uint8
    blue, orange = (int((picture == colour).all(2).sum()) for colour in (KEPT, REMOVED))
    assert blue / orange == 5 / 2


def test_kernels_are_shown_in_grey_within_a_frame_of_their_colour() -> None:
    weights = np.zeros((2, 1, 1, 2), np.float32)
    weights[0, 0, 0] = [-1.0, 1.0]
    picture = kernel_picture(np.array([True, False]), weights)
    height, width = picture.shape[:2]
    first, second = width // 4, 3 * width // 4  # the kernels of one input channel stand side by side
    assert (picture[3, 3] == KEPT).all()
    assert (picture[3, width - 4] == REMOVED).all()
    assert picture[height // 2, first - 10].tolist() == [0, 0, 0]
    assert picture[height // 2, first + 10].tolist() == [255, 255, 255]
    assert picture[height // 2, second].tolist() == [127, 127, 127]


def test_a_feature_map_of_several_inputs_is_a_row_of_kernels() -> None:
    picture = kernel_picture(np.array([True, False, True]), np.zeros((3, 4, 5, 5), np.float32))
    height, width = picture.shape[:2]
    assert (picture[height // 2, [3, -4]] == REMOVED).all()
    assert (picture[[3, -4], 3] == KEPT).all()
    assert width / height == pytest.approx(4 / 3, rel=0.02)


def test_a_kernel_in_one_dimension_is_shown_as_stripes() -> None:
    weights = np.array([-1.0, 1.0], np.float32).reshape(1, 1, 1, 2)
    picture = kernel_picture(np.array([True]), weights)
    height, width = picture.shape[:2]
    inside = picture[height // 4 : 3 * height // 4]
    assert not inside[:, width // 4].any()
    assert (inside[:, 3 * width // 4 - 5] == 255).all()


def test_images_of_one_channel_and_of_three_fit_on_a_sheet() -> None:
    for channels in (1, 3):
        sheet = image_picture(np.ones((5, channels, 28, 28), np.float32), columns=2)
        assert sheet.shape == (3 * 59 + 3, 2 * 59 + 3, 3)


def test_the_histogram_has_a_panel_per_layer() -> None:
    figure = score_histogram({"a": np.linspace(0, 1, 5), "b": np.zeros(3)}, threshold=0.1)
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["a: 5 units", "b: 3 units"]


def test_the_heat_map_has_a_panel_per_layer_with_a_row_per_class() -> None:
    figure = pull_figure({"a": np.arange(6.0).reshape(3, 2), "b": np.zeros((4, 2))}, ["cat", "dog"])
    panels = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title(loc="left") for panel in panels] == ["a: 3 units", "b: 4 units"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["cat", "dog"]
    np.testing.assert_array_equal(panels[0].images[0].get_array(), [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]])


def test_ranges_are_lines_in_the_order_of_the_scores() -> None:
    ranges = {"a": (np.array([0.5, 0.0]), np.array([1.0, 0.25]))}
    [panel] = range_figure(ranges, {"a": np.array([0.75, 0.125])}).axes
    [lines] = panel.collections
    assert [line.tolist() for line in lines.get_segments()] == [[[0, 0], [0, 0.25]], [[1, 0.5], [1, 1]]]
    assert panel.lines[0].get_ydata().tolist() == [0.125, 0.75]


def test_an_arm_is_a_point_with_its_standard_error_and_none_where_there_is_none() -> None:
    means = {"dense": 0.75, "transferred": 0.5}
    [panel] = arm_figure(means, {"dense": 0.25, "transferred": 0.125}).axes
    [bars] = panel.containers
    assert bars[0].get_xdata().tolist() == [50.0, 75.0]
    [segments] = bars[2]
    assert [[float(x) for x in line[:, 0]] for line in segments.get_segments()] == [[37.5, 62.5], [50.0, 100.0]]
    assert "standard errors" in panel.get_xlabel()
    [bare] = arm_figure(means, {}).axes
    assert bare.get_xlabel() == "test accuracy in %"


def test_the_table_has_a_row_per_unit() -> None:
    scores = {"a": np.array([0.5, 0.0]), "b": np.array([1.0])}
    masks = {"a": np.array([True, False]), "b": np.array([True])}
    assert unit_columns(scores, masks) == {
        "unit": ["a 0", "a 1", "b 0"],
        "score": [0.5, 0.0, 1.0],
        "kept": [True, False, True],
        "layer": ["a", "a", "b"],
        "number": [0, 1, 0],
    }


def test_further_columns_stand_beside_the_scores() -> None:
    scores, costs, steps = {"a": np.array([0.5, 0.0])}, {"a": np.array([-1.0, 2.0])}, {"a": np.array([0, 3])}
    table = unit_columns(scores, others={"reduced_cost": costs, "step": steps})
    assert list(table) == ["unit", "score", "reduced_cost", "step", "layer", "number"]
    assert table["reduced_cost"] == [-1.0, 2.0]
    assert table["step"] == [0, 3]
