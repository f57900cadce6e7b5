"""A session in a container starts jobs on HTCondor: its tasks find what the session has."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

from cupola.models.containers import SESSION_LABEL
from support.docker_universe import account, settings_of_nodes
from support.labs import labs
from support.platform import Platform
from support.pools import htcondor
from support.relay import relay

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(900)]
PATIENCE = 180

LOOK = """
import cupola

def look(name):
    import os, sys, time
    from pathlib import Path

    home = Path.home()
    home.joinpath(f"here-{name}").touch()
    while not home.joinpath("seen").exists():
        time.sleep(0.1)
    volume = home / "volumes" / "kernels"
    return {
        "numbers": (os.getuid(), os.getgid()),
        "python": os.path.realpath(sys.prefix),
        "version": os.environ["CUPOLA_VERSION"],
        "volume": os.path.realpath(volume),
        "text": (volume / name).read_text(),
        "volumes": [name for name in ("kernels", "secret") if os.path.exists(f"/volumes/{name}")],
        "environment": dict(os.environ),
    }

job = cupola.map(look, ["one.tls", "two.bsp"], memory="512 MiB", engine="htcondor")
"""


@pytest.fixture
def person():
    return f"cup{secrets.token_hex(3)}"


@pytest.fixture
def folder():
    """A folder that everybody may go through, as an owner's tasks must on their way home."""
    made = Path(tempfile.mkdtemp(prefix="cup-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def place(folder, engine, images, person):
    """A platform whose sessions are containers, with a pool."""
    images.have("lab")
    archive = folder / "archive"
    archive.mkdir()
    for name in ("one.tls", "two.bsp"):
        (archive / name).write_text(f"kernel {name}")
    made = Platform(folder / "platform")
    made.engine = engine
    before = made.config_file.read_text()
    try:
        with relay(folder / "d.sock", engine.host.removeprefix("unix://")) as address:
            # Of two volumes the nodes have one that is not the session's.
            volumes = {"HOMES": f"{folder}/homes:/home"}
            volumes |= {name.upper(): f"{archive}:/volumes/{name}/data:ro" for name in ("kernels", "secret")}
            lines = settings_of_nodes(folder, address, volumes)
            with htcondor(MODE="root", TOKEN_USERS=person, EXTRA_CONFIG=lines) as pool:
                token = folder / "tokens" / person / "token"
                token.parent.mkdir(parents=True)
                shutil.copy(pool.folder / "clients" / person / "tokens.d" / person, token)
                made.config_file.write_text(
                    f"{before}  homes: {folder}/homes\n{images.settings}"
                    f"volumes:\n  - {{name: kernels, title: SPICE kernels, path: {archive}}}\n"
                    f"engines:\n"
                    f"  htcondor: {{config: {pool.folder}/client_config, universe: docker, tokens: {folder}/tokens}}\n"
                )
                made.start()
                yield made
                made.stop()
    finally:
        made.clean()


async def until(condition, what):
    async with asyncio.timeout(PATIENCE):
        while not (found := condition()):  # noqa: ASYNC110 - the engine and the file system tell nobody
            await asyncio.sleep(0.2)
    assert found, what
    return found


def tasks_of(place, home):
    """Return the containers that HTCondor has made on this machine for tasks with these homes."""
    found = []
    for one in place.engine.client.containers.list(sparse=True):
        one.reload()
        if one.name.startswith("HTCJob") and any(
            mount.get("Source") == str(home.parent) for mount in one.attrs["Mounts"]
        ):
            found.append(one)
    return found


def hidden(place, folder, session):
    """Return what no task may find: the session's own token, the platform's secrets, the pool's token."""
    files = [file for file in place.paths.secrets.rglob("*") if file.is_file()]
    files += (folder / "tokens").glob("*/token")
    words = {file.read_bytes().decode(errors="replace").strip() for file in files}
    assert len(words) > 1
    return words | {session["JUPYTERHUB_API_TOKEN"]}


async def test_tasks_on_htcondor_find_what_their_session_in_a_container_has(place, person, folder):
    home = folder / "homes" / person
    async with labs(place, person) as ((_, session, kernel),):
        with account(person, home):
            await kernel.run(LOOK)
            await until(lambda: len(list(home.glob("here-*"))) == 2, "the tasks begin")
            tasks = tasks_of(place, home)
            (home / "seen").touch()
            found = await kernel.value("list(job.results())", seconds=PATIENCE)
            here = await kernel.value("[look(name) for name in ('one.tls', 'two.bsp')]")
        (around,) = place.engine.client.containers.list(filters={"label": f"{SESSION_LABEL}={session.id}"})
    assert len(tasks) == 2
    assert {one.attrs["Image"] for one in tasks} == {around.attrs["Image"]} == {session.version}
    assert [one["text"] for one in found] == ["kernel one.tls", "kernel two.bsp"]
    assert found[0]["volumes"] == ["kernels"]
    secret = hidden(place, folder, here[0]["environment"])
    for inside, outside in zip(found, here, strict=True):
        environment = str(inside.pop("environment"))
        del outside["environment"]
        assert inside == outside
        assert not [word for word in secret if word in environment]
    for one in tasks:
        told = str(one.attrs["Config"])
        assert not [word for word in secret if word in told]
