"""Sentinel-5P-like swaths of nitrogen dioxide over made-up cities in two years, in the groups of the real product."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import h5netcdf
import numpy as np

from cupola.lab.samples import stac
from cupola.lab.samples.noise import Floats, fractal, generator, ramp
from cupola.lab.samples.orbit import Doubles, Swath, fly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ABOUT", "CITIES", "write"]

ABOUT = stac.Collected(
    id="sentinel-5p",
    title="Sentinel-5P-like nitrogen dioxide",
    description=(
        "Made-up swaths of tropospheric nitrogen dioxide over the north-east Atlantic and western Europe, on three "
        "days of April in 2025 and in 2026, with plumes that the wind carries from made-up cities; in the second year "
        "there is less traffic. They have the groups, dimensions and units of the real Sentinel-5P level 2 product: "
        "curvilinear latitude and longitude, quality values, fill values under clouds."
    ),
    keywords=("sentinel-5p", "tropomi", "no2", "swath", "air quality"),
)

_SECONDS_OF_DAY = 48_247
_FILL = np.float32(9.96921e36)


@dataclass(frozen=True)
class _Day:
    """A pass over the cities."""

    date: str
    crossing: float
    """Longitude of the track where it crosses the equator."""
    traffic: float
    """Emissions, as a share of those of a usual day."""
    turn: float
    """How far the wind has turned from its usual direction, in degrees."""

    @property
    def name(self) -> str:
        """The name of the product and its item."""
        day = self.date.replace("-", "")
        return f"S5P_MADE_L2__NO2____{day}T132407_{day}T133248_00001_01_000000_20261121T000000"

    @property
    def start(self) -> str:
        """When the pass begins."""
        return f"{self.date}T13:24:07Z"

    @property
    def end(self) -> str:
        """When it ends."""
        return f"{self.date}T13:32:48Z"

    @property
    def midnight(self) -> int:
        """The day in seconds since 2010, as the product counts."""
        return int((datetime.fromisoformat(self.date).replace(tzinfo=UTC) - _EPOCH).total_seconds())


_EPOCH = datetime(2010, 1, 1, tzinfo=UTC)
_DAYS = (
    _Day("2026-04-18", 12.5, 0.62, 0),
    _Day("2026-04-17", 17.0, 0.66, -25),
    _Day("2026-04-16", 8.5, 0.60, 35),
    _Day("2025-04-18", 11.0, 1.05, 15),
    _Day("2025-04-17", 15.5, 0.98, -40),
    _Day("2025-04-16", 7.0, 1.0, 20),
)
"""The first one has the size that is asked for, the others half of it."""

# Name, longitude, latitude, emission (arbitrary), wind towards (degrees from north), wind speed (m/s).
CITIES = (
    ("Port Sala", -6.20, 46.40, 0.7, 60, 6.0),
    ("Novapoli", 2.10, 48.60, 2.4, 40, 5.0),
    ("Brackwater", -1.70, 52.60, 1.8, 75, 7.5),
    ("Alta Vega", -3.60, 40.30, 1.9, 25, 3.5),
    ("Rheinmark", 6.90, 51.20, 2.8, 55, 6.0),
    ("Lagunes", 9.30, 45.40, 2.6, 95, 1.8),
    ("Oporta", -8.60, 41.10, 0.9, 10, 4.5),
    ("Montclair", 5.00, 45.60, 1.1, 170, 4.0),
    ("Hafnar", 10.00, 53.60, 1.2, 65, 7.0),
    ("Casamar", -7.60, 33.50, 1.3, 200, 5.5),
)


@dataclass(frozen=True)
class _Scene:
    """What the instrument measured; shape (scanline, ground_pixel)."""

    day: _Day
    swath: Swath
    column: Floats
    """Tropospheric column, mol m-2, NaN where the retrieval failed."""
    precision: Floats
    quality: NDArray[np.uint8]
    """Per cent."""
    cloud: Floats
    """Cloud fraction."""
    solar_zenith: Floats


def write(folder: Path, *, scanlines: int, pixels: int) -> Iterator[str]:
    """Write the collection; yield after each step what it was.

    Parameters
    ----------
    folder
        The collection's folder; it exists.
    scanlines, pixels
        Size of the swath; 450 ground pixels are those of the real one.
    """
    for number, day in enumerate(_DAYS):
        lines, columns = (scanlines, pixels) if number == 0 else (scanlines // 2, pixels // 2)
        # The same area whatever the size: fewer scanlines are further apart.
        swath = fly(
            scanlines=lines,
            pixels=columns,
            seconds=0.84 * 620 / lines,
            crossing=day.crossing,
            middle=45.0,
        )
        target = folder / day.name
        target.mkdir()
        _write_netcdf(target / f"{day.name}.nc", _measure(swath, day))
        _write_item(target, swath, day)
        yield f"the swath of {day.date}"
    stac.write_collection(folder, ABOUT, summaries={"instruments": ["tropomi"], "platform": ["made-up"]})


def _measure(swath: Swath, day: _Day) -> _Scene:
    shape = swath.latitude.shape
    rng = generator("no2", day.date, *shape)
    weather = fractal(rng, (shape[0], shape[1]), 1.7, largest=shape[1] / 3) + 0.5 * fractal(
        rng, (shape[0], shape[1]), 1.1
    )
    cloud = ramp(weather, 0.1, 1.5)
    background = 1.1e-5 + 3e-6 * fractal(rng, (shape[0], shape[1]), 2.2)
    truth = background + day.traffic * _plumes(swath, day.turn)
    # Each detector column has its own small bias, which shows as stripes along the track.
    stripes = rng.normal(0, 1.6e-6, shape[1])
    zenith = _solar_zenith(swath)
    airmass = 1 / np.cos(np.radians(swath.viewing_zenith)) + 1 / np.cos(np.radians(zenith))
    precision = (5.5e-6 + 0.18 * truth) * (1 + 1.3 * cloud) * (airmass / 2.6) ** 0.5
    column = truth * (1 - 0.55 * cloud) + stripes + precision * 0.55 * rng.standard_normal(shape)
    failed = (cloud > 0.97) | (rng.uniform(size=shape) < 0.002)
    quality = np.where(cloud > 0.5, 0.74 - 0.4 * (cloud - 0.5), 1 - 0.22 * cloud)
    quality = np.where(failed, 0, quality)
    column[failed] = np.nan
    return _Scene(
        day=day,
        swath=swath,
        column=column.astype(np.float32),
        precision=precision.astype(np.float32),
        quality=np.rint(100 * quality).astype(np.uint8),
        cloud=cloud,
        solar_zenith=zenith.astype(np.float32),
    )


def _plumes(swath: Swath, turn: float) -> Doubles:
    """Return what the cities add: it is carried by the wind, spreads, and decays within a few hours."""
    total = np.zeros(swath.latitude.shape)
    for _, lon, lat, emission, towards, speed in CITIES:
        east = (swath.longitude - lon) * 111.2 * np.cos(np.radians(lat))
        north = (swath.latitude - lat) * 111.2
        angle = np.radians(towards + turn)
        along = east * np.sin(angle) + north * np.cos(angle)
        across = east * np.cos(angle) - north * np.sin(angle)
        # Plumes are never straight.
        across = across - 9 * np.sin(along / 70) * np.clip(along / 80, 0, 1)
        source, decay = 11.0 + 3 * emission, speed * 3.6 * 5
        spread = np.hypot(source, 0.16 * np.clip(along, 0, None) + 2)
        # A Gaussian source that decays exponentially down the wind, smooth at the city itself.
        front = 1 / (1 + np.exp(-np.clip(along / (0.45 * source), -40, 40)))
        profile = front * np.exp(-np.clip(along, 0, None) / decay)
        strength = 1.4e-4 * emission / np.sqrt(speed / 5)
        total += strength * profile * source / spread * np.exp(-0.5 * (across / spread) ** 2)
    return total


def _solar_zenith(swath: Swath) -> Doubles:
    """Return the sun's zenith angle on 18 April, at local times around half past one."""
    declination, latitude = np.radians(10.8), np.radians(swath.latitude)
    hours = 13 + 28 / 60 + swath.longitude / 15
    angle = np.radians(15 * (hours - 12))
    cosine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(angle)
    result: Doubles = np.degrees(np.arccos(cosine))
    return result


