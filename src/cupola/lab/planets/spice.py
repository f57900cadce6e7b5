"""Geometry from SPICE kernels of a volume: where the Sun and a spacecraft stood over a place.

SPICE keeps its kernels in one pool for the whole process and must not be entered by two threads: all calls go through one
lock here, and the pool holds the kernels of whoever asked last. Each process loads its own at first use.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.planets.angles import angles

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

__all__ = ["Geometry", "Kernels", "Place"]

_ORDER = (".tls", ".tpc", ".tf", ".tsc", ".ti", ".bpc", ".bds", ".bc", ".bsp")
"""Endings of kernels, in the order in which they are loaded."""
_LONGEST = 255
"""Letters of a file name that SPICE takes."""
_PIECE = re.compile(r"\\begindata(.*?)(?:\\begintext|\Z)", re.DOTALL)
_SET = re.compile(r"(\w+)\s*\+?=\s*(\([^)]*\)|'(?:[^']|'')*')", re.DOTALL)
_TEXT = re.compile(r"'((?:[^']|'')*)'")

_lock = threading.RLock()
_loaded: tuple[tuple[str, int], ...] = ()


def _renew() -> None:
    global _lock  # noqa: PLW0603 - a forked child must not wait for a thread that it does not have
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew)


@dataclass(frozen=True)
class Place:
    """A place below the Sun or an observer: east longitude and planetocentric latitude in degrees, distance in metres.

    The distance is that from the body's centre to the Sun or the observer.
    """

    longitude: float
    latitude: float
    distance: float


@dataclass(frozen=True)
class Geometry:
    """Where Sun and observer stood in the body's own frame, in metres, and the body's radii in metres."""

    radii: tuple[float, float, float]
    sun: tuple[float, float, float]
    observer: tuple[float, float, float] | None


class Kernels:
    """SPICE kernels of a folder or of a meta-kernel.

    Parameters
    ----------
    path
        A meta-kernel (``.tm``), whose kernels are looked for where it says, beside it and below its folder; or a folder.
        Of a folder with meta-kernels the last by name counts; of one without, all kernels in it and below are loaded,
        later names over earlier ones.

    Raises
    ------
    NotFoundError
        When there is none, or a meta-kernel names a kernel that is not there; the text says which.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        if self.path.is_dir():
            metas = sorted(self.path.glob("*.tm")) or sorted(self.path.rglob("*.tm"))
            files = _of_meta(metas[-1], self.path) if metas else _of_folder(self.path)
        elif self.path.is_file():
            files = (
                _of_meta(self.path, self.path.parent) if self.path.suffix.lower() == ".tm" else [self.path]
            )
        else:
            raise NotFoundError(f"There are no SPICE kernels at {self.path}: mount the volume that has them.")
        if not files:
            raise NotFoundError(f"The folder {self.path} has no SPICE kernels ({', '.join(_ORDER)}).")
        for file in files:
            if len(str(file)) > _LONGEST:
                raise InputError(
                    f"SPICE takes names of at most {_LONGEST} letters, and {file} is longer: use a shorter folder."
                )
        self.files = files
        """The kernels, in the order in which they are loaded."""

    @cached_property
    def _stamp(self) -> tuple[tuple[str, int], ...]:
        return tuple((str(file), file.stat().st_mtime_ns) for file in self.files)

    @contextmanager
    def _spice(self, what: str) -> Iterator[Any]:
        """Give SPICE with these kernels loaded, to one thread at a time; its errors become ours."""
        global _loaded  # noqa: PLW0603 - SPICE's pool is one for the process
        import spiceypy
        from spiceypy.utils.exceptions import SpiceyError

        with _lock:
            try:
                # A notebook may have emptied or filled the pool by itself meanwhile.
                if _loaded != self._stamp or spiceypy.ktotal("ALL") != len(self._stamp):
                    _loaded = ()
                    spiceypy.kclear()
                    for name, _ in self._stamp:
                        spiceypy.furnsh(name)
                    _loaded = self._stamp
                yield spiceypy
            except SpiceyError as error:
                raise self._told(error, what) from error

    def _told(self, error: Exception, what: str) -> InputError | NotFoundError:
        """Turn an error of SPICE into a sentence."""
        short = str(getattr(error, "short", "") or "") or str(error)
        where = f"the kernels of {self.path}"
        if "NOLEAPSECONDS" in short:
            return NotFoundError(f"{_upper(where)} lack leap seconds: add a file such as naif0012.tls.")
        if "SPKINSUFFDATA" in short or "NOTENOUGHDATA" in short or "NOLOADEDFILES" in short:
            return NotFoundError(
                f"{_upper(where)} do not say {what}: add the SPK (.bsp) that covers it. {self._coverage()}"
            )
        if "KERNELVARNOTFOUND" in short or "FRAMEDATANOTFOUND" in short or "BADRADIUSCOUNT" in short:
            return NotFoundError(f"{_upper(where)} do not say {what}: add a PCK (.tpc) such as pck00010.tpc.")
        if "IDCODENOTFOUND" in short or "NOTRANSLATION" in short or "UNKNOWNFRAME" in short:
            return InputError(f"{_upper(where)} know no body or frame that is asked for to tell {what}.")
        if "TIME" in short or "BADTIMESTRING" in short or "UNPARSEDTIME" in short:
            return InputError(f"SPICE does not understand the time that is asked for to tell {what}.")
        said = str(getattr(error, "long", "") or short).split("\n")[0].strip()
        return InputError(f"SPICE cannot tell {what}: {said} ({short}).")

    def _coverage(self) -> str:
        """Say what the SPKs cover, in a few words; called while the lock is held."""
        import spiceypy

        told: list[str] = []
        for file in self.files:
            if file.suffix.lower() == ".bsp":
                for body in spiceypy.spkobj(str(file)):
                    window = spiceypy.spkcov(str(file), body)
                    first, last = (
                        spiceypy.wnfetd(window, 0)[0],
                        spiceypy.wnfetd(window, len(window) // 2 - 1)[1],
                    )
                    name = spiceypy.bodc2s(body)
                    told.append(f"{name} from {_day(first)} to {_day(last)}")
        return f"There is: {', '.join(told[:8])}." if told else "There is none."

    def seconds(self, time: str | dt.datetime) -> float:
        """Return a moment (UTC) in SPICE's own seconds (TDB since J2000).

        Raises
        ------
        NotFoundError, InputError
            When leap seconds are missing, or it is no time.
        """
        text = time if isinstance(time, str) else time.isoformat()
        text = text.strip().removesuffix("Z").removesuffix("+00:00")
        with self._spice(f"when {text} is") as spice:
            return float(spice.str2et(text))

    def radii(self, body: str) -> tuple[float, float, float]:
        """Return the radii of a body in metres.

        Raises
        ------
        NotFoundError
            When no kernel tells them.
        """
        with self._spice(f"how large {body} is") as spice:
            x, y, z = (float(value) * 1000 for value in spice.bodvrd(body.upper(), "RADII", 3)[1])
        return x, y, z

    def geometry(
        self, target: str, time: str | dt.datetime, observer: str | None = None, *, frame: str | None = None
    ) -> Geometry:
        """Return where the Sun and an observer stood in a body's own frame, light time and aberration taken into account.

        Parameters
        ----------
        target
            The body, such as ``Moon``.
        time
            When the observer took the image, UTC.
        observer
            A spacecraft or body, such as ``LRO``, ``MRO`` or ``-85``; without one only the Sun is told.
        frame
            The body's own frame; the usual one (``IAU_MOON``) where nothing is said.

        Raises
        ------
        NotFoundError
            When kernels are missing; the text says which kind.
        InputError
            When a name or a time is unknown.
        """
        et = self.seconds(time)
        radii = self.radii(target)
        with self._spice(f"where {observer or 'the Sun'} was over {target} at {time}") as spice:
            fixed = frame or self._frame(spice, target)
            place: tuple[float, float, float] | None = None
            if observer is not None:
                toward, light = spice.spkpos(target.upper(), et, fixed, "LT+S", observer.upper())
                place = _metres(-toward)
                et -= light
        with self._spice(f"where the Sun was over {target} at {time}") as spice:
            sun, _ = spice.spkpos("SUN", et, fixed, "LT+S", target.upper())
        return Geometry(radii, _metres(sun), place)

    def _frame(self, spice: Any, target: str) -> str:
        try:
            return str(spice.cnmfrm(target.upper())[1])
        except spice.NotFoundError as error:
            raise InputError(f"SPICE knows no frame of {target}: name it with frame=.") from error

    def subsolar(self, target: str, time: str | dt.datetime, observer: str | None = None) -> Place:
        """Return the place below the Sun, and the Sun's distance; see `geometry`."""
        return _place(self.geometry(target, time, observer).sun)

    def subobserver(self, target: str, time: str | dt.datetime, observer: str) -> Place:
        """Return the place below an observer, and its distance from the body's centre; see `geometry`."""
        found = self.geometry(target, time, observer).observer
        return _place(found or (0.0, 0.0, 0.0))

    def angles(
        self, target: str, longitude: Any, latitude: Any, time: str | dt.datetime, observer: str | None = None
    ) -> dict[str, Any]:
        """Return incidence, emission and phase in degrees at places of a body's ellipsoid.

        Parameters
        ----------
        target, time, observer
            See `geometry`; without an observer places are seen from straight above.
        longitude, latitude
            East and planetocentric, in degrees; numbers or arrays of one shape.

        Returns
        -------
        angles
            Arrays (or numbers) of that shape under ``incidence``, ``emission`` and ``phase``; in the night, incidence is
            above 90.

        Raises
        ------
        NotFoundError, InputError
            As `geometry`.
        """
        seen = self.geometry(target, time, observer)
        longitude, latitude = np.broadcast_arrays(np.asarray(longitude, float), np.asarray(latitude, float))
        watcher = None if seen.observer is None else np.array(seen.observer)
        found = angles(longitude, latitude, seen.radii, np.array(seen.sun), watcher)
        return {name: float(value) if longitude.ndim == 0 else value for name, value in found.items()}


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _metres(vector: Any) -> tuple[float, float, float]:
    x, y, z = (float(value) * 1000 for value in vector)
    return x, y, z


def _place(position: tuple[float, float, float]) -> Place:
    x, y, z = position
    return Place(
        float(np.degrees(np.arctan2(y, x))),
        float(np.degrees(np.arctan2(z, np.hypot(x, y)))),
        float(np.linalg.norm(position)),
    )


def _day(et: float) -> str:
    """Return the day of a moment in SPICE's seconds, near enough to be read."""
    import datetime as dt

    return f"{dt.datetime(2000, 1, 1, 12, tzinfo=dt.UTC) + dt.timedelta(seconds=float(et)):%Y-%m-%d %H:%M}"


def _of_folder(folder: Path) -> list[Path]:
    found = [file for file in folder.rglob("*") if file.suffix.lower() in _ORDER and file.is_file()]
    return sorted(found, key=lambda file: (_ORDER.index(file.suffix.lower()), file.name))


def _of_meta(meta: Path, root: Path) -> list[Path]:
    """Return the kernels that a meta-kernel names; its folders are those of another machine, as often as not."""
    try:
        text = "".join(_PIECE.findall(meta.read_text(encoding="latin-1")))
    except OSError as error:
        raise NotFoundError(f"The meta-kernel {meta} cannot be read: {error.strerror}.") from error
    said: dict[str, list[str]] = {}
    for name, value in _SET.findall(text):
        said.setdefault(name.upper(), []).extend(_joined(_TEXT.findall(value)))
    symbols = dict(zip(said.get("PATH_SYMBOLS", []), said.get("PATH_VALUES", []), strict=False))
    files: list[Path] = []
    missing: list[str] = []
    for name in said.get("KERNELS_TO_LOAD", []):
        written = name
        for symbol, value in symbols.items():
            written = written.replace(f"${symbol}", value)
        tail = re.sub(r"^\$\w+/", "", name)
        tries = (
            meta.parent / written,
            root / written,
            meta.parent / tail,
            root / tail,
            meta.parent.parent / tail,
        )
        found = next((path for path in tries if path.is_file()), None) or next(
            iter(root.rglob(Path(written).name)), None
        )
        if found is None:
            missing.append(Path(written).name)
        else:
            files.append(found)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""  # noqa: PLR2004 - enough to know which
        raise NotFoundError(
            f"The meta-kernel {meta} names kernels that are not below {root}: {', '.join(missing[:3])}{more}."
        )
    return files


def _joined(parts: list[str]) -> list[str]:
    """Put together names that go on in the next string, marked by a plus sign at their end."""
    names: list[str] = []
    going_on = False
    for part in parts:
        text = part.replace("''", "'")
        if going_on:
            names[-1] += text.removesuffix("+")
        else:
            names.append(text.removesuffix("+"))
        going_on = text.endswith("+")
    return names
