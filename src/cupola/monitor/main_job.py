"""The main job, from signing in to stopping the session, done and checked by a visitor.

Sign in → catalogue → play → JupyterLab → the tour notebook in a real kernel → tiles for the viewport → the job
over the whole collection → products, compared pixel by pixel → products on the map → the sessions page → stop.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import CupolaError, StartError
from cupola.models.job import JobState
from cupola.models.session import SessionState
from cupola.monitor.report import Recorder, Report
from cupola.monitor.visitor import Visitor

if TYPE_CHECKING:
    from cupola.models.session import Session
    from cupola.monitor.kernel import Kernel
    from cupola.monitor.report import Stage

__all__ = ["Platform", "perform"]

DATALAB = "lab"
TOUR = "examples/tour.ipynb"
PIXELS = Path(__file__).with_name("pixels.py")
"""Run as a file of its own: the second opinion must not lean on our code (``-P``)."""
PNG = b"\x89PNG\r\n\x1a\n"
MOST_DIFFERING = 0.001
"""Share of a tile's pixels that may differ. Places are reckoned on a coarse net and in single precision, which may move one
by an eighth of a pixel, as GDAL's warper may; of the samples' 262,144 pixels three get a neighbour's value."""


class WrongResultError(CupolaError):
    """The platform answered, but with something else than it should."""

    code = "wrong-result"
    title = "A wrong result"


Opinion = Callable[[Path, Sequence[str], str], tuple[int, bytes, bytes]]
"""Runs a script with words, on the files that a session of a person sees; returns exit code, output and errors."""


@dataclass(frozen=True)
class Platform:
    """The platform under test, as far as this machine knows it."""

    address: str
    link: str
    """A one-time sign-in link that was not used yet."""
    opinion: Opinion
    """Runs the second opinion on pixels in a Lab environment."""


async def perform(platform: Platform, tell: Callable[[Stage], None]) -> Report:
    """Do the main job and return what was found. A failed stage ends the run; its report is not ok."""
    recorder = Recorder(tell)
    complete = False
    try:
        async with Visitor(platform.address) as visitor:
            await _MainJob(platform, visitor, recorder).run()
            complete = True
    except Exception:  # noqa: BLE001  # the report carries it; anything at all means "not verified"
        complete = False
    return recorder.report(platform.address, complete=complete)