def _write_netcdf(path: Path, scene: _Scene) -> None:
    scanlines, pixels = scene.column.shape
    with h5netcdf.File(path, "w", track_order=False) as file:
        file.attrs.update(_global_attributes(scene))
        product = file.create_group("PRODUCT")
        product.dimensions = {"scanline": scanlines, "ground_pixel": pixels, "corner": 4, "time": 1}
        _write_coordinates(product, scene)
        _write_columns(product, scene)
        support = product.create_group("SUPPORT_DATA")
        _write_geolocations(support.create_group("GEOLOCATIONS"), scene)
        _write_details(support.create_group("DETAILED_RESULTS"), support.create_group("INPUT_DATA"), scene)
        _write_metadata(file.create_group("METADATA"), scene.day)


def _global_attributes(scene: _Scene) -> dict[str, Any]:
    latitude, longitude = scene.swath.latitude, scene.swath.longitude
    return {
        "Conventions": "CF-1.7",
        "title": "Made-up NO2 swath in the layout of TROPOMI/S5P NO2 1-Orbit L2",
        "institution": "Cupola",
        "source": "Made-up data; nothing was measured",
        "license": "CC0-1.0",
        "summary": "Made-up NO2 swath with plumes of made-up cities",
        "time_reference": f"{scene.day.date}T00:00:00Z",
        "time_coverage_start": scene.day.start,
        "time_coverage_end": scene.day.end,
        "time_coverage_resolution": "PT0.840S",
        "orbit": np.int32(1),
        "cdm_data_type": "Swath",
        "date_created": stac.CREATED,
        "geospatial_lat_min": np.float32(latitude.min()),
        "geospatial_lat_max": np.float32(latitude.max()),
        "geospatial_lon_min": np.float32(longitude.min()),
        "geospatial_lon_max": np.float32(longitude.max()),
        "platform": "S5P-like",
        "sensor": "TROPOMI-like",
        "spatial_resolution": "5.5x3.5km2",
    }


