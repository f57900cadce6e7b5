"""The file ``properties`` of a HiPS (IVOA recommendation 1.0), by which a viewer knows what it may ask for."""

from __future__ import annotations

from typing import Any

from cupola.lab.sky.coverage import cell_degrees

__all__ = ["DEEPEST", "SIZE", "Properties", "properties"]

SIZE = 512
"""Rows and columns of a tile."""
DEEPEST = 20
"""The last order of a tile: its pixels have order 29."""

Properties = dict[str, Any]


def properties(about: Properties, revision: str, name: str) -> str:
    """Return the file ``properties`` of a HiPS.

    Parameters
    ----------
    about
        What `work` told.
    revision
        Of the files.
    name
        That nothing else has: the chain's hash.
    """
    words = {
        "creator_did": f"ivo://cupola/P/{name[:16]}{revision and '-'}{revision}",
        "obs_title": " ".join(str(about["title"]).split()) or "chain",
        "dataproduct_type": "image",
        "dataproduct_subtype": "live" if about.get("bands", 1) < 3 else "color live",  # noqa: PLR2004 - red, green, blue
        "hips_version": "1.4",
        "hips_status": "private master unclonable",
        "hips_frame": "equatorial",
        "hips_order": about["order"],
        "hips_order_min": 0,
        "hips_tile_width": SIZE,
        "hips_tile_format": "png fits",
        "hips_pixel_bitpix": -32,
        "hips_pixel_scale": f"{cell_degrees(about['order']) / SIZE:.10g}",
        "hips_initial_ra": f"{about['ra']:.9f}",
        "hips_initial_dec": f"{about['dec']:.9f}",
        "hips_initial_fov": f"{about['fov']:.9g}",
        "moc_sky_fraction": f"{about['fraction']:.8g}",
        "s_pixel_scale": f"{about['degrees']:.10g}",
    }
    if limits_told := about.get("limits"):
        words["hips_pixel_cut"] = " ".join(f"{limit:.9g}" for limit in limits_told[0])
    return "".join(f"{key:<20} = {value}\n" for key, value in words.items())
