from __future__ import annotations

import pytest

from cupola.monitor.report import Recorder, Stage


@pytest.mark.asyncio
async def test_a_stage_carries_its_counts():
    told: list[Stage] = []
    recorder = Recorder(told.append)
    async with recorder.stage("tiles", "Fetch tiles") as counts:
        counts["pictures"] = 4
    report = recorder.report("http://127.0.0.1:1", complete=True)
    assert report.ok
    assert told == report.stages
    assert told[0].counts == {"pictures": 4}


@pytest.mark.asyncio
async def test_a_failed_stage_is_told_and_the_error_goes_on():
    told: list[Stage] = []
    recorder = Recorder(told.append)
    with pytest.raises(ValueError, match="no pixels"):
        async with recorder.stage("tiles", "Fetch tiles"):
            raise ValueError("no pixels")
    assert told[0].error == "ValueError: no pixels"
    assert not recorder.report("http://127.0.0.1:1", complete=True).ok


@pytest.mark.asyncio
async def test_a_run_that_did_not_reach_its_end_is_not_ok():
    recorder = Recorder(lambda _: None)
    async with recorder.stage("sign-in", "Sign in"):
        pass
    assert not recorder.report("http://127.0.0.1:1", complete=False).ok
