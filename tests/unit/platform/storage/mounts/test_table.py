from __future__ import annotations

import pytest

from cupola.platform.storage.mounts import table

DISK = "27 1 254:0 / / rw,relatime {} - ext4 /dev/vda rw\n"
STATE = "162 27 254:0 /srv/state /srv/state rw,relatime {} - ext4 /dev/vda rw\n"


@pytest.mark.parametrize(
    ("lines", "shared"),
    [
        # As in the platform's container, which is given its state folder from the host.
        (DISK.format("") + STATE.format("shared:2"), True),
        (DISK.format("shared:1") + STATE.format(""), False),
        (DISK.format("") + STATE.format("shared:2") + STATE.format(""), False),
        # A whole system that is shared, as with systemd: the mounts get a place of their own.
        (DISK.format("shared:1"), False),
    ],
)
def test_mounts_in_a_state_folder_that_is_shared_with_the_host_need_no_place_of_their_own(
    tmp_path, monkeypatch, lines, shared
):
    file = tmp_path / "mountinfo"
    file.write_text(lines)
    monkeypatch.setattr(table, "_TABLE", file)
    monkeypatch.setattr(table.os, "geteuid", lambda: 1000)  # who may mount nothing
    assert table.make_shared(table.Path("/srv/state/mounts")) is shared
