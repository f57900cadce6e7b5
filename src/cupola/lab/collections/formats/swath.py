"""From longitude and latitude to the pixels of a swath.

The geolocation of a swath is smooth: a place is found by the nearest of a few thousand of its pixels, then by Newton's
steps in the meshes between pixels, on unit vectors in space, so that poles and the antimeridian are places like any
other. Where scans overlap or jump (bow-ties), the nearest pixel of all is taken instead.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.collections.placement import Swath

__all__ = ["Net", "net_of", "unit_vectors"]

Floats = Any  # NDArray[np.float64], written short

_NODES = 20_000
"""Pixels of the coarse index at most, about."""
_STEPS = 12
_CLOSE = 1e-3
"""Newton's steps end when they are shorter than this, in meshes."""
_BEYOND = 3.0
"""How far beyond its edge a swath goes on, in meshes of the coarse index."""
_MISS = 0.05
"""How far beside the swath's surface a place may end, in meshes: more means that the steps went astray."""
_KEPT = 8
"""Swaths whose geolocation stays in memory: 12 bytes for each pixel."""
_MANY = 100_000


def unit_vectors(longitudes: Floats, latitudes: Floats) -> Floats:
    """Return points on the unit sphere, shape (..., 3), of places in degrees."""
    lon, lat = np.radians(longitudes), np.radians(latitudes)
    across = np.cos(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), np.sin(lat)], axis=-1)


def net_of(swath: Swath) -> Net:
    """Return the net of a swath, from memory while its file does not change.

    Raises
    ------
    ImageError
        When the arrays cannot be read.
    """
    return _net_of(swath.source, swath.revision, swath.longitude, swath.latitude, swath.width, swath.height)


@lru_cache(maxsize=_KEPT)
def _net_of(
    source: str, _revision: tuple[int, int], longitude: str, latitude: str, width: int, height: int
) -> Net:
    if not longitude:
        from cupola.lab.collections.formats.points import read_points

        return Net(*read_points(source))
    from cupola.lab.collections.formats.gridded import read_geolocation

    return Net(*read_geolocation(source, longitude, latitude, width, height))


