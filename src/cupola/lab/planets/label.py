"""What the label of an image says about its taking: ISIS cubes, PDS3, PDS4, VICAR and FITS, in one form.

Only the label is read, whatever the size of the file. No ISIS is needed: PVL is parsed by the package pvl, and by pdr where
a label breaks its rules.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import ImageError, NotFoundError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["label"]

_MOST_BYTES = 16 << 20
"""No label is longer; what is behind it are pixels."""
_CHUNK = 64 << 10
_END = re.compile(rb"(?im)^\s*END\s*(?:\r|\n|\0|$)")
_VICAR = re.compile(r"(\w+)\s*=\s*('(?:[^']|'')*'|\([^)]*\)|[^\s(']+)")

_NOTHING = {"", "any", "n/a", "na", "null", "none", "unk", "unknown", "n/aa", "'n/a'"}

_FIELDS: dict[str, tuple[str, ...]] = {
    # Names without case, underscores and prefixes; the first that is there counts.
    "target": ("targetname", "targetidentification/name", "targname", "object", "target"),
    "spacecraft": (
        "spacecraftname", "instrumenthostname", "spacecraftid", "instrumenthostid",
        "investigationarea/name", "telescop",
    ),
    "instrument": ("instrumentid", "observingsystemcomponent/name", "instrume", "instrumentname"),
    "product": ("productid", "logicalidentifier", "rootname", "filename"),
    "start_time": ("starttime", "startdatetime", "imagetime", "dateobs"),
    "stop_time": ("stoptime", "stopdatetime", "dateend"),
    "filter": ("filtername", "filterid", "filternumber", "bandbinfilternumber", "filter", "filter1"),
    "wavelength": ("centerfilterwavelength", "bandbincenter", "bandbin/center", "wavelength"),
    "exposure": (
        "exposureduration", "lineexposureduration", "scanexposureduration", "imageexposureduration", "exposuretime",
        "exptime", "xposure", "exposure",
    ),
    "incidence": ("incidenceangle", "imagecenterincidenceangle", "meanincidenceangle"),
    "emission": ("emissionangle", "emissangle", "imagecenteremissionangle", "meanemissionangle"),
    "phase": ("phaseangle", "imagecenterphaseangle", "meanphaseangle"),
    "subsolar_longitude": ("subsolarlongitude",),
    "subsolar_latitude": ("subsolarlatitude",),
}  # fmt: skip

_SECONDS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "millisec": 1e-3,
    "millisecond": 1e-3, "milliseconds": 1e-3, "us": 1e-6, "microsec": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6,
    "usec": 1e-6, "ns": 1e-9, "min": 60.0,
}  # fmt: skip
_NANOMETRES = {
    "nm": 1.0, "nanometer": 1.0, "nanometers": 1.0, "nanometre": 1.0, "nanometres": 1.0, "um": 1e3,
    "micron": 1e3, "microns": 1e3, "micrometer": 1e3, "micrometers": 1e3, "micrometre": 1e3, "micrometres": 1e3,
    "angstrom": 0.1, "angstroms": 0.1, "m": 1e9,
}  # fmt: skip


def label(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the label of an image says.

    Parameters
    ----------
    path
        An ISIS cube, a PDS3 or PDS4 product (the label, or data with a label beside or before them), a VICAR or a FITS file.

    Returns
    -------
    label
        JSON-like: ``format``, and where the label says so ``target`` (such as Mars), ``spacecraft``, ``instrument``,
        ``product``, ``start_time`` and ``stop_time`` (UTC, RFC 3339), ``filter``, ``wavelength`` (nm), ``exposure`` (s; of
        one line for line cameras), ``incidence``, ``emission``, ``phase``, ``subsolar_longitude`` and ``subsolar_latitude``
        (degrees), else None. ``raw`` is the whole label: groups as dictionaries, values with a unit as ``[value, unit]``.

    Raises
    ------
    NotFoundError
        When there is no such file.
    ImageError
        When it has no label of these kinds, or it cannot be read.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(_CHUNK)
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else "it cannot be reached"
        raise NotFoundError(f"The image {file} cannot be opened: {reason}.") from error
    kind, raw = _read(file, head)
    return {"format": kind, **_summary(raw, kind), "raw": raw}


def _read(file: Path, head: bytes) -> tuple[str, dict[str, Any]]:
    """Return format and content of the label."""
    start = head[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"SIMPLE"):
        return "FITS", _fits(file)
    if start.startswith((b"LBLSIZE", b"NJPL1I00PDS100000000=SFDU_LABEL LBLSIZE")):
        return "VICAR", _vicar(file, head)
    if start.startswith(b"<"):
        if b"Product_" in head:
            return "PDS4", _xml(file)
        raise ImageError(f"{file} is XML, but no label of a PDS4 product.")
    if re.match(
        rb"(?i)(object\s*=\s*isiscube|ccsd3zf0000100000001njpl3if0pds|pds_version_id|odl_version_id)", start
    ):
        kind = (
            "ISIS"
            if b"IsisCube" in head
            else ("ISIS2" if b"CCSD3ZF" in start[:7] and b"QUBE" in head else "PDS3")
        )
        return kind, _pvl(file)
    for suffix in (".xml", ".XML", ".lbl", ".LBL"):
        beside = file.with_suffix(suffix)
        if beside != file and beside.is_file():
            return _read(beside, beside.read_bytes()[:_CHUNK])
    if b"=" in start[:80] and _END.search(_text_part(file)):
        return "PDS3", _pvl(file)
    raise ImageError(
        f"{file} has no label that Cupola reads: ISIS cubes, PDS3, PDS4, VICAR and FITS files have one."
    )


def _text_part(file: Path) -> bytes:
    """Return the beginning of a file up to the END of its label, or a good piece of it where there is none."""
    text = b""
    with file.open("rb") as stream:
        while len(text) < _MOST_BYTES:
            piece = stream.read(_CHUNK)
            text += piece
            if found := _END.search(text):
                return text[: found.end()]
            if not piece:
                break
    return text


def _pvl(file: Path) -> dict[str, Any]:
    import pvl
    from pvl.exceptions import LexerError, ParseError

    text = _text_part(file).split(b"\0", 1)[0].decode("utf-8", errors="replace")
    try:
        parsed: Any = pvl.loads(text)
    except (LexerError, ParseError, ValueError, TypeError, StopIteration) as error:  # it runs out of tokens
        parsed = _by_pdr(file) if _END.search(text.encode()) else None
        if not parsed:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ImageError(f"The label of {file} cannot be read, perhaps it breaks off: {said}.") from error
    plain: dict[str, Any] = _plain(parsed)
    return plain


def _by_pdr(file: Path) -> Any:
    """Return a label as pdr reads it, which forgives more; nothing where that fails as well."""
    with contextlib.suppress(Exception):
        import pdr

        return dict(pdr.read(str(file)).metadata)
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep astropy from warning of headers that are read as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _fits(file: Path) -> dict[str, Any]:
    from astropy.io import fits

    try:
        # Opened here: astropy leaves a damaged file open.
        with file.open("rb") as stream, _quiet(), fits.open(stream) as parts:
            return {
                part.name or f"part {number}": {
                    key: part.header[key] for key in part.header if key not in ("COMMENT", "HISTORY", "")
                }
                for number, part in enumerate(parts)
            }
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(f"The header of {file} cannot be read: {error}.") from error


def _vicar(file: Path, head: bytes) -> dict[str, Any]:
    """Read a VICAR label; one that goes on behind the pixels (EOL=1) is read there as well."""
    text = head.decode("latin-1")
    text = text[text.index("LBLSIZE") :]
    try:
        size = int(dict(reversed(_VICAR.findall(text[:512])))["LBLSIZE"])
        with file.open("rb") as stream:
            text = stream.read(size).decode("latin-1")
            system = {
                key: _number(value)
                for key, value in _VICAR.findall(text.split("PROPERTY=")[0].split("TASK=")[0])
            }
            if system.get("EOL") == 1:
                lines = int(system.get("NLB", 0)) + int(system["N2"]) * int(system["N3"])
                stream.seek(size + lines * int(system["RECSIZE"]))
                text += " " + re.sub(r"^LBLSIZE=\d+", "", stream.read(_MOST_BYTES).decode("latin-1"))
    except (KeyError, ValueError) as error:
        raise ImageError(f"The VICAR label of {file} is damaged or cut off.") from error
    raw: dict[str, Any] = {}
    here = raw
    for key, value in _VICAR.findall(text.replace("\0", " ")):
        if key in ("PROPERTY", "TASK"):
            here = raw.setdefault(str(_number(value)), {})
        else:
            here[key] = _number(value)
    return raw


def _number(text: str) -> Any:
    """Return a value of a VICAR label."""
    if text.startswith("("):
        return [_number(part.strip()) for part in text[1:-1].split(",")]
    if text.startswith("'"):
        return text[1:-1].replace("''", "'").strip()
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _xml(file: Path) -> dict[str, Any]:
    from xml.etree import ElementTree as ET  # the expat of today refuses entity bombs

    try:
        root = ET.fromstring(file.read_bytes()[:_MOST_BYTES])  # noqa: S314 - as above
    except ET.ParseError as error:
        raise ImageError(f"The label {file} cannot be read, perhaps it breaks off: {error}.") from error

    def content(element: ET.Element) -> Any:
        if len(element) == 0:
            value = _number((element.text or "").strip())
            unit = element.get("unit")
            return [value, unit] if unit else value
        found: dict[str, Any] = {}
        for child in element:
            _put(found, re.sub(r"\{.*\}", "", child.tag), content(child))
        return found

    return {re.sub(r"\{.*\}", "", root.tag): content(root)}


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    """Add a value; several of one name become a list."""
    if name not in found:
        found[name] = value
    elif isinstance(found[name], _Several):
        found[name].append(value)
    else:
        found[name] = _Several([found[name], value])


class _Several(list[Any]):
    """Values of one name that came more than once."""


def _plain(value: Any) -> Any:
    """Return PVL as JSON has it."""
    if hasattr(value, "units") and hasattr(value, "value"):
        return [_plain(value.value), str(value.units)]
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for name, one in value.items():
            _put(found, str(name), _plain(one))
        return found
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _pairs(raw: Any, above: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield all values with their own name, and with their group's before it, from the outside in."""
    deeper: list[tuple[Any, str]] = []
    for name, value in raw.items():
        short = re.sub(r"[_\- ]", "", str(name).split(":")[-1]).lower()
        if isinstance(value, Mapping):
            deeper.append((value, short))
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            deeper += [(one, short) for one in value]
        else:
            yield short, f"{above}/{short}", value
    for part, group in deeper:
        yield from _pairs(part, group)


