"""Masks of chains."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cupola.exceptions import BandError, InputError
from cupola.lab.chains.graph.arithmetic import Ufunc, Where
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.masks import SCL_CLASSES, Bits, IsIn
from cupola.lab.chains.methods.base import Methods, number
from cupola.lab.collections.images import describe
from cupola.lab.collections.wording import near

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from cupola.lab.chains.graph.base import Step
    from cupola.lab.chains.graph.source import Source
    from cupola.lab.collections.formats.special import Kept

__all__ = ["Masks"]

_LOOKED_AT = 20
"""How many items are asked for the band of a mask."""
_SCL_GROUPS = {
    "cloud": ("cloud_medium", "cloud_high"),
    "cirrus": ("thin_cirrus",),
    "shadow": ("cloud_shadow",),
    "snow": ("snow_ice",),
    "ice": ("snow_ice",),
    "saturated": ("saturated_or_defective",),
    "defective": ("saturated_or_defective",),
    "dark": ("dark_area",),
    "soil": ("bare_soil",),
    "not_vegetated": ("bare_soil",),
}
"""Short words for scene classes."""
_SCL_DROPPED = ("no_data", "saturated_or_defective", "cloud_shadow", "cloud", "cirrus")
_SCL_BANDS = ("scl", "SCL")
_QA_BANDS = ("qa_value",)


class Masks(Methods):
    """What is left out of a chain."""

    __slots__ = ()

    def mask(self, condition: Methods) -> Self:
        """Keep what fulfils a condition; elsewhere there is no data.

        Parameters
        ----------
        condition
            A chain that is 1 (any number but 0) where pixels are kept, such as ``dem > 1000`` or ``~water``. It may be
            of these items or one image, such as the ``mosaic()`` of another collection.

        Raises
        ------
        InputError
            When the condition is no chain, or its images cannot be combined with these.
        """
        if not isinstance(condition, Methods):
            raise InputError("mask() takes a condition made of chains, such as ndvi.mask(dem < 500).")
        return self._next(Where((condition.step, self.step, float("nan"))), condition)

    def isin(self, values: Iterable[float]) -> Self:
        """Return 1 where the value is one of `values`, 0 elsewhere, NaN where it is unknown.

        Raises
        ------
        InputError
            When they are no list of numbers.
        """
        try:
            wanted = tuple(sorted({number(value, "isin() takes a list of numbers") for value in values}))
        except TypeError as error:
            raise InputError(f"isin() takes a list of numbers, not {values!r}.") from error
        return self._next(IsIn((self.step,), wanted))

    def bits(self, *bits: int) -> Self:
        """Return 1 where any of these bits of a quality band is set (0 is the lowest), 0 elsewhere.

        Raises
        ------
        InputError
            When a bit is no number from 0 to 23.
        """
        for bit in bits:
            if type(bit) is not int or not 0 <= bit <= 23:  # noqa: PLR2004 - what float32 holds exactly
                raise InputError(f"bits() takes numbers of bits from 0 to 23, not {bit!r}.")
        if not bits:
            raise InputError("bits() takes the numbers of the bits to look at, such as bits(3, 4).")
        return self._next(Bits((self.step,), tuple(sorted(set(bits)))))

    def mask_scl(
        self,
        *,
        drop: str | int | Iterable[str | int] | None = None,
        keep: str | int | Iterable[str | int] | None = None,
        band: str | None = None,
    ) -> Self:
        """Leave out pixels by the scene classes of Sentinel-2, at the classes' own resolution.

        Parameters
        ----------
        drop
            Classes to leave out, by name or number: ``cloud`` (medium and high probability), ``cirrus``, ``shadow``,
            ``snow``, ``water``, ``vegetation``, ``soil``, ``dark``, ``saturated``, ``no_data``, ``unclassified`` ...
            Where neither is said: what is no data, saturated, cloud, cirrus or shadow.
        keep
            The only classes to keep, instead of `drop`.
        band
            Name of the band with the classes, where it is not ``scl`` or ``SCL``.

        Raises
        ------
        InputError
            When both or unknown classes are given, or the chain is one image already.
        BandError
            When the items have no such band.
        """
        if drop is not None and keep is not None:
            raise InputError("mask_scl() takes the classes to drop or those to keep, not both.")
        classes = self._quality(band, _SCL_BANDS, "mask_scl()", "its scene classes")
        if keep is not None:
            return self.mask(self._of(IsIn((classes,), _class_numbers(keep))))
        dropped = IsIn((classes,), _class_numbers(_SCL_DROPPED if drop is None else drop))
        return self.mask(self._of(Ufunc((dropped,), "logical_not")))

    def mask_qa(self, least: float = 0.75, *, band: str | None = None) -> Self:
        """Keep pixels whose quality is good enough, such as Sentinel-5P's ``qa_value`` of 0.75 or 0.5.

        Raises
        ------
        InputError
            When `least` is no number, or the chain is one image already.
        BandError
            When the items have no such band.
        """
        least = number(least, "The least quality is a number such as 0.75")
        quality = self._quality(band, _QA_BANDS, "mask_qa()", "a measure of quality")
        return self.mask(self._of(Ufunc((quality, least), "greater_equal")))

    def keep_saturated(self, low: bool | float = True, high: bool | float = True) -> Self:
        """Keep the saturated pixels of ISIS cubes and PDS products, which are missing otherwise.

        They saw less (LIS, LRS) or more (HIS, HRS) than the instrument or the stored numbers can tell, and become the limit
        of what can be told. The choice holds for all bands of the chain, on maps and in runs.

        Parameters
        ----------
        low, high
            What the pixels of either end become: a value, ``True`` for the smallest (largest) value that the file can hold,
            or ``False`` to leave them out. Files of real numbers hold no such limit and need values. Cubes of bytes have
            one number for nothing and for the low end, which stays missing.

        Raises
        ------
        InputError
            When they are no numbers, no file of the collection tells of saturated pixels, or the limits are not known.
        """
        kept = _end(low), _end(high)

        known: list[bool] = []

        def changed(step: Step) -> Step:
            if not isinstance(step, Bands):
                return step
            known.append(_knows_saturation(step, kept))
            return replace(step, saturated=kept) if known[-1] else step

        chain = self._rebuilt(changed)
        if not any(known):
            raise InputError(
                "No image of this chain tells saturated pixels from others, as ISIS cubes and some PDS products do: leave "
                "keep_saturated() out."
            )
        return chain

    def _of(self, condition: Any) -> Self:
        """Return a step over the items of this chain as a chain."""
        return self._made(condition, self.per_item)

    def _quality(self, band: str | None, usual: tuple[str, ...], call: str, what: str) -> Bands:
        """Return the step that reads the band of a mask, never averaged."""
        if self.per_item is None:
            raise InputError(
                f"{call} masks items, and this chain is one image already: put it before the reduction."
            )
        name = _band_of(self.per_item, (band,) if band else usual, what)
        return Bands((), self.per_item, (name,), "nearest")


def _end(said: bool | float) -> bool | float:
    return said if type(said) is bool else number(said, "Saturated pixels become a number, or True or False")


def _band_of(source: Source, names: tuple[str, ...], what: str) -> str:
    """Return the first of these names that an item knows; the first where there is no item to ask."""
    items = source.collection.items[:_LOOKED_AT]
    first: BandError | None = None
    for item in items:
        for name in names:
            try:
                item.band(name)
            except BandError as error:
                first = first or error
            else:
                return name
    if first is not None:
        raise BandError(f"{first} A mask needs {what}: say which band has it with band=...") from first
    return names[0]


def _knows_saturation(step: Bands, kept: Kept) -> bool:
    """Whether files of a step tell of saturated pixels; those without the limit that is wanted are refused."""
    items = step.source.collection.items[:_LOOKED_AT]
    for item in items:
        with contextlib.suppress(BandError):
            for path in {band.path for name in step.names for band in item.band(name)}:
                image = describe(path)
                if image.saturation is not None:
                    for end, choice in enumerate(kept):
                        if choice is True:
                            image.saturation.limit(end, path)
                    return True
    return not items


def _class_numbers(classes: str | int | Iterable[str | int]) -> tuple[float, ...]:
    """Return the numbers of scene classes."""
    listed = [classes] if isinstance(classes, (str, int)) else list(classes)
    found: set[float] = set()
    for name in listed:
        if isinstance(name, str):
            word = name.strip().lower().replace(" ", "_").replace("-", "_")
            known = (word,) if word in SCL_CLASSES else _SCL_GROUPS.get(word, ())
            if not known:
                hint = near(word, [*SCL_CLASSES, *_SCL_GROUPS])
                raise InputError(f"Sentinel-2 has no scene class {name!r}{hint}")
            found.update(SCL_CLASSES[one] for one in known)
        elif type(name) is int and name in SCL_CLASSES.values():
            found.add(name)
        else:
            raise InputError(f"Sentinel-2's scene classes have the numbers 0 to 11, not {name!r}.")
    if not found:
        raise InputError("mask_scl() needs at least one class, such as drop=('cloud', 'shadow').")
    return tuple(sorted(float(value) for value in found))