class Net:
    """Nodes with known places; between them, everything goes on evenly.

    Parameters
    ----------
    longitudes, latitudes
        Degrees, shape (rows, columns); NaN where unknown.
    at_rows, at_columns
        Where the nodes are, in pixels from the image's corner, ascending; the middles of all pixels where nothing is
        said.
    """

    def __init__(
        self, longitudes: Floats, latitudes: Floats, at_rows: Floats = None, at_columns: Floats = None
    ) -> None:
        if longitudes.ndim != 2 or min(longitudes.shape) < 2:  # noqa: PLR2004 - a mesh needs four corners
            raise ImageError("A swath needs two rows and two columns of longitudes and latitudes at least.")
        good = np.isfinite(longitudes) & np.isfinite(latitudes) & (np.abs(latitudes) <= 90)  # noqa: PLR2004
        vectors = unit_vectors(np.where(good, longitudes, 0.0), np.where(good, latitudes, 0.0))
        vectors[~good] = np.nan
        if not good.all():
            _extend(vectors, good)
        # In single precision a place is half a metre off, and an orbit takes half of the memory.
        precision = np.float32 if longitudes.size > _MANY else np.float64
        self.vectors: NDArray[Any] = np.ascontiguousarray(vectors, dtype=precision)
        self.rows, self.columns = longitudes.shape
        self._at_rows, self._at_columns = at_rows, at_columns

    @cached_property
    def _coarse(self) -> tuple[Any, NDArray[np.intp], NDArray[np.intp], float, int]:
        """Return a tree of every n-th node, rows and columns of its nodes, how far apart they are at most, and n."""
        from scipy.spatial import cKDTree

        step = max(1, int(np.sqrt(self.rows * self.columns / _NODES)))
        rows = np.unique(np.append(np.arange(0, self.rows, step), self.rows - 1))
        columns = np.unique(np.append(np.arange(0, self.columns, step), self.columns - 1))
        mesh_rows, mesh_columns = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
        some = self.vectors[mesh_rows, mesh_columns]
        good = np.isfinite(some[:, 0])
        if not good.any():
            raise ImageError("The longitudes and latitudes of the swath are all missing.")
        # Differences along both sides bound how far from its nearest coarse node a place of the swath can be.
        field = self.vectors[np.ix_(rows, columns)]
        with np.errstate(invalid="ignore"):
            sides = [np.linalg.norm(np.diff(field, axis=axis), axis=-1) for axis in (0, 1)]
        longest = [float(np.nanmax(side)) if np.isfinite(side).any() else 0.0 for side in sides]
        reach = float(np.hypot(longest[0], longest[1]))
        return cKDTree(some[good]), mesh_rows[good], mesh_columns[good], reach, step

    @cached_property
    def _every(self) -> tuple[Any, NDArray[np.intp]]:
        """Return a tree of all nodes and their numbers; only overlapping scans need it."""
        from scipy.spatial import cKDTree

        flat = self.vectors.reshape(-1, 3)
        numbers = np.flatnonzero(np.isfinite(flat[:, 0]))
        return cKDTree(flat[numbers], balanced_tree=False, compact_nodes=False), numbers

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of places in degrees, NaN outside.

        A little beyond the edge they go on evenly, so that places along it can be reckoned from their neighbours.
        """
        places = unit_vectors(longitudes, latitudes)
        columns, rows = np.full(len(places), np.nan), np.full(len(places), np.nan)
        possible = np.flatnonzero(np.isfinite(places[:, 0]))
        tree, node_rows, node_columns, reach, _ = self._coarse
        distance, nearest = tree.query(places[possible], distance_upper_bound=_BEYOND * reach + 1e-12)
        near = np.isfinite(distance)
        possible, nearest = possible[near], nearest[near]
        if not len(possible):
            return columns, rows
        u, v, lost = self._newton(places[possible], node_rows[nearest], node_columns[nearest])
        if lost.any():
            self._nearest(places[possible[lost]], lost, u, v)
        rows[possible] = self._pixel(u, self._at_rows)
        columns[possible] = self._pixel(v, self._at_columns)
        return columns, rows

    def _newton(self, places: Floats, rows: Any, columns: Any) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Go from nodes to places; tell which places were lost on the way although they may be in the swath."""
        u, v = rows.astype(np.float64), columns.astype(np.float64)
        margin = 2.0 * _BEYOND * self._coarse[4]
        active = np.arange(len(places))
        lost = np.zeros(len(places), dtype=bool)
        for _ in range(_STEPS):
            step_u, step_v, beside = self._step(places[active], u[active], v[active])
            u[active] += step_u
            v[active] += step_v
            here_u, here_v = u[active], v[active]
            with np.errstate(invalid="ignore"):
                out_u, out_v = (
                    np.maximum(-here_u, here_u - self.rows),
                    np.maximum(-here_v, here_v - self.columns),
                )
                moving = (np.abs(step_u) > _CLOSE) | (np.abs(step_v) > _CLOSE)
                # Steps that lead far out of the swath are no loss: the place is outside.
                gone = (out_u > margin) | (out_v > margin)
                astray = (beside > _MISS) & ~moving & (out_u < 0) & (out_v < 0)
            unknown = ~(np.isfinite(step_u) & np.isfinite(step_v))
            lost[active[(unknown | astray) & ~gone]] = True
            u[active[gone]] = v[active[gone]] = np.nan
            active = active[moving & ~unknown & ~gone]
            if not len(active):
                break
        lost[active] = True
        u[lost] = v[lost] = np.nan
        return u, v, lost

    def _step(self, places: Floats, u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
        """Return Newton's step in the mesh at (u, v), and how far beside the surface the place is, in meshes."""
        row = np.clip(np.floor(u), 0, self.rows - 2).astype(np.intp)
        column = np.clip(np.floor(v), 0, self.columns - 2).astype(np.intp)
        s, t = (u - row)[:, np.newaxis], (v - column)[:, np.newaxis]
        flat, first = self.vectors.reshape(-1, 3), row * self.columns + column
        corners = first, first + 1, first + self.columns, first + self.columns + 1
        a, b, c, d = (flat[corner].astype(np.float64, copy=False) for corner in corners)
        along_u = (c - a) * (1 - t) + (d - b) * t
        along_v = (b - a) * (1 - s) + (d - c) * s
        here = a + s * (c - a) + t * along_v
        gap = places - here
        uu, uv, vv = (
            (p * q).sum(-1) for p, q in ((along_u, along_u), (along_u, along_v), (along_v, along_v))
        )
        gu, gv = (gap * along_u).sum(-1), (gap * along_v).sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            bottom = uu * vv - uv * uv
            step_u, step_v = (gu * vv - gv * uv) / bottom, (gv * uu - gu * uv) / bottom
            rest = gap - step_u[:, np.newaxis] * along_u - step_v[:, np.newaxis] * along_v
            # The chord of a mesh lies below the sphere by the square of its length.
            beside = np.sqrt((rest * rest).sum(-1) / np.maximum(uu, vv)) - np.sqrt(np.maximum(uu, vv))
        return step_u, step_v, beside

    def _nearest(self, places: Floats, lost: NDArray[np.bool_], u: Floats, v: Floats) -> None:
        """Put the nearest node of all in for lost places, where it is no further away than its neighbours are."""
        tree, numbers = self._every
        distance, nearest = tree.query(places)
        rows, columns = np.divmod(numbers[nearest], self.columns)
        flat = self.vectors.reshape(-1, 3)
        neighbours = (
            np.minimum(rows + 1, self.rows - 1) * self.columns + columns,
            np.maximum(rows - 1, 0) * self.columns + columns,
            rows * self.columns + np.minimum(columns + 1, self.columns - 1),
            rows * self.columns + np.maximum(columns - 1, 0),
        )
        sides = [np.linalg.norm(flat[other] - flat[numbers[nearest]], axis=-1) for other in neighbours]
        with np.errstate(invalid="ignore"):
            reach = np.nanmax(np.stack(sides), axis=0)
        near = distance <= 0.75 * reach
        u[lost] = np.where(near, rows, np.nan)
        v[lost] = np.where(near, columns, np.nan)

    @staticmethod
    def _pixel(position: Floats, at: Floats) -> Floats:
        """Return pixels from the corner for positions in nodes."""
        if at is None:
            return position + 0.5
        lower = np.clip(np.floor(np.nan_to_num(position)), 0, len(at) - 2).astype(np.intp)
        return at[lower] + (position - lower) * (at[lower + 1] - at[lower])

    @staticmethod
    def _node(pixels: Floats, at: Floats) -> Floats:
        """Return positions in nodes for pixels from the corner."""
        if at is None:
            return pixels - 0.5
        lower = np.clip(np.searchsorted(at, pixels, side="right") - 1, 0, len(at) - 2)
        return lower + (pixels - at[lower]) / (at[lower + 1] - at[lower])

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitudes and latitudes of places in pixels."""
        u, v = self._node(rows, self._at_rows), self._node(columns, self._at_columns)
        bad = ~(np.isfinite(u) & np.isfinite(v))
        u, v = np.where(bad, 0.0, u), np.where(bad, 0.0, v)
        row = np.clip(np.floor(u), 0, self.rows - 2).astype(np.intp)
        column = np.clip(np.floor(v), 0, self.columns - 2).astype(np.intp)
        s, t = (u - row)[:, np.newaxis], (v - column)[:, np.newaxis]
        flat, first = self.vectors.reshape(-1, 3), row * self.columns + column
        upper = flat[first] * (1 - t) + flat[first + 1] * t
        lower = flat[first + self.columns] * (1 - t) + flat[first + self.columns + 1] * t
        x, y, z = (upper * (1 - s) + lower * s).T
        longitudes, latitudes = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
        longitudes[bad] = latitudes[bad] = np.nan
        return longitudes, latitudes


def _extend(vectors: Floats, good: NDArray[np.bool_]) -> None:
    """Go on by one node beyond known ones, so that the last pixels beside a gap are whole."""
    for axis in (0, 1):
        field, known = np.moveaxis(vectors, axis, 0), np.moveaxis(good, axis, 0)
        for way in (slice(None), slice(None, None, -1)):
            part, seen = field[way], known[way]
            gap = ~seen[2:] & seen[1:-1] & seen[:-2] & ~np.isfinite(part[2:, ..., 0])
            part[2:][gap] = 2 * part[1:-1][gap] - part[:-2][gap]
