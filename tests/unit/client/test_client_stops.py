from __future__ import annotations

import pytest

from cupola.client.fake import FakePortal
from cupola.exceptions import ConflictError
from cupola.models.activity import Activity, NewMaintenance, PlannedStop, StopKind
from cupola.models.base import now
from cupola.models.datalab import Datalab
from cupola.models.session import LaunchRequest, SessionState

LAB = Datalab(name="lab", title="Lab", summary="A lab")


@pytest.fixture
def fake(tmp_path):
    return FakePortal(tmp_path, datalabs=[LAB])


def test_planned_stops_of_the_portal_in_memory(fake):
    with fake.client() as client:
        name = client.launch(LaunchRequest(datalab="lab")).id
        with pytest.raises(ConflictError):
            client.keep_session(name)
        fake.advance_session(name, SessionState.READY)
        told = Activity(kernels=1, busy=["a.ipynb"])
        assert client.tell_activity(name, told) is None
        assert fake.stops.told[name] == [told]
        plan = PlannedStop(at=now(), reason="Nothing goes on.")
        fake.stops.planned[name] = plan
        assert client.tell_activity(name, Activity(), wait=5) == plan
        assert client.keep_session(name).state is SessionState.READY
        assert client.tell_activity(name, Activity()) is None
        asleep = client.hibernate_session(name)
        assert asleep.hibernated
        assert client.hibernate_session(name).hibernated == asleep.hibernated
        woken = client.wake_session(name)
        assert (woken.id, woken.hibernated, woken.state) == (name, None, SessionState.REQUESTED)
        assert client.wake_session(name).id == name
        other = client.restart_session(name, version="sha256:2")
        assert (other.id != name, other.version) == (True, "sha256:2")
        assert client.wake_session(name).id not in {name, other.id}, "it ended, and was not hibernated"


def test_the_end_of_the_platform_in_memory(fake):
    with fake.client() as client:
        name = client.launch(LaunchRequest(datalab="lab")).id
        assert client.maintenance() is None
        plan = client.announce_maintenance(NewMaintenance(seconds=60, reason="new disks"))
        assert (plan.kind, plan.keepable) == (StopKind.MAINTENANCE, False)
        assert client.tell_activity(name, Activity()) == client.maintenance() == plan
        client.withdraw_maintenance()
        assert client.maintenance() is None


def test_models_of_another_version_are_understood():
    told = Activity.model_validate({"kernels": 1, "something": "newer"})
    assert told.computes
    assert not Activity(cpu_seconds=1, notebooks=["a.ipynb"]).computes
    plan = PlannedStop.model_validate({"at": now(), "reason": "x", "later": True})
    assert plan.kind is StopKind.HIBERNATE
