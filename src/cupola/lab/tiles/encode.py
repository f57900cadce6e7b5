"""Pixels to PNG, WebP and NPY, with as little work as the eye and the map need.

Compression is where default tile servers spend half their time: level 1 costs a fifth of level 6 and is hardly
larger, and a single band needs one byte per pixel when the colours travel in the palette.
"""

from __future__ import annotations

import io
import math
import textwrap
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cupola.lab.tiles.styles import COLOURS, Style, colormap

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from PIL.Image import Image

__all__ = ["empty_png", "error_png", "npy", "png", "webp"]

PNG_LEVEL = 1
WEBP_QUALITY = 85
LOG_RANGE = 1000.0
ASINH_RANGE = 10.0
"""How far these scales reach down from the brightest, as DS9 and Astropy have them."""
RGB = 3


def _save(image: Image, **options: object) -> bytes:
    """Return `image` as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL, **options)
    return buffer.getvalue()


@lru_cache(maxsize=8)
def empty_png(height: int, width: int | None = None) -> bytes:
    """Return a PNG of `height` times `width` pixels (a square where `width` is left out) with nothing in it."""
    from PIL import Image

    return _save(Image.new("P", (height if width is None else width, height), 0), transparency=0, bits=1)


def _scaled(values: npt.NDArray[np.float32], style: Style, band: int, steps: int) -> npt.NDArray[np.uint8]:
    """Spread the values between the limits over 0 ... `steps`; what is not finite becomes anything."""
    low, high = style.limits(band)
    linear = style.scale == "linear"
    with np.errstate(invalid="ignore", over="ignore"):
        # The limit is taken off first: single precision is then enough even for a radius in metres.
        span = np.subtract(values, np.float32(low))
        span *= np.float32((steps if linear else 1) / (high - low))
        if not linear:
            np.clip(span, 0, 1, out=span)
            span = _CURVES[style.scale](span)
            span *= np.float32(steps)
        # Half a step more, then cut off: that is rounding, in one pass less.
        span += np.float32(0.5)
        np.clip(span, 0, steps + 0.5, out=span)
        return span.astype(np.uint8)


_CURVES: dict[str, Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]] = {
    "sqrt": np.sqrt,
    "log": lambda span: np.log1p(span * np.float32(LOG_RANGE)) / np.float32(math.log1p(LOG_RANGE)),
    "asinh": lambda span: np.arcsinh(span * np.float32(ASINH_RANGE)) / np.float32(math.asinh(ASINH_RANGE)),
}


def _good(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return where `values` are valid and finite, by pixel over all bands."""
    finite = np.isfinite(values)
    good: npt.NDArray[np.bool_] = valid & (finite if values.ndim == valid.ndim else finite.all(axis=0))
    return good


def png(data: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], style: Style) -> bytes:
    """Draw pixels.

    Parameters
    ----------
    data
        Values, shape (bands, height, width). One or two bands are drawn with the style's colormap (of the first
        band), three or more as red, green and blue (of the first three).
    valid
        Where there are any, shape (height, width). NaN and infinite values count as invalid too.
    style
        A style with both limits.

    Returns
    -------
    bytes
        A PNG, transparent where nothing is valid.
    """
    image = _drawn(data, valid, style)
    if image is None:
        return empty_png(*data.shape[1:])
    return _save(image, transparency=_palette(style.cmap)[1]) if image.mode == "P" else _save(image)


def webp(data: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], style: Style) -> bytes:
    """Draw pixels as WebP, which is lossy: colours are a little off, and edges of what is valid stay sharp.

    Parameters and result are those of `png`. It pays for red, green and blue; the palette of a single band is
    quicker and smaller in PNG.
    """
    image = _drawn(data, valid, style)
    buffer = io.BytesIO()
    if image is None:
        from PIL import Image

        image = Image.new("RGBA", data.shape[:0:-1])
    elif image.mode == "P":
        image.info["transparency"] = _palette(style.cmap)[1]
        image = image.convert("RGBA")
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=0)
    return buffer.getvalue()


def _drawn(data: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], style: Style) -> Image | None:
    """Return the pixels as a picture, with a palette for a single band; nothing where nothing is valid."""
    from PIL import Image

    bands, height, width = data.shape
    good = _good(data[0] if bands < RGB else data[:RGB], valid)
    if not good.any():
        return None
    if bands < RGB:
        index = _scaled(data[0], style, 0, COLOURS - 1)
        index += 1
        index[~good] = 0
        image = Image.frombytes("P", (width, height), index.tobytes())
        image.putpalette(_palette(style.cmap)[0])
        return image
    layers = [_scaled(data[band], style, band, 255) for band in range(RGB)]
    if not good.all():
        for layer in layers:
            layer[~good] = 0
        layers.append(good.view(np.uint8) * np.uint8(255))
    pixels = np.stack(layers, axis=-1)
    return Image.frombytes("RGBA" if len(layers) > RGB else "RGB", (width, height), pixels.tobytes())


@lru_cache(maxsize=32)
def _palette(name: str) -> tuple[bytes, bytes]:
    """Return the palette of the colormap `name` and the opacity of its entries; entry 0 is "nothing here"."""
    table = colormap(name)
    return b"\0\0\0" + table[:, :3].tobytes(), b"\0" + table[:, 3].tobytes()


def npy(data: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> bytes:
    """Return pixels as an NPY file: float32, shape (bands, height, width), NaN where invalid."""
    buffer = io.BytesIO()
    np.save(
        buffer, np.where(valid, data, np.float32(np.nan)).astype(np.float32, copy=False), allow_pickle=False
    )
    return buffer.getvalue()


@lru_cache(maxsize=64)
def error_png(message: str, size: int = 256) -> bytes:
    """Return a PNG of `size` times `size` pixels that says `message`."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGBA", (size, size), (255, 241, 240, 215))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, size - 1, size - 1), outline=(179, 38, 30, 120))
    font = ImageFont.load_default(12)
    lines = textwrap.wrap(message, width=max(size // 7, 8)) or ["error"]
    room = max((size - 16) // 16, 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], "..."]
    draw.multiline_text((8, 8), "\n".join(lines), fill=(110, 16, 10, 255), font=font, spacing=4)
    return _save(image)
