"""Images of datalabs, built for real by a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time

import docker.errors
import pytest

from cupola.config import Config
from cupola.exceptions import NotFoundError, StartError, UnavailableError
from cupola.models.datalab import DatalabKind
from cupola.platform.services.datalabs.builds import BuildService
from cupola.platform.services.datalabs.catalogue import CatalogueService
from cupola.platform.storage.docker.building import command_inside, image_builder
from cupola.platform.storage.docker.engine import Engine
from cupola.platform.storage.docker.host import debian_sources
from cupola.platform.storage.docker.images import PYTHON, ImageStore
from cupola.platform.storage.environments import BuiltVersion
from cupola.platform.storage.files.datalabs import DatalabFolder

pytestmark = pytest.mark.system

DOCKERFILE = """\
ARG BASE=cupola/base
FROM ${{BASE}}
RUN echo {text} > /said && sleep {seconds}
"""
DATALAB = "title: Probe\nsummary: A program of the tests.\nkind: web\ncommand: [sleep, '{port}']\nchangelog: Newer.\n"
VERIFY = """\
#!/bin/sh -e
test "$(cat /said)" = {text}
! touch /said 2> /dev/null
touch "$HOME/mine" /tmp/mine
grep -q "^CapEff:.*0000000000000000$" /proc/self/status
id -un | grep -qx verify
"""


class Place:
    """A platform's state with one datalab of its own."""

    def __init__(self, folder, images):
        self.folder, self.name = folder, f"probe-{os.urandom(4).hex()}"
        self.source = folder / self.name
        self.source.mkdir()
        (self.source / "datalab.yaml").write_text(DATALAB)
        self.config_file = folder / "cupola.yaml"
        self.config_file.write_text(f"state: state\n{images.settings}datalabs: [{self.name}]\n")
        self.config = Config.model_validate(
            {
                "state": str(folder / "state"),
                "compute": "docker",
                "docker": {"host": images.engine.host, "base": images.base},
                "datalabs": [str(self.source)],
            }
        )
        self.engine = images.engine
        self.told: list[str] = []
        self.write("one")

    def write(self, text, *, seconds=0, checked=None):
        (self.source / "Dockerfile").write_text(DOCKERFILE.format(text=text, seconds=seconds))
        (self.source / "verify").write_text(VERIFY.format(text=checked or text))

    @property
    def store(self):
        return ImageStore(self.config.paths.images, Engine(self.config.docker.host))

    def build(self, **options):
        self.told.clear()
        return image_builder(self.config).build(self.name, self.told.append, **options).version

    def catalogue(self):
        return CatalogueService(
            folder=DatalabFolder.of(self.config), versions=self.store, compute=self.config.compute
        )

    def command(self, *words):
        command = [sys.executable, "-m", "cupola.cli", "build", *words, "--config", str(self.config_file)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def images(self):
        return self.engine.client.images.list(filters={"label": f"cupola.datalab={self.name}"})

    def clean(self):
        for image in self.engine.client.images.list(
            all=True, filters={"label": f"cupola.datalab={self.name}"}
        ):
            with contextlib.suppress(docker.errors.APIError):
                self.engine.client.images.remove(image.id, force=True)


@pytest.fixture
def place(tmp_path, images):
    one = Place(tmp_path, images)
    yield one
    one.clean()


def test_the_lab_is_checked_and_says_what_it_holds(images):
    version = images.have("lab")
    assert version.verified
    assert version.ready
    assert version.image.startswith("cupola/lab:2")
    papers = images.builder.store.place("lab", version.digest)
    listed = json.loads((papers / "sbom.json").read_text())
    names = {package["name"] for package in listed["packages"]}
    assert {"rasterio", "jupyterlab", "cupola", "tini", "spiceypy", "kalasiris"} <= names
    assert "exit code 0" in (papers / "build.log").read_text()


def test_nothing_of_the_building_machine_is_in_the_lab(images):
    version = images.have("lab")
    history = json.dumps(images.engine.client.api.history(version.digest))
    settings = json.dumps(images.engine.client.api.inspect_image(version.digest)["Config"])
    for secret in ("BEGIN CERTIFICATE", "INDEX_URL", "_proxy", "SSL_CERT_FILE"):
        assert secret not in history
        assert secret not in settings
    said = inside(
        images.engine, version.digest, "cat /etc/apt/sources.list; ls -A /dev/shm /run/secrets; which gcc uv"
    )
    assert "host" not in said
    assert "deb " not in said or not debian_sources(), "the sources of this machine stay here"
    assert "/gcc" not in said
    assert "/uv" not in said


def inside(engine, image, line):
    """Run a line of a shell in an image, without any limits."""
    container = engine.client.containers.create(image, ["sh", "-c", line], network_mode="none")
    try:
        container.start()
        container.wait()
        return container.logs().decode()
    finally:
        container.remove(force=True)


def test_samples_can_be_made_inside_the_lab(images, tmp_path):
    built = BuiltVersion(images.have("lab"), PYTHON)
    code = "import os, rasterio; open('made', 'w').write(str(os.getuid()))"
    config = Config.model_validate({"docker": {"host": images.engine.host}})
    command = command_inside(config, built, [str(built.python), "-P", "-c", code], folder=tmp_path)
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "made").read_text() == str(os.getuid())
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_an_own_datalab_is_built_once_and_checked(place):
    version = place.build()
    assert version.verified
    assert version.label == time.strftime("%Y.%m.%d", time.gmtime())
    assert version.image == f"cupola/{place.name}:{version.label}"
    assert version.changelog == "Newer."
    assert version.size_bytes > 0
    assert any("its check passed" in line for line in place.told)
    again = place.build()
    assert again == version
    assert place.told == []
    (built,) = place.store.versions(place.name)
    assert built.version == version
    papers = place.store.place(place.name, version.digest)
    assert {file.name for file in papers.iterdir()} == {"version.json", "sbom.json", "build.log"}
    # What the image is not made of changes nothing.
    (place.source / "datalab.yaml").write_text(DATALAB.replace("Probe", "Another"))
    assert place.build() == version


