"""The main job on real data: Sentinel-2 bands with their STAC item, and a real ISIS cube."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cupola.models.job import JobState
from cupola.models.session import SessionState
from cupola.monitor.visitor import Visitor
from support.platform import Platform

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

MOON = "ulcn2005_lpo_downsampled.cub"


@pytest.fixture(scope="module")
def real_platform(tmp_path_factory, shared_data):
    volumes = "".join(
        f"  - {{name: {name}, title: Real data, path: {shared_data / folder}}}\n"
        for name, folder in (("earth", "s2"), ("moon", "isis3"))
    )
    platform = Platform(tmp_path_factory.mktemp("real"), settings=f"volumes:\n{volumes}")
    try:
        platform.start()
        yield platform
    finally:
        platform.clean()


async def open_session(visitor, platform):
    await visitor.sign_in(platform.link())
    session = await visitor.press_play("lab")
    return await visitor.open_kernel(await visitor.wait_for(session, SessionState.READY))


async def product_of_job(kernel, visitor):
    """Wait for the kernel's variable `job` and return its only product's values."""
    await kernel.run("job.wait(progress=False)")
    job = await visitor.job(await kernel.value("job.id"))
    assert job.state is JobState.DONE, job.reason
    folder = Path(await kernel.value("str(job.products.source)"))
    (image,) = folder.glob("*.tif")
    with rasterio.open(image) as source:
        return source.read(1, masked=True).filled(np.nan), source.profile, folder


@pytest.mark.asyncio
async def test_ndvi_of_real_sentinel_2_bands(real_platform, shared_data):
    async with Visitor(real_platform.address) as visitor:
        kernel = await open_session(visitor, real_platform)
        await kernel.run("import cupola; s2 = cupola.open('earth')")
        await kernel.run("ndvi = s2['B04', 'B08'].map(lambda red, nir: (nir - red) / (nir + red))")
        await kernel.run("job = ndvi.run('real-ndvi')")
        ours, profile, folder = await product_of_job(kernel, visitor)
    with (
        rasterio.open(shared_data / "s2/B04.tif") as red_file,
        rasterio.open(shared_data / "s2/B08.tif") as nir_file,
    ):
        item = json.loads((shared_data / "s2/S2A_29RKH_20200219_0_L2A.json").read_text())
        scales = [item["assets"][name]["raster:bands"][0] for name in ("red", "nir")]
        red, nir = (
            file.read(1).astype("float64") * band.get("scale", 1) + band.get("offset", 0)
            for file, band in zip((red_file, nir_file), scales, strict=True)
        )
        assert profile["transform"] == red_file.transform
        assert profile["crs"] == red_file.crs
    np.testing.assert_allclose(ours, (nir - red) / (nir + red), rtol=1e-4, atol=1e-6)
    (product,) = (json.loads(file.read_text()) for file in folder.glob("S2A*.json"))
    assert product["properties"]["processing:expression"]["format"] == "cupola-chain"
    assert "nir - red" in json.dumps(product["properties"])


@pytest.mark.asyncio
async def test_heights_of_the_real_moon_from_an_isis_cube(real_platform, shared_data):
    async with Visitor(real_platform.address) as visitor:
        kernel = await open_session(visitor, real_platform)
        await kernel.run(f"import cupola; moon = cupola.open('volumes/moon/{MOON}')")
        assert await kernel.value("moon.body.name") == "Moon"
        await kernel.run("height = moon[moon.bands[0]].map(lambda radius: radius - 1737400)")
        await kernel.run("m = cupola.Map(); m.add(height, cmap='gray')")
        address = await kernel.value("m.chain_layers[0].url")
        tile = await visitor.get(address.replace("{z}", "0").replace("{x}", "0").replace("{y}", "0"))
        assert tile.headers["content-type"] == "image/png"
        assert "x-cupola-error" not in tile.headers
        await kernel.run("job = height.run('moon-height')")
        ours, profile, _ = await product_of_job(kernel, visitor)
    with rasterio.open(shared_data / "isis3" / MOON) as source:
        stored = source.read(1, masked=True).astype("float64")
        wanted = (stored * source.scales[0] + source.offsets[0] - 1737400).filled(np.nan)
        assert profile["transform"] == source.transform
    np.testing.assert_allclose(ours, wanted, atol=0.2)


@pytest.mark.asyncio
async def test_mars_on_an_earth_map_is_one_clear_sentence(real_platform):
    async with Visitor(real_platform.address) as visitor:
        kernel = await open_session(visitor, real_platform)
        await kernel.run("import cupola; s2 = cupola.open('earth'); m = cupola.Map(); m.add(s2['B04'])")
        await kernel.run(f"moon = cupola.open('volumes/moon/{MOON}')")
        said = await kernel.run(
            "try:\n    m.add(moon[moon.bands[0]])\nexcept cupola.CupolaError as error:\n    print(error)"
        )
        assert "Moon" in said.text
        assert "Earth" in said.text
        assert len(said.text.strip().splitlines()) == 1
