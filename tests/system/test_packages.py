"""Packages in a real session: installed in a terminal's way, there after a relaunch, told and restored on another version."""

from __future__ import annotations

import json

import pytest

from cupola.models.session import SessionState
from cupola.monitor.visitor import Visitor
from support.platform import OWNER
from support.wheels import make_wheel

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), pytest.mark.asyncio]


async def test_packages_survive_and_are_offered_on_another_version(new_platform, tmp_path):
    wheels = tmp_path / "wheels"
    for name in ("asteroids", "comets"):
        make_wheel(wheels, name, "1.0", "here = True\n")
    platform = new_platform()
    platform.start()
    home = platform.paths.home(OWNER)
    async with Visitor(platform.address) as visitor:
        await visitor.sign_in(platform.link())
        session = await visitor.wait_for(await visitor.press_play("lab"), SessionState.READY)
        kernel = await visitor.open_kernel(session)
        offline = f"--no-index --find-links {wheels} -q --disable-pip-version-check"
        # As `%pip install` does it: with the kernel's interpreter, past our own wrapper.
        await kernel.run(
            f"import subprocess; subprocess.check_call(['pip', *'install {offline} asteroids'.split()])"
        )
        lock = home / ".cupola" / "packages" / f"{session.version[7:19]}.json"
        assert [p["name"] for p in json.loads(lock.read_text())["packages"]] == ["asteroids"]
        assert (await kernel.run("import cupola; print(cupola.packages()[0].version)")).text == "1.0\n"

        # There in another session on this version, and not in a clean one.
        second = await visitor.wait_for(await visitor.press_play("lab"), SessionState.READY)
        other = await visitor.open_kernel(second)
        assert (await other.run("import asteroids; print(asteroids.here)")).text == "True\n"

        # As after a change of version: the lock is another one's, and its packages are not here.
        told = json.loads(lock.read_text())
        told |= {"digest": "sha256:" + "0" * 64, "label": "2025.01"}
        told["packages"] += [{"name": "comets", "version": "1.0", "source": None, "requested": True}]
        told["packages"] += [{"name": "no-such-thing", "version": "1.0", "source": None, "requested": True}]
        (lock.parent / "000000000000.json").write_text(json.dumps(told))
        lock.unlink()
        hint = await visitor.get("/services/cupola/api/me/packages?datalab=lab")
        assert hint.json()["elsewhere"] == 3
        assert "2025.01" in hint.json()["sentence"]
        verb = "import subprocess, os, sys; os.environ.update(PIP_NO_INDEX='1', PIP_FIND_LINKS={wheels!r})\n"
        code = (
            verb.format(wheels=str(wheels))
            + "print(subprocess.check_output(['cupola', 'packages', '{}'], text=True))"
        )
        plan = (await other.run(code.format("plan"))).text
        assert "can be installed again as they were: comets 1.0" in plan
        assert "already here: asteroids 1.0" in plan
        assert "cannot be installed here: no-such-thing 1.0" in plan
        await other.run(code.format("restore"))
        assert (await other.run("import comets; print(comets.here)")).text == "True\n"
        # What the Lab asks for by itself.
        storage = await visitor.get(f"/user/{OWNER}/{second.id}/cupola/api/storage")
        assert storage.json()["word"].startswith("Home: ")
        packages = await visitor.get(f"/user/{OWNER}/{second.id}/cupola/api/packages")
        assert packages.json()["state"] in {"looking", "settled", "planned"}
        entry = await visitor.get(f"/user/{OWNER}/{second.id}/lab/extensions/cupola-notices/static/main.js")
        assert "cupola-notices" in entry.text
