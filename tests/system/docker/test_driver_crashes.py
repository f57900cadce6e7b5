"""Sessions in containers live through the death of every part of the platform, and of the engine's daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.docker import why_no_engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]

KILL = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.containers import grounds_in
from support.docker import Engine

async def main(folder):
    engine = Engine.start(folder / "engine")
    try:
        with grounds_in(folder / "grounds", engine) as grounds:
            session = await grounds.session("lives").start()
            pid = session.driver.known.pid
            engine.kill_daemon()
            meanwhile = await session.driver.ended()
            unnoted = session.another_driver()
            unnoted.load(session.driver.state())
            unknown = await unnoted.ended()
            alive = session.driver.known.alive
            engine.start_daemon()
            after = await session.driver.ended()
            found = session.another_driver()
            found.load({{}})
            await found.ended()
            grounds.firewall.apply()
            told = {{
                "ended while it was away": meanwhile is not None,
                "ended for a new hub": unknown is not None,
                "alive": alive,
                "ended after": after is not None,
                "same": found.known.pid == pid,
                "answers": await session.ask("api"),
                "door": await session.reaches(grounds.network.gateway, grounds.network.door),
                "intact": grounds.firewall.intact(),
                "cause": (await session.driver.stop()).cause,
            }}
            print(json.dumps(told))
    finally:
        engine.stop()

asyncio.run(main(Path({folder!r})))
"""


def test_a_killed_dockerd_takes_no_session_with_it(tmp_path):
    """In a network namespace of its own: a second daemon would take the rules of another one on this machine away."""
    if os.geteuid() != 0 or (not shutil.which("dockerd") and why_no_engine()):
        pytest.skip("dockerd is started by root only, and must be installed (apt-get install docker.io)")
    script = tmp_path / "kill.py"
    script.write_text(KILL.format(tests=str(ROOT / "tests"), folder=str(tmp_path)))
    command = ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {sys.executable} {script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "ended while it was away": False,
        "ended for a new hub": False,
        "alive": True,
        "ended after": False,
        "same": True,
        "answers": "{}",
        "door": "open",
        "intact": True,
        "cause": "asked",
    }
