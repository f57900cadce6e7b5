"""Names of the sky: the own list, and what happens without a network."""

from __future__ import annotations

import pytest
from astropy.coordinates import SkyCoord, name_resolve

from cupola.exceptions import NotFoundError
from cupola.lab.sky import places


@pytest.mark.parametrize("name", ["M 31", "m31", "Andromeda galaxy", "NGC-224", "ngc 0224"[:3] + " 224"])
def test_names_are_compared_without_blanks_and_capitals(name):
    ra, dec, field = places.place(name, outside=False)
    assert (ra, dec) == (pytest.approx(10.6847), pytest.approx(41.269))
    assert field > 1


def test_the_list_is_sound():
    known = places.known()
    assert len(known) > 150
    for ra, dec, field in known.values():
        assert 0 <= ra < 360
        assert -90 <= dec <= 90
        assert 0 < field <= 10
    # Two names of one place, and galactic poles where astropy has them.
    assert known["taurusa"] == known["m1"]
    pole = SkyCoord(0, 90, unit="deg", frame="galactic").icrs
    assert known["northgalacticpole"][:2] == pytest.approx((pole.ra.deg, pole.dec.deg), abs=1e-3)


def test_an_unknown_name_gets_near_ones_and_says_who_was_asked(monkeypatch):
    with pytest.raises(NotFoundError, match="did you mean"):
        places.place("Andromeda Galaxi", outside=False)

    def unreachable(_name):
        raise name_resolve.NameResolveError("All Sesame queries failed.")

    monkeypatch.setattr(SkyCoord, "from_name", unreachable)
    with pytest.raises(NotFoundError, match="the CDS cannot be reached"):
        places.place("HD 189733")


def test_a_name_of_the_name_service(monkeypatch):
    monkeypatch.setattr(SkyCoord, "from_name", lambda _name: SkyCoord(300.18, 22.71, unit="deg"))
    assert places.place("HD 189733")[:2] == (pytest.approx(300.18), pytest.approx(22.71))
