"""Tables of sources as overlays: which columns hold the position, and how rows travel to the browser."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import CupolaError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_ROWS", "TABLE_SUFFIXES", "Catalogue", "is_table", "read_table"]

MOST_ROWS = 300_000
"""More than a browser draws at once."""
TABLE_SUFFIXES = frozenset(
    {".vot", ".vo", ".xml", ".votable", ".csv", ".tsv", ".ecsv", ".txt", ".dat", ".parquet"}
)
FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz")
SHAPES = ("circle", "square", "rhomb", "plus", "cross", "triangle")

_UCDS = {
    "ra": ("pos.eq.ra;meta.main", "pos_eq_ra_main", "pos.eq.ra"),
    "dec": ("pos.eq.dec;meta.main", "pos_eq_dec_main", "pos.eq.dec"),
}
_NAMES = {
    "ra": ("ra", "_raj2000", "raj2000", "ra_icrs", "ra_deg", "radeg", "alpha_j2000", "ra_j2000", "raj2000_deg", "s_ra",
           "right_ascension", "rightascension", "ramean", "alpha"),
    "dec": ("dec", "_dej2000", "dej2000", "de_icrs", "dec_deg", "dedeg", "decdeg", "delta_j2000", "dec_j2000",
            "dej2000_deg", "s_dec", "declination", "de", "decmean", "delta"),
}  # fmt: skip


def is_table(path: str | Path) -> bool:
    """Tell whether a file is a table of sources, by its ending; a FITS file by its first unit with data."""
    name = Path(path).name.lower()
    if name.endswith(FITS_SUFFIXES):
        from astropy.io import fits

        try:
            with fits.open(path) as units:
                first = next((unit for unit in units if unit.header.get("NAXIS", 0)), None)
                return isinstance(first, (fits.BinTableHDU, fits.TableHDU)) and not isinstance(
                    first, fits.CompImageHDU
                )
        except (OSError, ValueError):
            return False
    return Path(name).suffix in TABLE_SUFFIXES


def read_table(path: str | Path) -> Any:
    """Return the table in a file: VOTable, CSV, ECSV, text, Parquet or FITS.

    Raises
    ------
    InputError
        There is no such file, or it holds no table.
    """
    from astropy.table import Table

    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}; give the path of a table.")
    kind = {".tsv": "ascii.tab", ".csv": "ascii.csv", ".vo": "votable", ".vot": "votable", ".xml": "votable"}.get(path.suffix.lower(), "")  # fmt: skip
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import parquet

            return Table.from_pandas(parquet.read_table(path).to_pandas())
        return Table.read(path, format=kind) if kind else Table.read(path)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{path} cannot be read as a table ({reason}); give VOTable, CSV, ECSV, Parquet or FITS."
        ) from error


class Catalogue:
    """A table of sources on a sky map.

    Parameters
    ----------
    table
        An astropy Table, a pandas DataFrame, or a path.
    ra, dec
        Names of the columns with right ascension and declination; found by UCD or name where nothing is said.
    name, colour, shape, size
        How it is drawn: `shape` is one of ``SHAPES``, `size` in pixels of the screen.

    Raises
    ------
    InputError
        It is no table, has no position, or more rows than a browser draws.
    """

    def __init__(  # noqa: PLR0913 - what a catalogue is drawn by
        self,
        table: Any,
        *,
        name: str,
        identity: str,
        ra: str | None = None,
        dec: str | None = None,
        colour: str = "#ffcc33",
        shape: str = "circle",
        size: int = 10,
    ) -> None:
        if shape not in SHAPES:
            raise InputError(f"There is no shape {shape!r}; choose one of {', '.join(SHAPES)}.")
        self.table = as_table(table)
        self.id, self.name = identity, name
        self.colour, self.shape, self.size = colour, shape, size
        self.columns = (
            ra or find_column(self.table, "ra", ra, dec),
            dec or find_column(self.table, "dec", ra, dec),
        )
        if len(self.table) > MOST_ROWS:
            raise InputError(
                f"The table has {len(self.table):,} rows, more than the {MOST_ROWS:,} that a map shows; choose some of them."
            )
        self.ra, self.dec = positions(self.table, *self.columns)

    def __len__(self) -> int:
        return len(self.table)

    def to_json(self) -> dict[str, Any]:
        """Return what the browser needs: positions as doubles, rows as packed JSON by column.

        Rows without a position are left out of the drawing and keep their numbers.
        """
        rows = zlib.compress(json.dumps(plain_columns(self.table), allow_nan=False).encode(), 1)
        ra, dec = (part.astype("<f8").tobytes() for part in (self.ra, self.dec))
        drawn = f"{self.name}\0{self.colour}\0{self.shape}\0{self.size}".encode()
        return {
            "id": self.id,
            "key": hashlib.sha256(ra + dec + rows + drawn).hexdigest()[:16],
            "name": self.name,
            "colour": self.colour,
            "shape": self.shape,
            "size": self.size,
            "ra": ra,
            "dec": dec,
            "rows": rows,
        }


def as_table(table: Any) -> Any:
    """Return an astropy Table (or a view of what has its face).

    Raises
    ------
    InputError
        It is none.
    """
    from astropy.table import Table

    if isinstance(table, (str, Path)):
        return read_table(table)
    if isinstance(table, Table):
        return table
    if hasattr(table, "to_dict") and hasattr(table, "columns"):
        return Table.from_pandas(table)
    raise InputError(
        f"A catalogue is an astropy Table, a pandas DataFrame or a path, not {type(table).__name__}."
    )


def find_column(table: Any, axis: str, ra: str | None, dec: str | None) -> str:
    """Return the column that holds an axis of the position, by its UCD or else by its name.

    Raises
    ------
    InputError
        There is none; the text lists the columns.
    """
    del ra, dec
    said = {
        name: str(table[name].info.meta.get("ucd", "") if table[name].info.meta else "").lower()
        for name in table.colnames
    }
    for ucd in _UCDS[axis]:
        for name, own in said.items():
            if own == ucd:
                return str(name)
    lowered = {name.lower(): name for name in reversed(table.colnames)}
    for wanted in _NAMES[axis]:
        if wanted in lowered:
            return str(lowered[wanted])
    for name in table.colnames:
        if _is_places(table[name]):
            return str(name)
    raise InputError(
        f"The table has no column for {'right ascension' if axis == 'ra' else 'declination'} that is known by name or UCD; "
        f"name it with {axis}=, one of: {', '.join(table.colnames[:20])}."
    )


def _is_places(column: Any) -> bool:
    """Tell whether a column holds SkyCoord."""
    return hasattr(column, "icrs")


def positions(table: Any, ra: str, dec: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascension and declination in degrees; NaN where a row has none.

    Units of the columns count (degrees, hours, radians); text is read as hours and degrees, minutes, seconds.

    Raises
    ------
    InputError
        There is no such column, or it holds no angles.
    """
    missing = [name for name in (ra, dec) if name not in table.colnames]
    if missing:
        raise InputError(f"The table has no column {missing[0]!r}; it has: {', '.join(table.colnames[:20])}.")
    if _is_places(table[ra]):
        places = table[ra].icrs
        return np.asarray(places.ra.deg, dtype=float), np.asarray(places.dec.deg, dtype=float)
    try:
        found = _degrees(table[ra], "hourangle"), _degrees(table[dec], "deg")
    except CupolaError:
        raise
    except Exception as error:
        raise InputError(
            f"The columns {ra!r} and {dec!r} hold no angles ({error}); give degrees, or text such as 00h42m44s."
        ) from error
    bad = ~(np.isfinite(found[0]) & np.isfinite(found[1]) & (np.abs(found[1]) <= 90.0))  # noqa: PLR2004 - a pole
    for part in found:
        part[bad] = math.nan
    if len(bad) and bad.all():
        raise InputError(
            f"No row has a position in the columns {ra!r} and {dec!r}; name others with ra= and dec=."
        )
    return found


