from __future__ import annotations

from pathlib import Path

import pytest

from cupola.config import StatePaths
from cupola.models.datalab import Datalab
from cupola.models.volume import Access, Mount
from cupola.platform.builders.session import session_plan

LAB = Datalab(name="lab", title="Cupola Lab", summary="JupyterLab", ready_path="/lab")
HOME = Path("/state/homes/maria")
MOUNTS = [
    Mount(volume="home", source=HOME, target=HOME, access=Access.WRITE),
    Mount(volume="mars", source=Path("/data/mars"), target=HOME / "volumes/mars", access=Access.READ),
]


@pytest.mark.parametrize("clean", [False, True])
def test_the_plan_of_a_session(golden, clean):
    plan = session_plan(
        session="lab-7k2m9xq4",
        owner="maria",
        datalab=LAB,
        digest="sha256:" + "ab" * 32,
        python=Path("/state/environments/lab/abababababab/bin/python"),
        mounts=MOUNTS,
        clean=clean,
        variables={"GDAL_CACHEMAX": "512", "CUPOLA_SESSION": "another"},
        paths=StatePaths(state=Path("/state")),
        api_url="http://127.0.0.1:8001/services/cupola/api",
    )
    golden("session-clean" if clean else "session", plan.model_dump(mode="json"))


def test_a_platform_without_guardians_says_so_in_the_plan_alone():
    def plan(**more):
        return session_plan(
            session="lab-7k2m9xq4",
            owner="maria",
            datalab=LAB,
            digest="sha256:" + "ab" * 32,
            python=Path("/python"),
            mounts=MOUNTS,
            clean=False,
            variables={"CUPOLA_GUARDIAN": "1"},
            paths=StatePaths(state=Path("/state")),
            api_url="http://127.0.0.1:8001/services/cupola/api",
            **more,
        )

    assert plan(guardian=False).environment["CUPOLA_GUARDIAN"] == "0"
    assert plan().environment["CUPOLA_GUARDIAN"] == "1"
