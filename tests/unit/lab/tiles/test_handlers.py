"""The addresses of a real Jupyter server with the extension."""

from __future__ import annotations

import io
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from cupola.lab.chains import store
from cupola.lab.collections import open as open_collection
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

pytestmark = pytest.mark.system

TILE = "WebMercatorQuad/8/128/127"


@dataclass
class Server:
    http: httpx.Client
    url: str
    pid: int

    def tile(self, chain: Chain, place: str = TILE, ending: str = "png", **query: Any) -> httpx.Response:
        return self.http.get(f"cupola/tiles/{store.save(chain)}/{place}.{ending}", params=query)

    def problem(self, chain: Chain) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(f"cupola/tiles/{chain.hash}/problem").json()
        return answer


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("runtime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUPOLA_RUNTIME", str(folder))
        patch.delenv("CUPOLA_PYTHON", raising=False)
        yield folder


@pytest.fixture(scope="module")
def server(runtime: Path) -> Iterator[Server]:
    port = free_port()
    token = secrets.token_hex()
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(runtime / "config"),
        "JUPYTER_RUNTIME_DIR": str(runtime / "jupyter"),
        "CUPOLA_TILE_SECONDS": "3",
        "CUPOLA_TILE_WORKERS": "1",
        "JUPYTER_TOKEN": token,
    }
    command = [
        sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", f"--port={port}",
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--ServerApp.base_url=/user/ada/lab-1/",
        f"--ServerApp.root_dir={runtime}",
        "--ServerApp.jpserver_extensions", "cupola.lab.extension=True",
    ]  # fmt: skip
    with (runtime / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/user/ada/lab-1/"
    try:
        with httpx.Client(base_url=url, headers={"Authorization": f"token {token}"}, timeout=60) as http:
            _wait(http, process, runtime / "server.log")
            yield Server(http, url, process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _wait(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            if http.get("api/status").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(log.read_text())


def test_a_tile_is_a_picture_of_the_place(server: Server, scene: Collection) -> None:
    answer = server.tile(scene["one"], cmap="gray", vmin=0, vmax=512, v="1")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
    # The scene is 40,960 m of the tile's 156,543 m, in its lower left corner, and rises to the east.
    assert drawn[..., 3].sum() / 255 == pytest.approx(67 * 67, rel=0.03)
    shown = drawn[230, :66, 0].astype(int)
    assert (np.diff(shown) >= 0).all()
    assert shown[-1] > 240
    assert drawn[230, 70, 3] == 0


def test_values_come_as_npy(server: Server, scene: Collection) -> None:
    answer = server.tile(scene["one", "two"], ending="npy", size=64)
    values = np.load(io.BytesIO(answer.content))
    assert values.shape == (2, 64, 64)
    assert values.dtype == np.float32
    assert np.isnan(values[:, 0, 0]).all()
    good = np.isfinite(values[0])
    assert np.array_equal(values[1][good], 2 * values[0][good])


def test_limits_that_are_left_open_are_percentiles_of_the_whole(server: Server, scene: Collection) -> None:
    chain = scene["one"]
    stretch = server.http.get(f"cupola/tiles/{store.save(chain)}/WebMercatorQuad/stretch").json()
    assert stretch["bands"] == 1
    assert stretch["limits"][0] == pytest.approx([0.02 * 512, 0.98 * 512], abs=4)
    low, high = stretch["limits"][0]
    assert server.tile(chain).content == server.tile(chain, vmin=low, vmax=high).content


def test_a_tile_is_not_computed_twice(server: Server, scene: Collection, tmp_path: Path) -> None:
    log = str(tmp_path / "calls")

    def counted(band: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123 - pickled
            file.write("x")
        return band

    chain = scene["one"].map(counted)
    first = server.tile(chain, vmin=0, vmax=1, v="1")
    tag = {"If-None-Match": first.headers["etag"]}
    path = f"cupola/tiles/{chain.hash}/{TILE}.png?v=1&vmin=0&vmax=1"
    assert server.http.get(path, headers=tag).status_code == 304
    assert server.http.get(path).content == first.content
    assert (tmp_path / "calls").read_text() == "x"
    # Another revision says that the files have changed.
    assert server.http.get(path.replace("v=1", "v=2", 1), headers=tag).status_code == 200
    assert (tmp_path / "calls").read_text() == "xx"


def test_an_address_without_a_revision_means_the_files_as_they_are(server: Server, scene: Collection) -> None:
    first = server.tile(scene["one"], vmin=0, vmax=9)
    assert first.headers["cache-control"] == "private, no-cache"
    tag = {"If-None-Match": first.headers["etag"]}
    path = f"cupola/tiles/{store.save(scene['one'])}/{TILE}.png?vmin=0&vmax=9"
    assert server.http.get(path, headers=tag).status_code == 304
    # The validator is made of the picture: another style is another one.
    assert server.http.get(path.replace("vmax=9", "vmax=600"), headers=tag).status_code == 200


def view(server: Server, chain: Chain, ending: str = "npy", **query: Any) -> httpx.Response:
    options = {"box": "0,0,20480,10240", "width": 64, "height": 32} | query
    return server.http.get(f"cupola/view/{store.save(chain)}/WebMercatorQuad.{ending}", params=options)


def test_one_image_shows_a_whole_viewport(server: Server, scene: Collection) -> None:
    answer = view(server, scene["one"])
    values = np.load(io.BytesIO(answer.content))
    assert values.shape == (1, 32, 64)
    # The scene counts columns of 80 m from 0; the nearest one to each pixel's middle.
    assert values[0, 0] == pytest.approx((np.arange(64) + 0.5) * 20480 / 64 / 80, abs=1.01)
    assert float(answer.headers["x-cupola-scale"]) > 0
    picture = view(server, scene["one"], "webp", vmin=0, vmax=512, v="1")
    assert picture.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(picture.content)).size == (64, 32)
    tag = {"If-None-Match": picture.headers["etag"]}
    assert server.http.get(str(picture.request.url), headers=tag).status_code == 304
    exact = view(server, scene["one"], exact=1)
    assert exact.headers["x-cupola-exact"] == "True"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"box": "0,0,1"}, "left, bottom, right, top"),
        ({"box": "5,0,1,1"}, "empty"),
        ({"width": "0"}, "width"),
        ({"height": "nan"}, "height"),
    ],
)
def test_a_wrong_viewport_is_told_in_a_sentence(
    server: Server, scene: Collection, query: dict[str, str], sentence: str
) -> None:
    answer = view(server, scene["one"], **query)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_a_viewport_has_percentiles_of_its_own(server: Server, scene: Collection) -> None:
    name = store.save(scene["one"])
    left = server.http.get(
        f"cupola/tiles/{name}/WebMercatorQuad/stretch", params={"box": "0,0,8000,8000", "zoom": 14}
    ).json()
    assert left["limits"][0] == pytest.approx([2, 98], abs=3)
    wrong = server.http.get(f"cupola/tiles/{name}/WebMercatorQuad/stretch", params={"box": "x"})
    assert wrong.status_code == 422


