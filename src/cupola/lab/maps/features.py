"""Named features of bodies: a short list of well-known ones, and those of a file such as the IAU's nomenclature."""

from __future__ import annotations

import csv
import difflib
import json
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Feature", "find", "known", "named_bodies", "read"]

COLUMNS = {
    "name": ("name", "clean_name", "feature_name", "feature"),
    "kind": ("kind", "type", "feature_type"),
    "longitude": ("longitude", "lon", "center_lon", "center_longitude", "lng", "x"),
    "latitude": ("latitude", "lat", "center_lat", "center_latitude", "y"),
    "diameter": ("diameter", "diameter_km"),
}
"""What columns of a file are called, in small letters; those of the IAU's nomenclature among them."""
MOST = 50_000
NEAR = 3


@dataclass(frozen=True)
class Feature:
    """A named place on a body."""

    name: str
    kind: str
    longitude: float
    """Degrees east, from -180 to 180."""
    latitude: float
    diameter: float
    """Kilometres across; 0 where nothing is known."""

    def to_list(self) -> list[Any]:
        """Return it as the browser takes it."""
        return [self.name, self.kind, round(self.longitude, 5), round(self.latitude, 5), self.diameter]


@lru_cache(maxsize=1)
def _own() -> dict[str, list[list[Any]]]:
    found: dict[str, list[list[Any]]] = json.loads(
        Path(__file__).with_name("features.json").read_text("utf-8")
    )
    return found


def named_bodies() -> list[str]:
    """Return the bodies of which there are well-known features."""
    return list(_own())


def known(body: str) -> list[Feature]:
    """Return the well-known features of a body, the largest first."""
    made = [_feature(*entry) for entry in _own().get(body, [])]
    return sorted(made, key=lambda feature: -feature.diameter)


def _feature(name: str, kind: str, longitude: float, latitude: float, diameter: float) -> Feature:
    return Feature(name, kind, (longitude + 180) % 360 - 180, latitude, diameter)


def find(features: Iterable[Feature], name: str, body: str) -> Feature:
    """Return the feature called `name`: in full, by its beginning or by a part of it, whatever its capitals.

    Raises
    ------
    NotFoundError
        There is none; the text offers near names.
    """
    listed = list(features)
    names = [_plain(feature.name) for feature in listed]
    wanted = _plain(name)
    for fits in (wanted.__eq__, lambda known: known.startswith(wanted), lambda known: wanted in known):
        for feature, known_name in zip(listed, names, strict=True):
            if wanted and fits(known_name):
                return feature
    close = difflib.get_close_matches(wanted, names, n=NEAR, cutoff=0.5)
    near = [listed[names.index(match)].name for match in dict.fromkeys(close)]
    hint = f"; did you mean {' or '.join(near)}?" if near else "; m.gazetteer(path) adds names from a file."
    raise NotFoundError(f"No feature of {body} called {name!r} is known here{hint}")


def _plain(text: str) -> str:
    """Return a name without accents, capitals and signs."""
    bare = "".join(sign for sign in unicodedata.normalize("NFD", text) if not unicodedata.combining(sign))
    return " ".join("".join(sign if sign.isalnum() else " " for sign in bare.casefold()).split())


def read(path: str | Path, body: str) -> list[Feature]:
    """Return the features of a body in a file, the largest first.

    Parameters
    ----------
    path
        CSV with the columns name, longitude and latitude, and perhaps kind, diameter (km) and body (or target); or
        GeoJSON, a shapefile or anything else that geopandas reads, with such properties. The columns of the IAU's
        nomenclature (``clean_name``, ``center_lon``, ``center_lat``, ``diameter``, ``type``) are known.
    body
        Rows of other bodies are left out.

    Raises
    ------
    NotFoundError
        There is no such file.
    InputError
        It has no such columns, or too many names.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"There is no file {path}.")
    rows = _csv(path) if path.suffix.lower() in {".csv", ".txt"} else _shapes(path)
    found = [feature for row in rows if _on(row, body) and (feature := _row(row)) is not None]
    if not found:
        raise InputError(
            f"{path.name} has no features of {body}: it needs the columns name, longitude and latitude (in degrees)."
        )
    if len(found) > MOST:
        raise InputError(
            f"{path.name} has {len(found):,} names, and a map takes {MOST:,}; keep the larger ones."
        )
    return sorted(found, key=lambda feature: -feature.diameter)


def _csv(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [
                {str(key).strip().casefold(): value for key, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is no CSV in UTF-8: {error}.") from error


def _shapes(path: Path) -> list[dict[str, Any]]:
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except Exception as error:
        raise InputError(
            f"{path.name} cannot be read as a list of features: {' '.join(str(error).split())[:200]}."
        ) from error
    points = frame.geometry.representative_point()
    degrees = frame.crs is None or frame.crs.is_geographic
    rows = []
    for number, (_, row) in enumerate(frame.drop(columns=frame.geometry.name).iterrows()):
        entry = {str(key).casefold(): value for key, value in row.items()}
        if degrees:
            entry.setdefault("longitude", points.iloc[number].x)
            entry.setdefault("latitude", points.iloc[number].y)
        rows.append(entry)
    return rows


def _on(row: Mapping[str, Any], body: str) -> bool:
    said = row.get("body") or row.get("target")
    return not said or str(said).strip().casefold() == body.casefold()


def _row(row: Mapping[str, Any]) -> Feature | None:
    """Return one row as a feature; nothing where it lacks a name or a place."""
    values = {
        key: next((row[name] for name in names if row.get(name) not in {None, ""}), None)
        for key, names in COLUMNS.items()
    }
    try:
        longitude, latitude = float(values["longitude"]), float(values["latitude"])  # type: ignore[arg-type]
        diameter = float(values["diameter"] or 0)
    except (TypeError, ValueError):
        return None
    if not values["name"] or not (-360 <= longitude <= 360 and -90 <= latitude <= 90):  # noqa: PLR2004 - degrees
        return None
    return _feature(str(values["name"]), str(values["kind"] or ""), longitude, latitude, diameter)
