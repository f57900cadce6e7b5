"""Methods of chains for planetary images: angles of light and view, and photometric normalisation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError
from cupola.lab.chains.graph.command import Command
from cupola.lab.chains.graph.photometry import Angle, Photometry
from cupola.lab.chains.methods.base import Methods, number

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

__all__ = ["Planetary"]


class Planetary(Methods):
    """What the light does on a planet, without ISIS."""

    __slots__ = ()

    def angle(
        self,
        which: str = "incidence",
        *,
        sun: Sequence[float] | None = None,
        observer: Sequence[float] | None = None,
        kernels: str | os.PathLike[str] | None = None,
        spacecraft: str | None = None,
    ) -> Self:
        """Return the angle of incidence, emission or phase in degrees, at each pixel of map-projected images.

        The surface is the body's ellipsoid, without its mountains.

        Parameters
        ----------
        which
            ``incidence``, ``emission`` or ``phase``.
        sun
            East longitude and planetocentric latitude of the subsolar point in degrees, and perhaps the Sun's distance in
            metres.
        observer
            Longitude, latitude and distance from the body's centre in metres; seen from straight above where neither this
            nor `spacecraft` is given.
        kernels
            A folder of SPICE kernels, or a meta-kernel (see `cupola.lab.planets.Kernels`): Sun and spacecraft are found
            for the middle of each image's taking, as its STAC item or else its label says it.
        spacecraft
            The observer's name for SPICE, such as ``LRO``.

        Raises
        ------
        InputError
            When there is no such angle, or neither `sun` nor `kernels` is given.
        """
        options = {
            "which": which,
            "sun": _numbers(sun, "The Sun is given as (longitude, latitude)"),
            "observer": _numbers(
                observer, "The observer is given as (longitude, latitude, distance in metres)"
            ),
            "kernels": "" if kernels is None else str(Path(kernels).expanduser().absolute()),
            "spacecraft": spacecraft or "",
        }
        if spacecraft and kernels is None:
            raise InputError(
                f"Where {spacecraft} was is told by SPICE kernels: name their folder with kernels=."
            )
        return self._next(Angle.made((self.step,), options))

    def photometry(  # noqa: PLR0913 - each says one thing about light or model
        self,
        model: str = "lambert",
        *,
        incidence: Any = None,
        emission: Any = None,
        phase: Any = None,
        sun: Sequence[float] | None = None,
        observer: Sequence[float] | None = None,
        kernels: str | os.PathLike[str] | None = None,
        spacecraft: str | None = None,
        k: float = 0.7,
        weight: float | None = None,
        reference: Sequence[float] = (0.0, 0.0, 0.0),
        steepest: float = 85.0,
    ) -> Self:
        """Return the image as under one geometry of light and view: the shading of the globe taken out.

        Parameters
        ----------
        model
            ``lambert``, ``lommel-seeliger``, ``minnaert`` or ``lunar-lambert`` (see `cupola.lab.planets.photometry`).
        incidence, emission, phase
            In degrees: numbers (for instance of the label), or chains (bands with backplanes, or `angle`). Those that are
            not given are computed where `sun` or `kernels` says from what; else emission is 0 and phase is unknown.
        sun, observer, kernels, spacecraft
            See `angle`.
        k
            Minnaert's exponent.
        weight
            Of Lommel and Seeliger's law in ``lunar-lambert``; by the phase as on the Moon (McEwen 1996) without it.
        reference
            Incidence, emission and phase in degrees that values are brought to.
        steepest
            Incidence and emission in degrees beyond which there is no data.

        Raises
        ------
        InputError
            When there is no such model, an angle is missing, or a value is no number.
        """
        computed = sun is not None or kernels is not None
        if incidence is None and not computed:
            raise InputError(
                "photometry() needs the angle of incidence: a number, a chain, or what it is computed from (sun= or kernels=)."
            )
        seen = observer is not None or spacecraft is not None
        given = {"incidence": incidence, "emission": emission, "phase": phase}
        otherwise = {"emission": 0.0, "phase": float("nan")}
        for name, value in given.items():
            if value is not None:
                given[name] = (
                    value if isinstance(value, Methods) else number(value, f"{name} is an angle in degrees")
                )
            elif computed and (name != "emission" or seen):
                given[name] = self.angle(
                    name, sun=sun, observer=observer, kernels=kernels, spacecraft=spacecraft
                )
            else:
                given[name] = otherwise[name]
        options = {
            "model": model,
            "k": number(k, "k is Minnaert's exponent"),
            "weight": None if weight is None else number(weight, "weight is a share from 0 to 1", 0, 1),
            "reference": _numbers(reference, "reference is (incidence, emission, phase) in degrees", 3),
            "steepest": number(steepest, "steepest is an angle from 0 to 90 degrees", 0, 90),
        }
        inputs = (self.step, *(self._part(value) for value in given.values()))
        return self._next(Photometry.made(inputs, options), *given.values())

    def command(
        self,
        command: Sequence[str],
        *,
        input: str = ".tif",  # noqa: A002 - the word of the line
        output: str | None = None,
        pointwise: bool = False,
        timeout: float = 3600.0,
    ) -> Self:
        """Return what an external program makes of each image: ISIS, the Ames Stereo Pipeline, or any other.

        The chain so far is computed over a whole item at full resolution and written to a file for the program; what it
        writes is read back, all its bands. It must keep rows and columns. In a viewport only `pointwise` commands run.

        Parameters
        ----------
        command
            Words, the program first, such as ``["fx", "f1={input}", "to={output}", "equation=f1*2"]``. ``{input}`` and
            ``{output}`` stand for the files, ``{folder}`` for a folder that goes away with them, ``{item}`` for the item's id.
        input
            Ending of the file that it is given: ``.tif``, ``.cub`` (ISIS), ``.vic`` (VICAR), ``.img`` or ``.bil``.
        output
            Ending of the file that it writes, any that Cupola reads; that of `input` where nothing is said.
        pointwise
            Whether it treats each pixel alone: then it runs window by window, in viewports too.
        timeout
            Seconds after which it is ended.

        Raises
        ------
        InputError
            When the command does not name its files, or an ending is unknown.
        """
        options = {
            "command": _words(command),
            "input": input,
            "output": input if output is None else output,
            "pointwise": bool(pointwise),
            "timeout": number(timeout, "timeout is a positive number of seconds"),
        }
        return self._next(Command.made((self.step,), options))


def _words(command: Any) -> tuple[str, ...]:
    if isinstance(command, str) or not isinstance(command, (list, tuple)):
        raise InputError(
            "A command is a list of words, the program first: ['fx', 'f1={input}', 'to={output}']."
        )
    return tuple(str(word) for word in command)


def _numbers(values: Any, what: str, count: int | None = None) -> tuple[float, ...]:
    if values is None:
        return ()
    if isinstance(values, str) or not hasattr(values, "__len__") or (count and len(values) != count):
        raise InputError(f"{what}, not {values!r}.")
    return tuple(number(value, what) for value in values)