class _MainJob:
    """The stages, in order; what one finds the next ones use."""

    def __init__(self, platform: Platform, visitor: Visitor, recorder: Recorder) -> None:
        self.platform, self.visitor, self.recorder = platform, visitor, recorder
        self.session: Session
        self.kernel: Kernel

    async def run(self) -> None:
        await self.sign_in()
        await self.launch()
        try:
            await self.tour()
            await self.tiles()
            await self.busy_kernel()
            await self.job()
            await self.products_on_map()
        finally:
            await self.stop()

    async def sign_in(self) -> None:
        async with self.recorder.stage("sign-in", "Sign in with a one-time link") as counts:
            landed = await self.visitor.sign_in(self.platform.link)
            _expect(landed == "/services/cupola/", f"signing in led to {landed}, not to the catalogue")
            counts["landed"] = landed
        async with self.recorder.stage("catalogue", "Read the catalogue") as counts:
            datalabs = {datalab.name: datalab for datalab in await self.visitor.datalabs()}
            _expect(DATALAB in datalabs, "the catalogue has no Cupola Lab")
            counts["datalabs"] = len(datalabs)

    async def launch(self) -> None:
        async with self.recorder.stage("launch", "Press play and wait for JupyterLab") as counts:
            session = await self.visitor.press_play(DATALAB)
            self.session = await self.visitor.wait_for(session, SessionState.READY)
            page = await self.visitor.get(self.session.url or "")
            _expect("jupyter-config-data" in page.text, f"{self.session.url} is not JupyterLab")
            counts["session"] = session

    async def tour(self) -> None:
        prefix = f"/user/{self.session.owner}/{self.session.id}/"
        async with self.recorder.stage("kernel", "Open the tour notebook and a kernel"):
            self.kernel = await self.visitor.open_kernel(self.session)
            notebook = (await self.visitor.get(f"{prefix}api/contents/{TOUR}")).json()["content"]
        async with self.recorder.stage("tour", "Run the tour notebook, cell by cell") as counts:
            cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
            await self.kernel.run("import os; os.chdir('examples')")
            for cell in cells:
                await self.kernel.run(cell)
            counts["cells"] = len(cells)
            counts["items"] = int(await self.kernel.value("len(s2)"))

    async def tiles(self) -> None:
        async with self.recorder.stage(
            "tiles", "Fetch the viewport's tiles, compare with a direct computation"
        ) as counts:
            address = await self._layer("ndvi")
            west, south, east, north = await self.kernel.value("tuple(float(v) for v in s2.bbox)")
            middle = ((west + east) / 2, (south + north) / 2)
            counts["pictures"] = await self._fetch_pictures(address, middle, zooms=(9, 11, 14))
            with tempfile.TemporaryDirectory() as folder:
                for z, x, y in _viewport(*middle, zooms=(await self._native_zoom(),)):
                    values = await self.visitor.get(_fill(address, z, x, y).replace(".png", ".npy"))
                    _save(folder, f"{z}-{x}-{y}.npy", values.content)
                counts.update(await self._second_opinion("tiles", await self._source_folder(), folder))
            wrong = int(counts["differing"]) / max(1, int(counts["pixels"]))
            _expect(int(counts["valid"]) > 0, "the tiles hold no values")
            _expect(
                wrong <= MOST_DIFFERING, f"{wrong:.2%} of the tiles' pixels differ from a direct computation"
            )

    async def busy_kernel(self) -> None:
        async with self.recorder.stage("busy", "Fetch new tiles while the kernel is busy") as counts:
            address = await self._layer("ndvi")
            west, south, east, north = await self.kernel.value("tuple(float(v) for v in s2.bbox)")
            await self.kernel.send("import time; time.sleep(6)")
            async with asyncio.timeout(5):
                middle = ((west + east) / 2, (south + north) / 2)
                counts["pictures"] = await self._fetch_pictures(address, middle, zooms=(12,))

    async def job(self) -> None:
        async with self.recorder.stage("job", "The job over the whole collection has ended well") as counts:
            job = await self.visitor.job(await self.kernel.value("job.id"))
            while job.state.active:
                await asyncio.sleep(0.3)
                job = await self.visitor.job(job.id)
            _expect(job.state is JobState.DONE, f"job {job.id} is {job.state}: {job.reason}")
            counts.update(inputs=job.counts.inputs, done=job.counts.done, tasks=job.tasks)
        async with self.recorder.stage("products", "Compare the products pixel by pixel") as counts:
            products = await self.kernel.value("str(job.products.source)")
            counts.update(await self._second_opinion("products", await self._source_folder(), products))
            _expect(counts["products"] == job.counts.inputs, "there are not as many products as inputs")
            _expect(
                counts["differing"] == 0, f"{counts['differing']} pixels differ from a direct computation"
            )
            _expect(counts["without_provenance"] == 0, "a product does not say how it was made")

    async def products_on_map(self) -> None:
        async with self.recorder.stage("products-on-map", "The products are on the same map") as counts:
            address = await self._layer("product")
            west, south, east, north = await self.kernel.value("tuple(float(v) for v in s2.bbox)")
            middle = ((west + east) / 2, (south + north) / 2)
            counts["pictures"] = await self._fetch_pictures(address, middle, zooms=(11,))

    async def stop(self) -> None:
        async with self.recorder.stage("stop", "The sessions page lists the session; stop it") as counts:
            page = await self.visitor.get("/services/cupola/sessions")
            _expect(self.session.id in page.text, "the sessions page does not list the session")
            await self.visitor.press("/services/cupola/sessions", f"/sessions/{self.session.id}/stop")
            ended = await self.visitor.wait_for(self.session.id, SessionState.STOPPED)
            counts["state"] = str(ended.state)

    # -- small questions ------------------------------------------------------------------------------------

    async def _layer(self, word: str) -> str:
        """Return the address of the map's layer whose name holds `word`."""
        layers: list[tuple[str, str]] = await self.kernel.value(
            "[(layer.name, layer.url) for layer in m.layers if getattr(layer, 'url', '')]"
        )
        for name, address in layers:
            if word in name.lower():
                return address
        raise WrongResultError(f"the map has no layer {word!r}, only {[name for name, _ in layers]}")

    async def _fetch_pictures(
        self, address: str, middle: tuple[float, float], *, zooms: tuple[int, ...]
    ) -> int:
        """Fetch the tiles around a place, check that each is a picture, and return their number."""
        places = _viewport(*middle, zooms=zooms)
        for z, x, y in places:
            tile = await self.visitor.get(_fill(address, z, x, y))
            _expect(tile.content.startswith(PNG), f"tile {z}/{x}/{y} is not a PNG picture")
            told = tile.headers.get("x-cupola-error")
            _expect(told is None, f"tile {z}/{x}/{y} is an error: {told}")
        return len(places)

    async def _native_zoom(self) -> int:
        """Return a zoom at which tiles are finer than the data, so that no overview is read."""
        await self.kernel.run(
            "import rasterio; finest = rasterio.open(s2.items[0].band('B04')[0].path).res[0]"
        )
        metres: float = await self.kernel.value("float(finest)")
        return math.ceil(math.log2(2 * math.pi * 6378137 / 256 / metres)) + 1

    async def _source_folder(self) -> str:
        folder: str = await self.kernel.value("str(s2.source)")
        return folder

    async def _second_opinion(self, check: str, *words: str) -> dict[str, int]:
        """Ask the independent computation; see `cupola.monitor.pixels`."""
        code, out, problem = await asyncio.to_thread(
            self.platform.opinion, PIXELS, [check, *words], self.session.owner
        )
        if code:
            raise StartError(f"the direct computation failed: {problem.decode()[-500:]}")
        counts: dict[str, int] = json.loads(out)
        return counts


def _expect(fact: bool, otherwise: str) -> None:
    """Raise with the sentence `otherwise` unless `fact` holds."""
    if not fact:
        raise WrongResultError(otherwise)


def _viewport(lon: float, lat: float, *, zooms: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return the 2 by 2 tiles around a place, at each zoom."""
    found = []
    for z in zooms:
        x = (lon + 180) / 360 * 2**z
        y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**z
        left, top = round(x) - 1, round(y) - 1
        found += [(z, left + dx, top + dy) for dx in (0, 1) for dy in (0, 1)]
    return found


def _save(folder: str, name: str, content: bytes) -> None:
    Path(folder, name).write_bytes(content)


def _fill(address: str, z: int, x: int, y: int) -> str:
    """Put a tile's place into a layer's address, as Leaflet does."""
    values: dict[str, Any] = {"{z}": z, "{x}": x, "{y}": y}
    for name, value in values.items():
        address = address.replace(name, str(value))
    return address
