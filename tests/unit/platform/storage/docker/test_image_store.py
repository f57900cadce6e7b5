from __future__ import annotations

import pytest

from cupola.exceptions import NotFoundError, UnavailableError
from cupola.models.base import now
from cupola.models.datalab import Version
from cupola.platform.storage.docker.engine import Engine, Image
from cupola.platform.storage.docker.images import ImageStore

DIGEST, OTHER = "sha256:" + "a1" * 32, "sha256:" + "b2" * 32


class Shelf(Engine):
    """An engine of memory: it has what a test puts there."""

    def __init__(self):
        super().__init__("unix:///none")
        self.here: list[Image] = []
        self.registry: dict[str, Image] = {}
        self.pulled: list[str] = []

    def images(self, *, fresh=False):  # noqa: ARG002 - the engine's own shape
        return self.here

    def remove(self, name):
        self.here = [image for image in self.here if name not in {image.id, *image.tags}]

    def pull(self, name, watch=None):  # noqa: ARG002 - the engine's own shape
        self.pulled.append(name)
        if name not in self.registry:
            raise UnavailableError("no such image")
        self.here.append(self.registry[name])


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "images", Shelf())


def version(digest=DIGEST, **more):
    return Version(digest=digest, label="2026.11.21", created=now(), ready=True, **more)


def test_a_version_is_ready_where_the_engine_has_it(store, tmp_path):
    paper = tmp_path / "sbom.json"
    paper.write_text("{}")
    store.register("lab", version(), {"sbom.json": paper})
    assert [built.version.ready for built in store.versions("lab")] == [False]
    store.engine.here = [Image(DIGEST, ("cupola/lab:2026.11.21",))]
    (built,) = store.versions("lab")
    assert built.version.ready
    assert str(built.python) == "/opt/cupola/bin/python"
    assert (store.place("lab", DIGEST) / "sbom.json").read_text() == "{}"
    store.register("lab", version(verified=True), {})
    assert store.versions("lab")[0].version.verified
    assert (store.place("lab", DIGEST) / "sbom.json").exists()
    assert store.versions("other") == []


def test_what_is_half_written_counts_for_nothing(store):
    half = store.folder / "lab" / f".{DIGEST[7:19]}.123"
    half.mkdir(parents=True)
    (half / "version.json").write_text(version().model_dump_json())
    whole = store.folder / "lab" / "other"
    whole.mkdir()
    (whole / "version.json").write_text("{")
    assert store.versions("lab") == []


def test_a_version_that_cannot_be_written_leaves_nothing(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.register("lab", version(), {"sbom.json": tmp_path / "missing"})
    assert list((store.folder / "lab").iterdir()) == []


def test_an_image_that_another_name_holds_is_left_to_it(store):
    store.register("lab", version(image="cupola/lab:1"), {})
    store.engine.here = [Image(DIGEST, ("elsewhere/lab:1",))]
    store.remove("lab", version(image="cupola/lab:1"))
    assert [image.id for image in store.engine.here] == [DIGEST]
    assert store.versions("lab") == []


def test_only_a_named_registry_is_asked_and_only_the_same_image_taken(store):
    for image in (None, "cupola/lab:1", "lab"):
        with pytest.raises(NotFoundError, match="no registry"):
            store.fetch("lab", version(image=image))
    assert store.engine.pulled == []
    name = "registry.invalid/cupola/lab:1"
    with pytest.raises(UnavailableError):
        store.fetch("lab", version(image=name))
    store.engine.registry[name] = Image(OTHER, (name,))
    with pytest.raises(UnavailableError, match="another image"):
        store.fetch("lab", version(image=name))
    assert store.engine.here == []
    store.engine.registry[name] = Image(DIGEST, (name,))
    store.fetch("lab", version(image=name))
    assert store.engine.here[0].id == DIGEST


def test_the_mark_of_an_operator_is_kept(store):
    store.register("lab", version(), {})
    assert store.recommended("lab") is None
    store.recommend("lab", DIGEST)
    assert store.recommended("lab") == DIGEST
    store.recommend("lab", None)
    store.recommend("lab", None)
    assert store.recommended("lab") is None


def test_an_engine_that_is_not_there_is_asked_once_in_a_while(tmp_path):
    seconds = [0.0]
    engine = Engine(f"unix://{tmp_path}/none.sock", clock=lambda: seconds[0])
    store = ImageStore(tmp_path, engine)
    store.register("lab", version(), {})
    assert not store.versions("lab")[0].version.ready
    said = store.problem()
    assert "no such file" in said
    assert "docker.host" in said
    first = engine._remembered[1]
    seconds[0] = 2.0
    assert store.problem() == said
    assert engine._remembered[1] is first
    seconds[0] = 20.0
    store.problem()
    assert engine._remembered[1] is not first