def test_versions_are_offered_recommended_and_pruned(place):
    first = place.build()
    place.write("two")
    second = place.build()
    assert second.label == f"{first.label}-2"
    datalab = asyncio.run(place.catalogue().datalab(place.name))
    assert datalab.kind is DatalabKind.WEB
    assert datalab.unavailable is None
    assert [version.digest for version in datalab.versions] == [second.digest, first.digest]
    assert datalab.recommended == second.digest
    builds = BuildService(catalogue=place.catalogue(), versions=place.store)
    assert asyncio.run(builds.recommend(place.name, first.label)) == first
    assert asyncio.run(place.catalogue().datalab(place.name)).recommended == first.digest
    with pytest.raises(NotFoundError, match="it has"):
        asyncio.run(builds.recommend(place.name, "2001.01.01"))
    # The recommended one and the newest stay; without the mark only a use keeps the older one.
    assert fates(builds, place, []) == ["one of the newest", "recommended"]
    asyncio.run(builds.recommend(place.name, "newest"))
    assert fates(builds, place, [first.digest]) == [
        "recommended",
        "a session or a job was made with it",
    ]
    assert len(place.images()) == 2
    assert fates(builds, place, []) == ["recommended", None]
    assert [image.id for image in place.images()] == [second.digest]
    assert [built.version.digest for built in place.store.versions(place.name)] == [second.digest]


def fates(builds, place, used):
    kept = asyncio.run(builds.prune(used, keep=1))
    return [one.why for one in kept if one.datalab == place.name]


def test_an_image_that_is_gone_is_said_and_made_again(place):
    version = place.build()
    place.engine.client.images.remove(version.digest, force=True)
    (built,) = place.store.versions(place.name)
    assert not built.version.ready
    datalab = asyncio.run(place.catalogue().datalab(place.name))
    assert f"cupola build {place.name}" in datalab.unavailable
    # No registry has it, so nothing is asked for: anybody could have taken the name on a public one.
    with pytest.raises(NotFoundError, match="no registry"):
        place.store.fetch(place.name, version)
    again = place.build()
    assert again.ready
    assert place.engine.client.images.get(again.image).id == again.digest
    assert asyncio.run(place.catalogue().datalab(place.name)).unavailable is None


def test_what_fails_its_check_is_no_version(place):
    place.write("one", checked="two")
    with pytest.raises(StartError, match="check fails") as refused:
        place.build()
    assert "\n" not in str(refused.value)
    assert place.store.versions(place.name) == []
    unchecked = place.build(check=False)
    assert not unchecked.verified
    place.write("one")
    mended = place.build()
    assert mended.verified
    assert mended.digest == unchecked.digest
    assert not [line for line in place.told if line.startswith("building")]


def test_a_build_that_fails_says_the_reason(place):
    (place.source / "Dockerfile").write_text(
        "ARG BASE=cupola/base\nFROM ${BASE}\nRUN echo it is broken >&2 && false\n"
    )
    with pytest.raises(StartError, match="it is broken") as failed:
        place.build()
    assert "\n" not in str(failed.value)
    assert place.images() == []


def test_a_full_disk_is_said(place):
    (place.source / "Dockerfile").write_text(
        "ARG BASE=cupola/base\nFROM ${BASE}\n"
        "RUN --mount=type=tmpfs,target=/full dd if=/dev/zero of=/dev/full bs=1 count=1\n"
    )
    with pytest.raises(StartError, match="disk of the Docker engine is full"):
        place.build()