def _degrees(column: Any, text_unit: str) -> NDArray[np.float64]:
    """Return a column of angles in degrees."""
    from astropy import units
    from astropy.coordinates import Angle

    values = getattr(column, "filled", lambda _: column)(math.nan) if column.dtype.kind == "f" else column
    unit = getattr(column, "unit", None)
    if column.dtype.kind in "USO":
        angles = Angle([str(value) for value in column], unit=text_unit)
        return np.array(angles.deg, dtype=float)
    known = units.Unit(unit) if unit is not None else units.deg
    if not known.is_equivalent(units.deg):
        raise InputError(f"The column {column.name!r} is in {known}, which is no angle; give degrees.")
    numbers = np.array(getattr(values, "value", values), dtype=float)
    mask = getattr(column, "mask", None)
    if mask is not None:
        numbers[np.asarray(mask)] = math.nan
    return np.asarray((numbers * known).to_value(units.deg), dtype=float)


def plain_columns(table: Any) -> dict[str, list[Any]]:
    """Return the columns of a table as lists of what JSON has; columns of more dimensions are left out."""
    found: dict[str, list[Any]] = {}
    for name in table.colnames:
        column = table[name]
        if getattr(column, "ndim", 1) != 1:
            continue
        if _is_places(column):
            found[name] = [str(value) for value in column.to_string("hmsdms")]
            continue
        values = [_plain(value) for value in getattr(column, "tolist", lambda c=column: list(c))()]
        mask = getattr(column, "mask", None)
        if mask is not None and np.ndim(mask) == 1:
            values = [None if hidden else value for value, hidden in zip(values, mask, strict=True)]
        found[name] = values
    return found


def _plain(value: Any) -> Any:
    """Return a cell as what JSON has."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    return str(value)
