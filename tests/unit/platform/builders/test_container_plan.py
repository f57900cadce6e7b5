from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cupola.config import DockerSettings, StatePaths
from cupola.models.containers import Account, SessionNetwork
from cupola.models.datalab import Datalab, DatalabKind
from cupola.models.resources import Resources
from cupola.models.session import Session, SessionState
from cupola.models.volume import Access, Volume, VolumeKind
from cupola.platform.builders.session import container_plan

PATHS = StatePaths(state=Path("/state"))
LAB = Datalab(
    name="lab", title="Lab", summary="JupyterLab", ready_path="/lab", environment={"A": "lab", "B": "lab"}
)
TOPCAT = Datalab(
    name="topcat",
    title="TOPCAT",
    summary="Tables",
    kind=DatalabKind.WEB,
    command=["start-desktop", "--port", "{port}"],
    port=9000,
)
NETWORK = SessionNetwork(
    key="0a1b2c3d",
    host="unix:///run/docker.sock",
    name="cupola-0a1b2c3d",
    bridge="cup-0a1b2c3d",
    gateway="192.0.2.1",
    subnet="192.0.2.0/24",
    door=4711,
)
HOME = Volume(
    name="home", title="Home", kind=VolumeKind.HOME, source="/state/homes/maria", access=Access.WRITE
)
MARS = Volume(name="mars", title="Mars", kind=VolumeKind.ARCHIVE, source="/data/mars")
BUCKET = Volume(
    name="bucket",
    title="Bucket",
    kind=VolumeKind.CUSTOM,
    source="/state/mounts/bucket/data",
    unavailable="it is gone",
)
GONE = Volume(
    name="gone", title="Gone", kind=VolumeKind.ARCHIVE, source="/data/gone", unavailable="it is gone"
)
TEAM = Volume(
    name="mappers", title="Mappers", kind=VolumeKind.TEAM, source="/state/teams/mappers", access=Access.WRITE
)


def plan_of(
    datalab=LAB, *, network=NETWORK, volumes=(HOME, MARS, BUCKET, GONE, TEAM), shared=True, **session
):
    return container_plan(
        session=Session(
            id="lab-7k2m9xq4",
            owner="maria",
            datalab=datalab.name,
            version="sha256:" + "ab" * 32,
            title="Lab",
            state=SessionState.REQUESTED,
            created=datetime(2026, 11, 21, tzinfo=UTC),
            **session,
        ),
        resources=Resources(cores=1.5, memory_mib=2048),
        datalab=datalab,
        python=Path("/opt/cupola/bin/python"),
        volumes=volumes,
        account=Account(user=20003, group=20003, groups={"mappers": 20004}),
        paths=PATHS,
        network=network,
        settings=DockerSettings(),
        shared=shared,
    )


@pytest.mark.parametrize("kind", ["container", "container-clean", "container-web", "container-internal"])
def test_the_plan_of_a_container(golden, kind):
    plans = {
        "container": plan_of(),
        "container-clean": plan_of(clean=True, volumes=(HOME,)),
        "container-web": plan_of(TOPCAT, volumes=(HOME, MARS)),
        "container-internal": plan_of(network=NETWORK.model_copy(update={"internal": True}), volumes=(HOME,)),
    }
    golden(kind, plans[kind].model_dump(mode="json"))


def test_the_owners_variables_win_over_the_datalabs_and_lose_to_the_platforms():
    environment = plan_of(
        environment={"B": "mine", "CUPOLA_SESSION": "another", "OMP_NUM_THREADS": "1"}
    ).environment
    assert environment["A"] == "lab"
    assert environment["B"] == "mine"
    assert environment["CUPOLA_SESSION"] == "lab-7k2m9xq4"
    assert environment["OMP_NUM_THREADS"] == "1"


def test_only_what_is_mounted_later_may_be_out_of_reach():
    plan = plan_of()
    targets = {str(mount.target): mount for mount in plan.container.mounts}
    assert "/volumes/gone" not in targets
    assert targets["/volumes/bucket"].follow
    assert targets["/volumes/bucket"].source == Path("/state/mounts/bucket")
    assert [str(mount.source) for mount in plan.mounts] == [
        "/home/maria",
        "/volumes/mars",
        "/volumes/bucket/data",
        "/volumes/mappers",
    ]
    # Where mounts are not passed on, nobody would see it come.
    assert "/volumes/bucket" not in {str(mount.target) for mount in plan_of(shared=False).container.mounts}


def test_archives_are_mounted_to_be_read_only():
    mounts = {str(mount.target): mount.read_only for mount in plan_of().container.mounts}
    assert mounts == {
        "/home/maria": False,
        "/volumes/mars": True,
        "/volumes/bucket": True,
        "/volumes/mappers": False,
        "/etc/passwd": True,
        "/etc/group": True,
    }