def _put(
    group: Any, name: str, dimensions: tuple[str, ...], values: Any, *, fill: Any = None, **attributes: Any
) -> None:
    """Write a variable, compressed; NaN becomes the fill value."""
    data = np.asarray(values)
    options: dict[str, Any] = {}
    if data.dtype.kind == "f" and fill is not None:
        data = np.where(np.isfinite(data), data, fill).astype(data.dtype)
    if data.ndim > 1 and data.dtype.kind != "O":
        options = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    variable = group.create_variable(name, dimensions, data.dtype, fillvalue=fill, **options)
    variable[...] = data
    variable.attrs.update(attributes)


def _write_coordinates(product: Any, scene: _Scene) -> None:
    scanlines, pixels = scene.column.shape
    grid = ("time", "scanline", "ground_pixel")
    swath = scene.swath
    _put(product, "scanline", ("scanline",), np.arange(scanlines, dtype=np.int32), units="1", axis="Y",
         long_name="along-track dimension index")  # fmt: skip
    _put(product, "ground_pixel", ("ground_pixel",), np.arange(pixels, dtype=np.int32), units="1", axis="X",
         long_name="across-track dimension index")  # fmt: skip
    _put(
        product,
        "corner",
        ("corner",),
        np.arange(4, dtype=np.int32),
        units="1",
        long_name="pixel corner index",
    )
    _put(product, "time", ("time",), np.array([scene.day.midnight], np.int32), standard_name="time",
         units="seconds since 2010-01-01 00:00:00", long_name="reference start time of measurement")  # fmt: skip
    _put(product, "latitude", grid, swath.latitude[None].astype(np.float32), fill=_FILL,
         long_name="pixel center latitude", units="degrees_north", standard_name="latitude",
         valid_min=np.float32(-90), valid_max=np.float32(90),
         bounds="/PRODUCT/SUPPORT_DATA/GEOLOCATIONS/latitude_bounds")  # fmt: skip
    _put(product, "longitude", grid, swath.longitude[None].astype(np.float32), fill=_FILL,
         long_name="pixel center longitude", units="degrees_east", standard_name="longitude",
         valid_min=np.float32(-180), valid_max=np.float32(180),
         bounds="/PRODUCT/SUPPORT_DATA/GEOLOCATIONS/longitude_bounds")  # fmt: skip
    step = 840 * 620 / scanlines
    passed = 1000 * _SECONDS_OF_DAY + np.rint(np.arange(scanlines) * step).astype(np.int32)
    _put(product, "delta_time", ("time", "scanline"), passed[None].astype(np.int32), units="milliseconds",
         long_name="offset from reference start time of measurement")  # fmt: skip


