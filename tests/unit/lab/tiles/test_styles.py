from __future__ import annotations

import numpy as np
import pytest

from cupola.exceptions import InputError
from cupola.lab.tiles.styles import Style, colormap, gradient


def test_colormaps_are_found_in_any_case() -> None:
    assert np.array_equal(colormap("RdYlGn"), colormap("rdylgn"))
    assert colormap("thermal").shape == (255, 4)


def test_an_unknown_colormap_names_those_that_are_near() -> None:
    with pytest.raises(InputError, match=r"'virdis'.*viridis"):
        colormap("virdis")


def test_the_legend_gets_colours_for_css() -> None:
    stops = gradient("gray", stops=3)
    assert stops[0] == "#000000"
    assert stops[-1] == "#ffffff"
    assert len(stops) == 3


def test_a_style_is_read_from_an_address() -> None:
    style = Style.parse({"cmap": "RdYlGn", "vmin": "-1", "vmax": "1"})
    assert style == Style("RdYlGn", (-1.0,), (1.0,))
    assert style.complete
    assert Style.from_json(style.to_json()) == style


def test_limits_may_be_given_by_band() -> None:
    style = Style.parse({"vmin": "0,1,2", "vmax": "10"})
    assert [style.limits(band) for band in range(3)] == [(0, 10), (1, 10), (2, 10)]


def test_what_is_left_open_is_filled_from_the_data() -> None:
    style = Style.parse({"vmin": "0"})
    assert not style.complete
    assert style.filled([(5.0, 9.0)]) == Style("viridis", (0.0,), (9.0,))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"vmin": "low"}, "vmin='low' is no number"),
        ({"vmin": "nan"}, "not finite"),
        ({"vmin": "2", "vmax": "1"}, "vmin 2 is not below vmax 1"),
        ({"vmin": "1", "vmax": "1"}, "not below"),
        ({"vmin": "1,2", "vmax": "3,4,5"}, "give as many of both"),
        ({"cmap": "virdis"}, "did you mean"),
    ],
)
def test_a_wrong_style_is_told_in_a_sentence(query: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Style.parse(query)
