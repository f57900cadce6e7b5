from __future__ import annotations

import pytest

agent = pytest.importorskip("cupola.platform.storage.htcondor.agent")


@pytest.mark.parametrize(
    ("ad", "tasks"),
    [
        ({"ClusterId": 1, "ProcId": 0, "TotalSubmitProcs": 50, "JobMaterializeNextProcId": 2}, 1),
        ({"ClusterId": 1, "TotalSubmitProcs": 50, "JobMaterializeNextProcId": 2}, 48),
        ({"ClusterId": 1, "TotalSubmitProcs": 50, "JobMaterializeNextProcId": 50}, 0),
        (
            {
                "ClusterId": 1,
                "TotalSubmitProcs": 50,
                "JobMaterializeNextProcId": 2,
                "JobMaterializePaused": 1,
            },
            0,
        ),
        ({"ClusterId": 1, "TotalSubmitProcs": 50}, 0),
    ],
)
def test_what_is_not_made_yet_waits_too(ad, tasks):
    assert agent._tasks_of(ad) == tasks
