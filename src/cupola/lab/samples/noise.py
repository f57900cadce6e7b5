"""Random numbers that are the same on every machine run, and the noise that nature is made of."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["Floats", "blur", "fractal", "generator", "ramp"]

Floats = NDArray[np.float32]

_SEED = 20261121


def generator(*words: str | int) -> np.random.Generator:
    """Return the random numbers that belong to `words`; other words give independent ones."""
    return np.random.default_rng([_SEED, zlib.crc32(" ".join(map(str, words)).encode())])


def fractal(rng: np.random.Generator, shape: tuple[int, int], power: float, *, largest: float = 0) -> Floats:
    """Return noise whose spectrum falls with wave number as ``k ** -power``.

    Parameters
    ----------
    rng
        Where the randomness comes from.
    shape
        Rows and columns.
    power
        1 is as rough as cloud edges, 2 and more as smooth as hills.
    largest
        Wavelength in pixels above which the spectrum is flat; 0: the whole image.

    Returns
    -------
    noise
        float32 with mean 0 and standard deviation 1.
    """
    # Spectral noise is periodic: a margin keeps opposite edges from being alike.
    rows, columns = (fft.next_fast_len(int(side * 1.2) + 8, real=True) for side in shape)
    spectrum = fft.rfft2(rng.standard_normal((rows, columns), dtype=np.float32))
    k = np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None, :]).astype(np.float32)
    lowest = 1 / largest if largest else 1 / max(rows, columns)
    spectrum *= np.maximum(k, np.float32(lowest)) ** np.float32(-power)
    spectrum[0, 0] = 0
    noise = fft.irfft2(spectrum, (rows, columns))[: shape[0], : shape[1]]
    noise -= noise.mean()
    result: Floats = (noise / noise.std()).astype(np.float32)
    return result


def blur(values: Floats, sigma: float) -> Floats:
    """Return `values` smoothed by a Gaussian of `sigma` pixels."""
    result: Floats = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3)
    return result


def ramp(values: Floats, low: float, high: float) -> Floats:
    """Return a smooth step from 0 (at `low` and below) to 1 (at `high` and above)."""
    t = np.clip((values - low) / (high - low), 0, 1)
    result: Floats = (t * t * (3 - 2 * t)).astype(np.float32)
    return result
