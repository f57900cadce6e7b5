"""The rendered compose file, run for real: a platform in a container that drives the engine outside, on PostgreSQL.

Its containers are of an almost empty image and see this machine's own programs, so that no minutes go into images;
``deploy/Dockerfile`` is built and run where ``CUPOLA_TEST_IMAGE`` is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import docker.errors
import pytest
import yaml

from cupola.hub.platform import Living
from cupola.models.session import SessionState
from cupola.platform.storage.docker.command import engine_environment, find_docker
from support.platform import CHECKOUT
from system.test_platform import answers, kernel_in, launch, signed_in, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SYSTEM = ("/usr", "/etc")
DATABASE = """\
set -eu
data=/var/lib/postgresql/data
setpriv() { /usr/bin/setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
chown postgres: $data /var/run/postgresql
if [ ! -s $data/PG_VERSION ]; then
  chmod 700 $data
  setpriv initdb -D $data -U "$POSTGRES_USER" -A trust -E UTF8 --no-sync
  setpriv pg_ctl -D $data -o "-c listen_addresses=''" -w start
  createdb -h /var/run/postgresql -U "$POSTGRES_USER" "$POSTGRES_DB"
  setpriv pg_ctl -D $data -m fast -w stop
fi
exec /usr/bin/setpriv --reuid postgres --regid postgres --clear-groups postgres -D $data
"""
"""What the official image of PostgreSQL does at its start, as far as Cupola takes it."""


@dataclass
class Compose:
    """A project of docker-compose."""

    folder: Path
    host: str
    more: list[str] = field(default_factory=list)
    name: str = field(default_factory=lambda: f"cuptest{secrets.token_hex(4)}")

    def __call__(self, *words: str, check: bool = True) -> str:
        command = [
            "docker-compose",
            "-p",
            self.name,
            "-f",
            str(self.folder / "compose.yaml"),
            *self.more,
            *words,
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=engine_environment(self.host),
            timeout=300,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def image(engine):
    """An image with nothing but links to what is mounted in it, and folders."""
    if not all(Path(name).is_symlink() for name in ("/bin", "/lib", "/sbin")):
        pytest.skip("the programs of this machine lie in more places than /usr")
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for name in ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "var"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        for name in ("bin", "lib", "lib64", "sbin"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(entry)
        entry = tarfile.TarInfo("var/run")
        entry.type, entry.linkname = tarfile.SYMTYPE, "../run"
        tar.addfile(entry)
    name = f"cupola-test/empty:{secrets.token_hex(4)}"
    engine.client.api.import_image_from_data(
        memory.getvalue(), repository=name.split(":")[0], tag=name.split(":")[1]
    )
    yield name
    engine.client.images.remove(name, force=True)


@pytest.fixture
def compose(new_platform, images, image, tmp_path):
    """A platform as compose runs it, not started yet, and its project."""
    if not shutil.which("docker-compose"):
        pytest.skip("docker-compose is not installed (apt-get install docker-compose)")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    images.have("lab")
    survey = tmp_path / "platform" / "survey"
    place = new_platform(
        settings=f"{images.settings}volumes:\n  - {{name: survey, title: Survey, path: {survey}}}\n"
    )
    survey.mkdir()
    (survey / "said").write_text("from the archive")
    rendered = place.folder / "compose"
    done = place.run(
        "render", "compose", "--into", str(rendered), "--image", image, "--database-image", image
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    here = {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)}
    mine = [str(folder) for folder in sorted(here) if not folder.is_relative_to("/usr")]
    seen = [f"{folder}:{folder}:ro" for folder in (*SYSTEM, *mine)]
    paths = ":".join(
        map(str, (Path(sys.executable).parent, programs[-1], "/usr/local/bin:/usr/sbin:/usr/bin"))
    )
    override = rendered / "here.yaml"
    override.write_text(
        yaml.safe_dump(
            {
                "services": {
                    "platform": {
                        "entrypoint": [str(CHECKOUT / "deploy" / "start")],
                        "command": ["cupola", "up"],
                        "environment": {"PATH": paths, "HOME": "/root", "PYTHONUNBUFFERED": "1"},
                        "volumes": seen,
                    },
                    "database": {
                        "entrypoint": ["/bin/bash", "-c", DATABASE.replace("$", "$$")],
                        "environment": {"PATH": paths},
                        "volumes": seen,
                    },
                }
            }
        )
    )
    project = Compose(rendered, images.engine.host, ["-f", str(override)])
    with shared_with_containers(place.folder):
        try:
            yield place, project
        finally:
            sys.stdout.write(
                project("logs", "--no-color", "--timestamps", check=False)[-6000:]
            )  # shown where the test fails
            project("down", "--volumes", check=False)
            place.clean()


@contextlib.contextmanager
def shared_with_containers(folder):
    """Make a folder what every folder is where systemd runs."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "--make-private", str(folder)], check=True)
        subprocess.run(["mount", "--make-shared", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.asyncio
async def test_a_platform_in_a_container_keeps_sessions_and_tables(compose):
    place, project = compose

    async def started():
        # Waiting itself is the test's: compose says only that the container runs.
        await asyncio.to_thread(project, "up", "-d")
        await until(
            lambda: (living := Living.find(place.paths)) and living.ready, "the platform answers", 300
        )

    await started()
    assert not (place.paths.hub / "jupyterhub.sqlite").exists()
    async with signed_in(place) as (visitor, client):
        session = await launch(client)
        async with kernel_in(visitor, session) as kernel:
            said = await kernel.run(
                "from pathlib import Path; import os\n"
                "Path('kept').write_text('mine'); print(os.getuid(), next(Path('volumes/survey').rglob('said')).read_text())"
            )
            assert said.text == "20000 from the archive\n"
        assert (place.paths.home("ada") / "kept").read_text() == "mine"
        # What an administrator does for an upgrade.
        await asyncio.to_thread(project, "kill", "platform")
        assert [session.id] == [found.labels["cupola.session"] for found in containers(project, place)]
        await started()
        await until(lambda: answers(visitor, session), "the session answers")
        assert (await client.session(session.id)).state is SessionState.READY
        # And to end all of it, and the next day.
        await asyncio.to_thread(project, "down")
        assert not containers(project, place)
        assert not place.processes()
        await started()
        assert (await client.session(session.id)).state is not SessionState.READY
        assert (place.paths.home("ada") / "kept").read_text() == "mine"


def containers(project, place):
    """Return the containers of the platform's sessions."""
    with contextlib.closing(docker.DockerClient(base_url=project.host)) as client:
        return client.containers.list(filters={"label": f"cupola.platform={place.paths.key}"})


@pytest.mark.skipif(
    not os.environ.get("CUPOLA_TEST_IMAGE"), reason="it takes minutes: set CUPOLA_TEST_IMAGE=1"
)
def test_the_image_of_the_platform_has_what_it_takes(images):
    name = f"cupola-test/platform:{secrets.token_hex(4)}"
    command = [
        find_docker(images.engine.host),
        "build",
        "--network=host",
        "-f",
        "deploy/Dockerfile",
        "-t",
        name,
    ]
    command += [
        "--secret=id=ca,src=/etc/ssl/certs/ca-certificates.crt",
        "--build-arg",
        f"BASE={images.base}",
        ".",
    ]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=engine_environment(images.engine.host))
    try:
        said = images.engine.client.containers.run(
            name,
            [
                "sh",
                "-c",
                "cupola --version && iptables --version && docker --version && fusermount3 --version",
            ],
            entrypoint=[],
            remove=True,
        )
        assert said.decode().startswith("cupola ")
    finally:
        images.engine.client.images.remove(name, force=True)