def _write_columns(product: Any, scene: _Scene) -> None:
    grid = ("time", "scanline", "ground_pixel")
    place = {"coordinates": "longitude latitude"}
    _put(product, "qa_value", grid, scene.quality[None], fill=np.uint8(255), units="1",
         scale_factor=np.float32(0.01), add_offset=np.float32(0), valid_min=np.uint8(0), valid_max=np.uint8(100),
         long_name="data quality value", **place,
         comment="A continuous quality descriptor, from 0 (no data) to 1 (full quality data); keep above 0.75.")  # fmt: skip
    _put(product, "nitrogendioxide_tropospheric_column", grid, scene.column[None], fill=_FILL, units="mol m-2",
         standard_name="troposphere_mole_content_of_nitrogen_dioxide", **place,
         long_name="Tropospheric vertical column of nitrogen dioxide",
         ancillary_variables="nitrogendioxide_tropospheric_column_precision qa_value",
         multiplication_factor_to_convert_to_molecules_percm2=np.float32(6.02214e19))  # fmt: skip
    _put(product, "nitrogendioxide_tropospheric_column_precision", grid, scene.precision[None], fill=_FILL,
         units="mol m-2", **place,
         long_name="Precision of the tropospheric vertical column of nitrogen dioxide",
         standard_name="troposphere_mole_content_of_nitrogen_dioxide standard_error",
         multiplication_factor_to_convert_to_molecules_percm2=np.float32(6.02214e19))  # fmt: skip


def _write_geolocations(group: Any, scene: _Scene) -> None:
    grid, line = ("time", "scanline", "ground_pixel"), ("time", "scanline")
    swath = scene.swath
    _put(group, "satellite_latitude", line, swath.satellite_latitude[None].astype(np.float32), fill=_FILL,
         units="degrees_north", long_name="sub-satellite latitude")  # fmt: skip
    _put(group, "satellite_longitude", line, swath.satellite_longitude[None].astype(np.float32), fill=_FILL,
         units="degrees_east", long_name="sub-satellite longitude")  # fmt: skip
    _put(group, "satellite_altitude", line, np.full((1, len(swath.latitude)), 824_000, np.float32), fill=_FILL,
         units="m", long_name="satellite altitude")  # fmt: skip
    _put(group, "solar_zenith_angle", grid, scene.solar_zenith[None], fill=_FILL, units="degree",
         standard_name="solar_zenith_angle", long_name="solar zenith angle")  # fmt: skip
    _put(group, "viewing_zenith_angle", grid, swath.viewing_zenith[None].astype(np.float32), fill=_FILL,
         units="degree", standard_name="platform_zenith_angle", long_name="viewing zenith angle")  # fmt: skip
    _put(group, "latitude_bounds", (*grid, "corner"), swath.latitude_bounds[None].astype(np.float32),
         units="degrees_north")  # fmt: skip
    _put(group, "longitude_bounds", (*grid, "corner"), swath.longitude_bounds[None].astype(np.float32),
         units="degrees_east")  # fmt: skip


