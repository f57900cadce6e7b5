"""Photometric models of airless and thin-aired surfaces: how bright a surface of even brightness looks from where it is lit.

Dividing an image by the model takes the shading of the sphere out of it: what is left is the surface itself, as under one
reference geometry. Incidence is the angle between the surface's vertical and the Sun, emission that to the camera, phase
that between the two, all in degrees.

Sources: J. H. Lambert, Photometria (1760); H. von Seeliger (1884) after E. Lommel; M. Minnaert, ApJ 93 (1941); A. S. McEwen,
"Photometric functions for photoclinometry", Icarus 92 (1991), and LPSC XXVII (1996) for the Moon's limb darkening.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cupola.exceptions import InputError

__all__ = ["MODELS", "lunar_weight", "model", "normalise"]

MODELS = ("lambert", "lommel-seeliger", "minnaert", "lunar-lambert")
"""Names of the models."""

Array = Any  # NDArray[np.float32] or a number

_MOON = (1.0, -0.019, 2.42e-4, -1.46e-6)


def lunar_weight(phase: Array) -> Array:
    """Return the share of Lommel and Seeliger's law in the Moon's, by phase in degrees (McEwen 1996), 0 to 1."""
    a, b, c, d = _MOON
    return np.clip(a + phase * (b + phase * (c + phase * d)), 0.0, 1.0)


def model(  # noqa: PLR0913 - three angles and two numbers of models
    name: str,
    incidence: Array,
    emission: Array = 0.0,
    phase: Array | None = None,
    *,
    k: float = 0.7,
    weight: float | None = None,
) -> Array:
    """Return how bright the surface is: 1 where it is lit and seen from above, 0 where the Sun or the camera is below it.

    Parameters
    ----------
    name
        One of `MODELS`.
    incidence, emission, phase
        In degrees; numbers or arrays.
    k
        Minnaert's exponent: 1 is Lambert's law, the Moon near full has 0.5.
    weight
        For ``lunar-lambert``: the share of Lommel and Seeliger's law, 0 to 1; by `phase` as on the Moon where nothing is said.

    Raises
    ------
    InputError
        When there is no such model, or it lacks the phase.
    """
    lit, seen = np.cos(np.radians(incidence)), np.cos(np.radians(emission))
    with np.errstate(all="ignore"):
        disc = 2 * lit / (lit + seen)
        if name == "lambert":
            bright = lit + 0 * seen
        elif name == "lommel-seeliger":
            bright = disc
        elif name == "minnaert":
            bright = lit**k * seen ** (k - 1)
        elif name == "lunar-lambert":
            if weight is None and phase is None:
                raise InputError(
                    "The lunar-lambert model needs the phase angle, or weight= with the share of Lommel and Seeliger's law."
                )
            share = lunar_weight(phase) if weight is None else weight
            bright = share * disc + (1 - share) * lit
        else:
            raise InputError(f"There is no photometric model {name!r}; choose one of {', '.join(MODELS)}.")
    return np.where((lit > 0) & (seen > 0), bright, np.where(np.isnan(lit + seen), np.nan, 0.0))


def normalise(  # noqa: PLR0913 - each says one thing about the geometry
    values: Array,
    name: str,
    incidence: Array,
    emission: Array = 0.0,
    phase: Array | None = None,
    *,
    k: float = 0.7,
    weight: float | None = None,
    reference: tuple[float, float, float] = (0.0, 0.0, 0.0),
    steepest: float = 85.0,
) -> Array:
    """Return the values as they would be under the reference geometry.

    Parameters
    ----------
    values
        Radiance or I/F, any shape that goes with the angles.
    name, incidence, emission, phase, k, weight
        See `model`.
    reference
        Incidence, emission and phase in degrees to which values are brought.
    steepest
        Incidence and emission in degrees beyond which nothing can be said: NaN.

    Raises
    ------
    InputError
        As `model`; or when the surface is dark under the reference geometry.
    """
    target = float(model(name, *reference, k=k, weight=weight))
    if not target > 0:
        raise InputError(
            f"The reference geometry {reference} has the Sun or the camera below the horizon; take angles below 90 degrees."
        )
    bright = model(name, incidence, emission, phase, k=k, weight=weight)
    with np.errstate(all="ignore"):
        answer = np.asarray(values * (target / bright), dtype=np.float32)
        hidden = (np.asarray(incidence) > steepest) | (np.asarray(emission) > steepest) | (bright <= 0)
    return np.where(hidden, np.float32(np.nan), answer)
