"""What XFS is told: this kernel may have no quotas for it, so the program is one that writes down what it is asked."""

from __future__ import annotations

import os

import pytest

from cupola.exceptions import StartError
from cupola.platform.storage.quotas import Limit, Owner, QuotaError, XfsQuota, xfs
from support.disks import needs

RECORDER = """#!/bin/sh
printf '%s\\n' "$3" >> "$RECORD"
case "$3" in
  "state -p") echo "  Accounting: ON"; echo "  Enforcement: $ENFORCED";;
  "report -p -n -N -b -L 20001 -U 20001") echo "#20001  512  0  24576  00 [--------]";;
  "report -p -n -N -i -L 20001 -U 20001") echo "#20001  7  0  400  00 [--------]";;
esac
"""


@pytest.fixture
def quota(tmp_path, monkeypatch):
    needs("stat")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("xfs_quota", RECORDER), ("stat", "#!/bin/sh\necho xfs\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "asked"))
    monkeypatch.setenv("ENFORCED", "ON")
    return XfsQuota([tmp_path / "homes", tmp_path / "teams"])


def asked(tmp_path):
    return (tmp_path / "asked").read_text().splitlines()


def test_a_new_home_is_a_project_with_its_limit_before_it_has_its_name(quota, tmp_path):
    quota.check()
    home = quota.roots[0] / "ada"
    quota.prepare(home, Owner(None), Limit(25165824, 400))
    assert asked(tmp_path)[2:] == [
        "limit -p bsoft=0 bhard=25165824 isoft=0 ihard=400 20001",
        f"project -s -p {home.parent}/.ada.new 20001",
    ]
    assert home.stat().st_mode & 0o7777 == 0o700


def test_projects_are_never_shared(quota, tmp_path, monkeypatch):
    quota.check()
    projects = {}
    monkeypatch.setattr(xfs, "project_of", lambda folder: projects.get(folder.name, 0))
    for name in ("ada", "ben"):
        quota.prepare(quota.roots[0] / name, Owner(None), Limit(25165824))
        projects[name] = int(asked(tmp_path)[-1].split()[-1])
    assert projects == {"ada": 20001, "ben": 20002}
    quota.prepare(quota.roots[0] / "ada", Owner(None), Limit(1024))
    assert asked(tmp_path)[-1] == "limit -p bsoft=0 bhard=1024 isoft=0 ihard=0 20001"
    held = quota.usage(quota.roots[0] / "ada")
    assert (held.used, held.limit, held.files, held.files_limit) == (512 * 1024, 24576 * 1024, 7, 400)
    with pytest.raises(QuotaError, match="no quota yet"):
        quota.usage(quota.roots[0] / "ben")


def test_a_disk_without_project_quotas_is_told(quota, monkeypatch):
    monkeypatch.setenv("ENFORCED", "OFF")
    with pytest.raises(StartError, match="mount its file system with `prjquota`"):
        quota.check()