def test_the_server_tells_which_way_is_cheaper(server: Server, scene: Collection) -> None:
    def way(chain: Chain) -> dict[str, Any]:
        path = f"cupola/tiles/{store.save(chain)}/WebMercatorQuad/way"
        found: dict[str, Any] = server.http.get(path, params={"width": 1280, "height": 800}).json()
        return found

    quick = way(scene["one"])
    assert quick["way"] == "tiles"
    assert quick["ms"] > 0

    def slow(band: Any) -> Any:
        import time as clock

        clock.sleep(1e-5 * band.size)
        return band

    assert way(scene["one"].map(slow))["way"] == "view"


def test_a_place_and_an_area_tell_their_values(server: Server, scene: Collection) -> None:
    name = store.save(scene["one", "two"])
    # 80 m per column: the 101st column is 8.04 km east of the origin.
    place = {"lon": 8040 / 6378137 * 180 / np.pi, "lat": 0.1}
    found = server.http.get(f"cupola/probe/{name}", params=place)
    assert found.status_code == 200, found.text
    assert found.json()["values"] == pytest.approx([101, 202], abs=2)
    assert found.headers["etag"]
    assert server.http.get(f"cupola/probe/{name}", params={"lon": "east"}).status_code == 422
    square = {"type": "Polygon", "coordinates": [[[0.05, 0.05], [0.1, 0.05], [0.1, 0.1], [0.05, 0.05]]]}
    body = {"type": "Feature", "properties": {}, "geometry": square}
    area = server.http.post(f"cupola/area/{name}", json=body)
    assert area.status_code == 200, area.text
    first, second = area.json()["bands"]
    assert second["mean"] == pytest.approx(2 * first["mean"])
    for wrong in ("no JSON", json.dumps([1]), json.dumps({"type": "Feature", "geometry": None})):
        assert server.http.post(f"cupola/area/{name}", content=wrong).status_code == 422


