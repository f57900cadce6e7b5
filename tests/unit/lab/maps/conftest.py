from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("JUPYTERHUB_SERVICE_PREFIX", "CUPOLA_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a small image and return its path."""

    def writes(  # noqa: PLR0913 - what an image is made of
        name: str,
        *,
        crs: str | None = "EPSG:3857",
        left: float = 0.0,
        top: float = 64_000.0,
        step: float = 1000.0,
        bands: int = 1,
        dtype: str = "float32",
        value: float = 1.0,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}")
        with rasterio.open(
            aside, "w", driver="GTiff", width=64, height=64, count=bands, dtype=dtype, crs=crs,
            transform=from_origin(left, top, step, step),
        ) as file:  # fmt: skip
            file.write(np.full((bands, 64, 64), value, dtype=dtype))
        return aside.rename(path)

    return writes