def test_recipes_that_stand_on_each_other_are_refused(place):
    (place.source / "Dockerfile").write_text(f"ARG BASE=cupola/{place.name}\nFROM ${{BASE}}\n")
    with pytest.raises(StartError, match="stand on each other"):
        place.build()
    (place.source / "Dockerfile").write_text("ARG BASE=cupola/no-such\nFROM ${BASE}\n")
    with pytest.raises(NotFoundError, match="no-such"):
        place.build()


def test_a_killed_build_leaves_nothing_half_done(place):
    place.write("one", seconds=6)
    killed = place.command(place.name)
    for line in killed.stdout:
        if "sleep 6" in line:
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert place.store.versions(place.name) == []
    assert not place.store.building(place.name)
    place.write("one")
    assert place.build().verified
    assert [file.name for file in place.config.paths.images.glob(".work-*")] == []


def test_a_check_that_was_killed_is_made_up_for(place):
    (place.source / "verify").write_text("#!/bin/sh\nsleep 600\n")
    killed = place.command(place.name)
    for line in killed.stdout:
        if "checking it" in line:
            break
    until = time.monotonic() + 60
    while not checks(place) and time.monotonic() < until:
        time.sleep(0.1)
    assert checks(place)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert place.store.versions(place.name) == []
    place.write("one")
    version = place.build()
    assert version.verified
    assert not [line for line in place.told if line.startswith("building")], "the engine had the image"
    assert not checks(place), "what the killed build left running is gone"


def checks(place):
    """Return the containers that check images of this place."""
    listed = place.engine.client.containers.list(all=True, filters={"label": "cupola.build"})
    return [one for one in listed if one.labels.get("cupola.datalab") == place.name]


def test_of_two_at_once_the_second_waits(place):
    place.write("one", seconds=3)
    told, versions = [], []

    def build():
        versions.append(image_builder(place.config).build(place.name, told.append).version)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions[0] == versions[1]
    assert told.count(f"building {place.name}") == 1
    assert "waiting for another build" in told


def test_a_stop_ends_the_check_too(place):
    (place.source / "verify").write_text("#!/bin/sh\nsleep 600\n")
    stopped = place.command(place.name)
    for line in stopped.stdout:
        if "checking it" in line:
            break
    until = time.monotonic() + 60
    while not checks(place) and time.monotonic() < until:
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate()
    assert stopped.returncode == 130
    assert not checks(place)


def test_settings_of_the_machine_reach_a_build_and_end_in_no_layer(place, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://user:word-of-the-index@packages.invalid/simple")
    monkeypatch.setenv("http_proxy", "")
    (place.source / "Dockerfile").write_text(
        "ARG BASE=cupola/base\nFROM ${BASE}\n"
        "RUN --mount=type=secret,id=host . /etc/cupola/host"
        ' && echo "$UV_DEFAULT_INDEX" | grep -q ^https://user: && test -r "$SSL_CERT_FILE" && test -r "$APT_CONFIG"'
        " && echo one > /said\n"
    )
    version = place.build()
    stream = io.BytesIO(b"".join(place.engine.client.images.get(version.digest).save()))
    seen = 0
    with tarfile.open(fileobj=stream) as image:
        for entry in image:
            if entry.isfile():
                seen += 1
                assert b"word-of-the-index" not in image.extractfile(entry).read()
    assert seen > 2
    log = place.store.place(place.name, version.digest) / "build.log"
    assert "word-of-the-index@" not in log.read_text()


def test_no_engine_is_said_in_one_sentence(place, tmp_path):
    settings = place.config.docker.model_copy(update={"host": f"unix://{tmp_path}/none.sock"})
    place.config = place.config.model_copy(update={"docker": settings})
    with pytest.raises(UnavailableError, match=r"docker\.host") as refused:
        place.build()
    assert "\n" not in str(refused.value)
    assert place.store.versions(place.name) == []
    assert "docker.host" in place.store.problem()


def test_the_command_lists_and_tells_machines(place):
    made = place.command(place.name, "--json")
    said, _ = made.communicate()
    assert made.returncode == 0, said
    answer = json.loads(said.splitlines()[-1])
    assert answer["built"][place.name]["verified"]
    listed, _ = place.command("--list").communicate()
    lines = [line for line in listed.splitlines() if line.startswith("  20") and "recommended" in line]
    assert any(answer["built"][place.name]["digest"][7:19] in line for line in lines)
    wrong = place.command("no-such")
    said, _ = wrong.communicate()
    assert wrong.returncode == 1
    assert "no-such" in said.splitlines()[-1]