def test_an_empty_tile_is_small_and_transparent(server: Server, scene: Collection) -> None:
    answer = server.tile(scene["one"], "WebMercatorQuad/8/3/3", vmin=0, vmax=1)
    assert answer.status_code == 200
    assert len(answer.content) < 400


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"cmap": "virdis"}, "viridis"),
        ({"vmin": "2", "vmax": "1"}, "not below"),
        ({"size": "1000000"}, "tile size"),
    ],
)
def test_a_wrong_request_is_told_in_a_sentence(
    server: Server, scene: Collection, query: dict[str, str], sentence: str
) -> None:
    picture = server.tile(scene["one"], **query)
    assert picture.status_code == 422
    assert picture.headers["content-type"] == "image/png"
    assert sentence in picture.headers["x-cupola-error"]
    assert picture.headers["cache-control"] == "no-store"
    values = server.tile(scene["one"], ending="npy", **query)
    assert values.status_code == 422
    assert values.headers["content-type"] == "application/problem+json"
    assert sentence in values.json()["detail"]


def test_the_error_of_a_function_is_told_with_its_line(server: Server, scene: Collection) -> None:
    def wrong(band: Any) -> Any:
        return band["red"]

    chain = scene["one"].map(wrong)
    assert server.problem(chain) == {"problem": None, "tiles": 0, "fresher": 0, "waiting": False}
    picture = server.tile(chain, vmin=0, vmax=1)
    assert picture.status_code == 500
    assert Image.open(io.BytesIO(picture.content)).size == (256, 256)
    told = server.problem(chain)
    assert told["tiles"] == 1
    assert told["problem"]["message"].startswith("IndexError: only integers")
    assert told["problem"]["line"].endswith('return band["red"]')
    assert "wrong" in told["problem"]["traceback"]


def test_a_body_that_does_not_fit_and_a_chain_that_is_not_there(server: Server, scene: Collection) -> None:
    answer = server.tile(scene["one"], "Mars2015eqc/3/1/1", ending="npy")
    assert answer.status_code == 422
    assert "Earth" in answer.json()["detail"]
    assert "Mars" in answer.json()["detail"]
    missing = server.http.get(f"cupola/tiles/{'0' * 64}/{TILE}.npy")
    assert missing.status_code == 404
    assert "run the notebook cell" in missing.json()["detail"]
    grid = server.tile(scene["one"], "Atlantis/3/1/1", ending="npy")
    assert grid.status_code == 404


def test_a_function_without_end_is_stopped_and_its_chain_left_alone(
    server: Server, scene: Collection
) -> None:
    def endless(band: Any) -> Any:
        while True:
            band = band + 1

    chain = scene["one"].map(endless)
    for x in (128, 129):
        answer = server.tile(chain, f"WebMercatorQuad/8/{x}/127", ending="npy")
        # The second place is empty: the function is not even asked.
        assert answer.status_code == (504 if x == 128 else 200)
    assert server.tile(chain, "WebMercatorQuad/9/256/255", ending="npy").status_code == 504
    assert server.tile(chain, "WebMercatorQuad/10/512/511", ending="npy").status_code == 504
    # Two in a row: now it is refused without a worker.
    cpu = sum(child.cpu_times().user for child in psutil.Process(server.pid).children())
    assert server.tile(chain, "WebMercatorQuad/11/1024/1023", ending="npy").status_code == 504
    after = sum(child.cpu_times().user for child in psutil.Process(server.pid).children())
    assert after - cpu < 1
    assert "3 s" in server.problem(chain)["problem"]["message"]
    assert server.tile(scene["one"], ending="npy").status_code == 200


