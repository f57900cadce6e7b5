from __future__ import annotations

import pytest

from cupola.platform.storage.htcondor.call import _sentence

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


def test_a_token_that_htcondor_leaves_out_is_told(tmp_path):
    assert agent.token_trouble(tmp_path / "none").startswith(f"the folder of tokens {tmp_path / 'none'}")
    assert agent.token_trouble(tmp_path) == f"there is no token in {tmp_path}"
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(0o644)
    assert agent.token_trouble(tmp_path).startswith(f"{file} must belong to the account")
    file.chmod(0o600)
    assert agent.token_trouble(tmp_path) == ""


@pytest.mark.parametrize(
    "error",
    ["Unable to locate local daemon.", "Failed to connect to schedd", "SECMAN:2007:no authentication"],
)
def test_it_is_told_with_what_was_asked(error):
    told = _sentence("submit", error, {}, token="there is no token in /t")
    assert told == (
        "HTCondor does not take the job without a token, and there is no token in /t: the platform's administrator mends that."
    )
    assert "token" in _sentence("submit", error, {"CONDOR_CONFIG": "/c"})
