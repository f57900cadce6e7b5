"""Well-known places of the sky, so that a map finds them without asking anybody.

Right ascension and declination (ICRS, degrees) and the field of view that shows the object (degrees), of the brighter
galaxies, clusters, nebulae and survey fields, rounded to what pointing needs.
"""

from __future__ import annotations

import difflib
import json
import re
from functools import lru_cache
from pathlib import Path

from cupola.exceptions import NotFoundError

__all__ = ["Place", "known", "place", "sesame"]

Place = tuple[float, float, float]
"""Right ascension, declination, field of view in degrees."""

_FILE = Path(__file__).parent / "places.json"
_BETWEEN = re.compile(r"[\s_-]+")
SESAME_SECONDS = 6


def key(name: str) -> str:
    """Return a name as it is compared: without blanks and capitals."""
    return _BETWEEN.sub("", name).casefold()


@lru_cache(maxsize=1)
def known() -> dict[str, Place]:
    """Return all places by compared name; an object has several names."""
    found: dict[str, Place] = {}
    for entry in json.loads(_FILE.read_text("utf-8")):
        ra, dec, field = entry["at"]
        for name in entry["names"]:
            found[key(name)] = (float(ra), float(dec), float(field))
    return found


def place(name: str, *, outside: bool = True) -> Place:
    """Return where `name` is.

    Parameters
    ----------
    name
        Such as ``M 31`` or ``Crab Nebula``.
    outside
        Whether the name service of the CDS may be asked for what is not in the list.

    Raises
    ------
    NotFoundError
        Nobody who could be asked knows it; the text offers near names.
    """
    found = known().get(key(name))
    if found is not None:
        return found
    reason = "it is not in the list of this map"
    if outside:
        asked = sesame(name)
        if isinstance(asked, tuple):
            return asked
        reason = f"{reason}, and {asked}"
    near = difflib.get_close_matches(key(name), known(), n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else "give a position in degrees."
    raise NotFoundError(f"There is no place {name!r}: {reason}; {hint}")


def sesame(name: str) -> Place | str:
    """Ask the name service of the CDS; return the place, or why there is none."""
    from astropy.coordinates import SkyCoord, name_resolve
    from astropy.utils.data import conf

    with conf.set_temp("remote_timeout", SESAME_SECONDS):
        try:
            found = SkyCoord.from_name(name)
        except name_resolve.NameResolveError as error:
            unknown = "unable to find" in str(error).lower()
            return f"the CDS {'does not know it' if unknown else 'cannot be reached'}"
    return float(found.ra.deg), float(found.dec.deg), 0.5