def _write_details(results: Any, inputs: Any, scene: _Scene) -> None:
    grid = ("time", "scanline", "ground_pixel")
    place = {"coordinates": "/PRODUCT/longitude /PRODUCT/latitude"}
    _put(results, "cloud_fraction_crb_nitrogendioxide_window", grid, scene.cloud[None], fill=_FILL, units="1",
         long_name="Cloud fraction in the NO2 fitting window", **place)  # fmt: skip
    stratosphere = (4.2e-5 + 3e-7 * (scene.swath.latitude - 45)).astype(np.float32)
    _put(results, "nitrogendioxide_stratospheric_column", grid, stratosphere[None], fill=_FILL, units="mol m-2",
         long_name="Stratospheric vertical column of nitrogen dioxide", **place)  # fmt: skip
    pressure = np.full(scene.column.shape, 101_325, np.float32)
    _put(inputs, "surface_pressure", grid, pressure[None], fill=_FILL, units="Pa",
         standard_name="surface_air_pressure", long_name="surface air pressure", **place)  # fmt: skip


def _write_metadata(group: Any, day: _Day) -> None:
    """Write the groups of metadata that the real product has, as far as they make sense for made-up data."""
    said: Mapping[str, Mapping[str, Any]] = {
        "QA_STATISTICS": {},
        "ALGORITHM_SETTINGS": {"made_up": "true"},
        "GRANULE_DESCRIPTION": {
            "GranuleStart": day.start,
            "InstrumentName": "TROPOMI",
            "MissionName": "made-up",
            "MissionShortName": "S5P",
            "ProcessLevel": "2",
            "ProcessingCenter": "Cupola",
            "ProcessorVersion": "1.0.0",
            "ProductShortName": "L2__NO2___",
        },
        "ISO_METADATA": {"gmd:dateStamp": stac.CREATED[:10], "objectType": "gmi:MI_Metadata"},
        "EOP_METADATA": {"objectType": "eop:EarthObservation"},
        "ESA_METADATA": {},
    }
    for name, attributes in said.items():
        group.create_group(name).attrs.update(attributes)


def _write_item(target: Path, swath: Swath, day: _Day) -> None:
    latitude, longitude = swath.latitude, swath.longitude
    steps = max(1, len(latitude) // 16)
    edge = [
        *zip(longitude[0, ::steps], latitude[0, ::steps], strict=True),
        *zip(longitude[::steps, -1], latitude[::steps, -1], strict=True),
        *zip(longitude[-1, ::-steps], latitude[-1, ::-steps], strict=True),
        *zip(longitude[::-steps, 0], latitude[::-steps, 0], strict=True),
    ]
    ring = [[round(float(lon), 5), round(float(lat), 5)] for lon, lat in edge]
    stac.write_item(
        target / f"{day.name}.json",
        ABOUT.id,
        geometry={"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        properties={
            "datetime": day.start,
            "start_datetime": day.start,
            "end_datetime": day.end,
            "platform": "made-up",
            "constellation": "sentinel-5p-like",
            "instruments": ["tropomi"],
            "s5p:product_type": "L2__NO2___",
        },
        assets={
            "no2": {
                "href": f"./{day.name}.nc",
                "type": "application/x-netcdf",
                "title": "Tropospheric column of nitrogen dioxide (netCDF, group PRODUCT)",
                "roles": ["data"],
            }
        },
    )
