from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.exceptions import InputError
from cupola.lab.planets import photometry

angles = st.floats(0, 80)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("lambert", (60, 0), 0.5),
        ("lommel-seeliger", (60, 60), 1.0),
        ("lommel-seeliger", (60, 0), 2 * 0.5 / 1.5),
        ("minnaert", (60, 60), 0.5**0.4),
        ("lambert", (95, 0), 0.0),
        ("lommel-seeliger", (10, 91), 0.0),
    ],
)
def test_models_at_known_angles(name, given, expected):
    assert photometry.model(name, *given) == pytest.approx(expected)


def test_the_moon_lies_between_lambert_and_lommel_seeliger():
    assert photometry.lunar_weight(0.0) == 1
    assert photometry.lunar_weight(60.0) == pytest.approx(1 - 1.14 + 0.8712 - 0.31536)
    assert photometry.model("lunar-lambert", 60, 0, 0) == pytest.approx(2 / 3)
    assert photometry.model("lunar-lambert", 60, 0, weight=0.25) == pytest.approx(0.25 * 2 / 3 + 0.75 * 0.5)


@settings(deadline=None)
@given(st.sampled_from(photometry.MODELS), angles, angles, angles)
def test_normalising_takes_the_model_out(name, incidence, emission, phase):
    albedo = np.array([[0.1, 0.35]], "float32")
    seen = albedo * photometry.model(name, incidence, emission, phase)
    assert np.allclose(photometry.normalise(seen, name, incidence, emission, phase), albedo, rtol=1e-4)


def test_reference_geometry_and_the_terminator():
    lit = photometry.normalise(np.float32(1), "lambert", 0.0, reference=(60, 0, 60))
    assert float(lit) == pytest.approx(0.5)
    incidence = np.array([[10.0, 84.0, 86.0, 95.0, np.nan]])
    found = photometry.normalise(np.ones((1, 5), "float32"), "lambert", incidence)
    assert np.isfinite(found[0]).tolist() == [True, True, False, False, False]


def test_wrong_models_are_told():
    with pytest.raises(InputError, match="no photometric model 'hapke'; choose one of lambert"):
        photometry.model("hapke", 10)
    with pytest.raises(InputError, match="needs the phase"):
        photometry.model("lunar-lambert", 10, 10)
    with pytest.raises(InputError, match="below the horizon"):
        photometry.normalise(1.0, "lambert", 10, reference=(95, 0, 0))
