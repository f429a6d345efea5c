"""The points of a sweep, and what is refused about them."""

import pytest

from flows.config.entry_points import ENTRY_POINTS
from flows.config.groups import RANGES
from flows.config.settings import Settings
from flows.config.sweep_grid import point_title, points_of, value_of
from flows.errors import SettingsError

BY_SCORES = ENTRY_POINTS["sweep"].defaults


@pytest.mark.parametrize("over", RANGES)
def test_every_setting_has_a_range_of_its_own(over: str) -> None:
    gate = "published" if over == "radius" else "pattern"
    points = points_of(Settings(**BY_SCORES, over=over, gate=gate))
    assert len(points) >= 3
    assert len({point_title(point) for point in points}) == len(points)
    assert all(point.model_copy(update={over: getattr(points[0], over)}) == points[0] for point in points)


def test_values_are_read_in_their_order_as_the_settings_own_kind() -> None:
    points = points_of(Settings(over="images_per_class", values=" 4, 1 ,2"))
    assert [value_of(point) for point in points] == [4, 1, 2]
    assert [point_title(point) for point in points] == [
        "images_per_class=4",
        "images_per_class=1",
        "images_per_class=2",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"over": "gate", "values": "pattern,smooth"}, "gate=smooth: must be 'published'"),
        ({"over": "threshold", **BY_SCORES, "values": "0.5,1.5"}, "threshold=1.5: must be less than or equal to 1"),
        ({"over": "threshold", **BY_SCORES, "values": "0.5,much"}, "threshold=much: must be a valid number"),
        ({"over": "threshold", **BY_SCORES, "values": "0.1,0.5,0.10"}, r"threshold=0.1 is given twice; give it once"),
        ({"over": "threshold", **BY_SCORES, "values": "0.1,,0.5"}, "a value is empty"),
        ({"over": "images_per_class", "values": "1,0"}, "images_per_class=0: must be greater"),
        ({"over": "radius", "values": "0,1e-5"}, "radius=1e-05 asks for gate=linear at radius=1e-05.*gate=published"),
        ({"over": "gate", "gate": "published", "radius": 1e-5}, "gate=linear asks for gate=linear .* radius=0"),
        ({"over": "threshold", "selection": "share"}, "selection=share looks at no threshold"),
    ],
)
def test_a_point_that_cannot_be_is_refused_by_its_value(words: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refusal:
        points_of(Settings(**words))
    assert "\n" not in str(refusal.value)
