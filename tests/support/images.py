"""The real images of datalabs for tests: built once, and kept by the engine and in ``.cache/images`` of the checkout.

What an image is made of is its label, so that a change of a recipe or of the sources in it makes a new one, and nothing
else does. A whole build takes minutes; layers that did not change come from the engine's cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from cupola.config import Config
from cupola.platform.storage.docker.building import image_builder
from support.docker import CHECKOUT, Engine, engine

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.datalab import Version
    from cupola.platform.storage.docker.building import ImageBuilder

__all__ = ["IMAGES", "Images", "engine", "images"]

IMAGES = CHECKOUT / ".cache" / "images"
"""For ``folders.images`` of a platform that uses them."""
READY_MADE = "cupola/base:test"
"""An image of Debian that an engine may have for tests; it spares a minute."""


@dataclass
class Images:
    """The images of one engine."""

    engine: Engine
    folder: Path = IMAGES
    built: dict[str, Version] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def settings(self) -> str:
        """Lines of ``cupola.yaml`` for a platform that uses them; ``folders`` has to name `IMAGES` as ``images`` too."""
        return f"compute: docker\ndocker:\n  host: {self.engine.host}\n  base: {self.base}\n  build: false\n"

    @property
    def base(self) -> str:
        tags = {tag for image in self.engine.client.api.images() for tag in image["RepoTags"] or ()}
        return READY_MADE if READY_MADE in tags else "debian:bookworm-slim"

    @property
    def builder(self) -> ImageBuilder:
        return image_builder(
            Config.model_validate(
                {
                    "state": str(self.folder.parent / "state-of-images"),
                    "compute": "docker",
                    "docker": {"host": self.engine.host, "base": self.base},
                    "folders": {"images": str(self.folder)},
                }
            )
        )

    def have(self, name: str) -> Version:
        """Return the checked version of a datalab; it is built where it is missing."""
        if name not in self.built:
            self.built[name] = self.builder.build(name, self.told.append).version
        return self.built[name]


@pytest.fixture(scope="session")
def images(engine):
    """The images of the datalabs: ``images.have("lab")`` is a version that has passed its check."""
    return Images(engine)
