"""Row 24 of the matrix: what somebody put into their own home changes nothing of how their sessions start."""

from __future__ import annotations

import contextlib
import json
import os

import httpx
import pytest
from docker.errors import ContainerError

from cupola.models.session import SessionState
from support.labs import ENVIRON, PYTHON, unguarded, until_ended
from support.people import people

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(600)]

SPRUNG = "import os, sys; open('{home}/sprung', 'a').write('{trap} ' + ' '.join(sys.argv)[:80] + chr(10))\n"
"""A trap writes its name down; most of them then break whatever stepped into it."""
PACKAGES = ".local/lib/python3.11/site-packages"
CONFIG = ".jupyter/jupyter_{}config"
TRAPS = {
    "settings": [CONFIG.format(name) + ".py" for name in ("", "server_", "lab_", "notebook_")]
    + [".jupyter/jupyterhub_singleuser_config.py", ".local/etc/jupyter/jupyter_server_config.py"],
    "shadow": [
        f"{folder}{name}.py"
        for folder in ("", f"{PACKAGES}/")
        for name in (
            "jupyterhub",
            "jupyter_server",
            "cupola",
            "tornado",
            "sitecustomize",
            "usercustomize",
            "json",
        )
    ],
    "path": [
        f"{folder}/{name}"
        for folder in ("bin", ".local/bin")
        for name in ("python", "python3", "jupyter", "jupyterhub-singleuser", "sh", "bash", "git", "node")
    ],
    "shell": [".profile", ".bash_profile", ".bashrc", ".bash_login", ".pythonrc.py"],
}
EXTENSION = {"ServerApp": {"jpserver_extensions": {"trap": True}, "allow_unauthenticated_access": True}}


def set_traps(place, name):
    """Fill the home of `name` with all that a careless start would run or believe, as they could do themselves."""
    home = place.paths.home(name)
    inside, owner = f"/home/{name}", home.stat()
    written = {}
    for trap, paths in TRAPS.items():
        python = SPRUNG.format(home=inside, trap=trap)
        shell = f"#!/bin/sh\necho {trap} $0 >> {inside}/sprung\nexit 1\n"
        for path in paths:
            code = python + "raise SystemExit('a trap')\n"
            written[path] = code if path.endswith(".py") else shell
    written["trap.py"] = written[f"{PACKAGES}/trap.py"] = SPRUNG.format(home=inside, trap="extension")
    written[f"{PACKAGES}/trap.pth"] = SPRUNG.format(home=inside, trap="pth")
    for folder in (".jupyter", ".local/etc/jupyter"):
        written[f"{folder}/jupyter_server_config.d/trap.json"] = json.dumps(EXTENSION)
    for path, content in written.items():
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
        for each in (file, *file.relative_to(home).parents):
            if each != home:
                os.chown(home / each, owner.st_uid, owner.st_gid)
    return home / "sprung"


CARELESS = [
    ["/bin/bash", "-lc", "true"],
    ["/bin/sh", "-c", "PATH=$HOME/bin:$PATH; python -c 1"],
    [PYTHON, "-m", "jupyterhub.singleuser"],
    [PYTHON, "-P", "-m", "jupyter_server", "--allow-root", "--show-config"],
]
"""Starts that run what lies in a home: a shell of the person's, their PATH, their working folder, their settings."""


def careless(place, session, home):
    """Return which traps such starts step into."""
    binds = {str(home): {"bind": "/home/eve", "mode": "rw"}}
    where = {"user": "0", "volumes": binds, "working_dir": "/home/eve", "environment": {"HOME": "/home/eve"}}
    sprung = home / "sprung"
    sprung.write_text("")
    for start in CARELESS:
        with contextlib.suppress(ContainerError):
            unguarded(place, session, *start, **where)
    return {line.split()[0] for line in sprung.read_text().splitlines()}


async def strangers_inside(place, guest, session):
    """Return who gets into a session's server that is not theirs: somebody who is signed in, and nobody at all."""
    path = "api/contents"
    known = await guest.in_session(json.loads(session.model_dump_json()), "GET", path)
    async with httpx.AsyncClient(base_url=place.address, trust_env=False) as http:
        nobody = await http.get(session.url.partition(session.id)[0] + f"{session.id}/{path}")
    answers = {guest.name: known, "nobody": nobody}
    return [f"{name} came in" for name, each in answers.items() if each.is_success and '"path"' in each.text]


async def have_home(place, guest):
    """Let somebody have a home, by a first session where no earlier test had one."""
    if not place.paths.home(guest.name).exists():
        session = await guest.visitor.press_play("lab")
        await guest.visitor.wait_for(session, SessionState.READY, seconds=300)
        await guest.call("POST", f"/sessions/{session}/stop")
        await until_ended(guest, session)


@pytest.mark.row(24)
async def test_a_home_full_of_traps_does_not_change_the_start_of_its_server(together, matrix):
    """Neither does it run in the server of a session, nor does it open the server's door."""
    async with people(together, "ada", "eve") as [ada, eve]:
        await have_home(together, eve)
        sprung = set_traps(together, "eve")
        pressed = await eve.visitor.press_play("lab")
        session = await eve.visitor.wait_for(pressed, SessionState.READY, seconds=300)
        found = sprung.read_text().splitlines() if sprung.exists() else []
        found += await strangers_inside(together, ada, session)
        kernel = await eve.visitor.open_kernel(session)
        assert (await kernel.value(ENVIRON))["HOME"] == "/home/eve", "its owner works in it all the same"
        red = careless(together, session, sprung.parent)
        await eve.call("POST", f"/sessions/{session.id}/stop")
        await until_ended(eve, session.id)
    assert not found, found
    assert red >= {"settings", "shadow", "path", "shell"}, red
    number = sum(map(len, TRAPS.values()))
    matrix(f"traps sprung of {number} in a home", len(found), limit=0, seen_red=bool(red))