def _summary(raw: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the fields of `label` from the whole of it."""
    skipped = {"OriginalLabel", "History", "Table", "TABLE", "Histogram"}
    known: dict[str, Any] = {}
    for part in raw.values():
        if kind == "PDS4" and isinstance(part, Mapping):
            known |= _instrument(part)
    kept = {name: value for name, value in raw.items() if name not in skipped}
    for short, long, value in _pairs(kept):
        if not _empty(value):
            known.setdefault(long, value)
            known.setdefault(short, value)
    found: dict[str, Any] = {}
    for field, names in _FIELDS.items():
        found[field] = next((known[name] for name in names if name in known), None)
    for field in ("incidence", "emission", "phase", "subsolar_longitude", "subsolar_latitude"):
        found[field] = _quantity(found[field], {})
    # Without a unit, exposures of ISIS and PDS3 are in milliseconds.
    found["exposure"] = _quantity(found["exposure"], _SECONDS, 1.0 if kind in ("FITS", "PDS4") else 1e-3)
    found["wavelength"] = _wavelength(found["wavelength"])
    if kind == "FITS" and isinstance(found["start_time"], str) and "T" not in found["start_time"]:
        clock = known.get("timeobs") or known.get("timobs")
        found["start_time"] = f"{found['start_time']}T{clock}" if clock else found["start_time"]
    for field in ("start_time", "stop_time"):
        found[field] = _time(found[field])
    target = found["target"]
    found["target"] = str(target).strip().lower().capitalize() if target is not None else None
    return found


def _instrument(product: Mapping[str, Any]) -> dict[str, Any]:
    """Return the instrument of a PDS4 product, which lists host and instrument alike, told by their type."""
    found: dict[str, Any] = {}
    area = product.get("Observation_Area") or {}
    components = (area.get("Observing_System") or {}).get("Observing_System_Component") or []
    for one in components if isinstance(components, list) else [components]:
        kind = str(one.get("type", "")).lower()
        name = "instrumentid" if kind == "instrument" else "spacecraftname"
        found.setdefault(name, one.get("name"))
    return found


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().strip("'\"").lower() in _NOTHING)


def _quantity(value: Any, units: Mapping[str, float], otherwise: float = 1.0) -> float | None:
    """Return a number in the wanted unit; the first of a list of them."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    unit = None
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str):  # noqa: PLR2004 - value and unit
        value, unit = value
    elif isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) * (units.get(str(unit).strip().lower(), otherwise) if units else 1.0)


def _wavelength(value: Any) -> Any:
    """Return the middle of the filter in nanometres; a list where there are several filters."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [_wavelength(one) for one in value]
    if isinstance(value, list) and not (len(value) == 2 and isinstance(value[1], str)):  # noqa: PLR2004 - value and unit
        return [_wavelength(one) for one in value]
    bare = value if isinstance(value, int | float) else None
    if bare == 1:
        return None  # what ISIS writes where it knows nothing
    # Without a unit: no camera looks at 20 nm, nor at 20 µm.
    return _quantity(value, _NANOMETRES, 1e3 if bare is not None and bare < 20 else 1.0)  # noqa: PLR2004 - see above


def _time(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    text = value.strip().rstrip("Z")
    if re.fullmatch(r"\d{4}-\d{3}T.*", text):
        with contextlib.suppress(ValueError):
            day = dt.datetime.strptime(text[:8], "%Y-%j").replace(tzinfo=dt.UTC)
            text = f"{day:%Y-%m-%d}{text[8:]}"
    with contextlib.suppress(ValueError):
        moment = dt.datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        return moment.isoformat().replace("+00:00", "Z")
    return None
