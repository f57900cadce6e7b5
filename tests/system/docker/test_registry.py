"""Images in a registry (``docker.registry``): Debian's ``docker-registry`` runs for real, and engine and platform use it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil

import docker.errors
import pytest

from cupola.config import load
from cupola.exceptions import StartError, UnavailableError
from cupola.models.session import LaunchRequest, SessionState
from cupola.platform.services.datalabs.builds import BuildService
from cupola.platform.services.datalabs.catalogue import CatalogueService
from cupola.platform.storage.docker.building import image_builder
from cupola.platform.storage.files.datalabs import DatalabFolder
from support.registry import PROGRAM, Registry
from support.visits import signed_in, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.asyncio,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which(PROGRAM) is None, reason=f"{PROGRAM} not installed (apt-get install docker-registry)"
    ),
]

DATALAB = "title: Probe\nsummary: A program of the tests.\nready_path: /\n"


@pytest.fixture
def registry(tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    one = Registry(folder)
    one.start()
    yield one
    one.stop()


class Place:
    """A platform with a datalab of its own, whose image is in a registry; what it runs is the stub session."""

    def __init__(self, platform, engine, registry, name):
        self.platform, self.engine, self.registry, self.name = platform, engine, registry, name
        self.config = load(platform.config_file)
        self.builder = image_builder(self.config)
        self.store = self.builder.store
        self.catalogue = CatalogueService(
            folder=DatalabFolder.of(self.config), versions=self.store, compute=self.config.compute
        )
        self.told: list[str] = []

    def build(self, text="one"):
        stub = self.engine.client.images.get(self.engine.stub()).tags[0]
        recipe = f"FROM {stub}\nCOPY said-{text} /said\n"
        for old in self.place.glob("said-*"):
            old.unlink()
        # Of its own, so that no other image has this layer and it is pulled for real.
        (self.place / f"said-{text}").write_bytes(os.urandom(2 << 20))
        (self.place / "Dockerfile").write_text(recipe)
        return self.builder.build(self.name, self.told.append).version

    @property
    def place(self):
        return self.platform.folder / self.name

    def lose(self, version):
        """Let the engine lose an image, as a clean-up of the machine does."""
        self.engine.client.images.remove(version.digest, force=True)
        self.store.engine.forget()

    def clean(self):
        for image in self.engine.client.images.list(filters={"label": f"cupola.datalab={self.name}"}):
            with contextlib.suppress(docker.errors.APIError):
                self.engine.client.images.remove(image.id, force=True)
        shutil.rmtree(self.store.folder / self.name, ignore_errors=True)


@pytest.fixture
def place(new_platform, images, engine, registry):
    name = f"probe-{os.urandom(4).hex()}"
    settings = images.settings.replace("  build: false\n", f"  build: false\n  registry: {registry.name}\n")
    ours = new_platform(settings=f"{settings}datalabs: [{name}]\n")
    (ours.folder / name).mkdir()
    (ours.folder / name / "datalab.yaml").write_text(DATALAB)
    one = Place(ours, engine, registry, name)
    yield one
    ours.clean()
    one.clean()


async def test_a_build_is_put_there_and_the_timer_fetches_what_the_engine_has_lost(place):
    version = place.build()
    assert version.image == f"{place.registry.name}/{place.name}:{version.label}"
    assert any(version.image in line for line in place.told)
    place.lose(version)
    datalab = await place.catalogue.datalab(place.name)
    assert not datalab.versions[0].ready
    assert datalab.unavailable is None
    assert datalab.recommended == version.digest, "one click fetches it"

    await BuildService(catalogue=place.catalogue, versions=place.store, fetches=place.store).keep_ready()
    assert (await place.catalogue.version(place.name)).version.ready
    assert place.engine.client.images.get(version.image).id == version.digest

    # Somebody puts another image there under the same name: it is not taken for this version.
    other = place.build("two")
    place.engine.client.images.get(other.digest).tag(*version.image.rsplit(":", 1))
    place.engine.client.api.push(*version.image.rsplit(":", 1))
    place.lose(version)
    place.lose(other)
    with pytest.raises(UnavailableError, match="another image"):
        place.store.fetch(place.name, version)
    place.store.fetch(place.name, other)
    place.registry.stop()
    place.lose(other)
    with pytest.raises(UnavailableError, match="could not be fetched") as refused:
        place.store.fetch(place.name, other)
    assert "\n" not in str(refused.value)
    with pytest.raises(StartError, match="registry does not take"):
        place.build("three")
    assert len(place.store.versions(place.name)) == 2, "what is in no registry is no version"


async def test_a_launch_fetches_its_version_and_pins_it(place, images):
    images.have("lab")
    version = place.build()
    place.registry.stop()
    place.lose(version)
    place.platform.start()
    log = place.platform.paths.log / "portal.log"
    # The timer tries once in a while: now the rest is the launch's.
    await until(lambda: version.label in log.read_text(), "the timer cannot fetch the version")
    request = LaunchRequest(datalab=place.name, version=version.digest)
    async with signed_in(place.platform) as (visitor, client):
        page = await visitor.http.get(f"/services/cupola/datalabs/{place.name}")
        assert "Must be pulled first" in page.text
        refused = await ended(client, await client.launch(request))
        assert refused.state is SessionState.FAILED
        assert place.registry.name in refused.reason
        assert "\n" not in refused.reason

        place.registry.start()
        session = await client.launch(request)
        told = [event.message async for event in client.session_events(session.id)]
        assert any(f"Fetching version {version.label} from its registry" in line for line in told), told
        ready = await client.session(session.id)
        assert ready.state is SessionState.READY, ready.reason
        assert ready.version == version.digest
        (container,) = place.engine.client.containers.list(filters={"label": f"cupola.session={session.id}"})
        assert container.image.id == version.digest
        page = await visitor.http.get(f"/services/cupola/datalabs/{place.name}")
        assert "Must be pulled first" not in page.text
        await client.stop_session(session.id)
        await ended(client, ready)


async def ended(client, session):
    seen = session
    while seen.state.active:
        await asyncio.sleep(0.1)
        seen = await client.session(session.id)
    return seen