def test_a_browser_that_hangs_up_frees_the_worker(server: Server, scene: Collection, tmp_path: Path) -> None:
    begun, ended = str(tmp_path / "begun"), str(tmp_path / "ended")

    def waits(band: Any) -> Any:
        import time as clock

        with open(begun, "w"):  # noqa: PTH123 - pickled
            clock.sleep(2.5)
        with open(ended, "w"):  # noqa: PTH123 - pickled
            return band

    name = store.save(scene["two"].map(waits))
    client = socket.create_connection((server.http.base_url.host, server.http.base_url.port))
    path = f"{server.http.base_url.path}cupola/tiles/{name}/{TILE}.npy"
    token = server.http.headers["authorization"]
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n\r\n".encode())
    end = time.monotonic() + 60
    while not os.path.exists(begun) and time.monotonic() < end:  # noqa: PTH110
        time.sleep(0.02)
    (worker,) = psutil.Process(server.pid).children()
    client.close()
    # The only worker has time for another tile, and is the same process: starting one costs more than most tiles.
    assert server.tile(scene["one"], vmin=0, vmax=3).status_code == 200
    assert not os.path.exists(ended)  # noqa: PTH110
    assert worker.is_running()
    assert server.http.get(f"cupola/tiles/{name}/problem").json()["problem"] is None


def test_a_tile_of_many_images_is_whole(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        with rasterio.open(
            folder / f"{number:02}.tif", "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8",
            crs="EPSG:3857", transform=from_origin(number * 20_000, 40_000, 250, 250),
        ) as file:  # fmt: skip
            file.write(np.full((64, 64), number + 1, dtype=np.uint8), 1)
    chain = open_collection(folder)["b1"]
    place = "WebMercatorQuad/6/32/31"
    # Twenty small files are quickly read: the first look mostly has them all. Where it does not, it may not be kept, and
    # whoever looks again sees the rest.
    end = time.monotonic() + 120
    while (
        "immutable"
        not in (looked := server.tile(chain, place, vmin=0, vmax=20, v="1")).headers["cache-control"]
    ):
        assert time.monotonic() < end, server.problem(chain)
        time.sleep(0.3)
    assert looked.headers["x-cupola-overview"] == "used"
    drawn = np.asarray(Image.open(io.BytesIO(looked.content)).convert("RGBA"))[..., 3]
    columns = np.flatnonzero(drawn.any(axis=0))
    assert columns[0] == 0
    assert columns[-1] == pytest.approx(20 * 20_000 / 2445.98, abs=4)
    while (told := server.problem(chain))["waiting"]:
        assert time.monotonic() < end, told
        time.sleep(0.3)
    assert told["problem"] is None


def test_nothing_is_told_to_strangers(server: Server, scene: Collection) -> None:
    name = store.save(scene["one"])
    for path in (
        f"{name}/{TILE}.png",
        f"{name}/{TILE}.npy",
        f"{name}/problem",
        f"{name}/WebMercatorQuad/stretch",
        f"{name}/WebMercatorQuad/way",
        f"../view/{name}/WebMercatorQuad.png?box=0,0,1,1&width=9&height=9",
        f"../probe/{name}?lon=0&lat=0",
    ):
        answer = httpx.get(f"{server.url}cupola/tiles/{path}", headers={"Authorization": "token wrong"})
        assert answer.status_code in {302, 403}, path
        assert b"PNG" not in answer.content


@pytest.mark.parametrize(
    "path", ["..%2f..%2fetc/x/1/1/1.png", f"{'0' * 64}/..%2f/1/1/1.png", f"{'0' * 64}/T/-1/0/0.png"]
)
def test_other_addresses_are_not_ours(server: Server, path: str) -> None:
    assert server.http.get(f"cupola/tiles/{path}").status_code == 404


def test_many_at_once_are_all_answered(server: Server, scene: Collection) -> None:
    name = store.save(scene["one"].map(lambda band: band * 2))
    found: list[int] = []

    def ask(zoom: int) -> None:
        place = f"WebMercatorQuad/{zoom}/{2 ** (zoom - 1)}/{2 ** (zoom - 1) - 1}"
        found.append(server.http.get(f"cupola/tiles/{name}/{place}.png?vmin=0&vmax=9").status_code)

    threads = [threading.Thread(target=ask, args=(zoom,)) for zoom in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 16
