"""The Chromium of the tests does not hear of networks: it cannot have the sockets that tell of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support import deaf_chromium

TRY = """
import socket
from support.deaf_chromium import refuse_netlink

socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
refuse_netlink()
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
except PermissionError:
    print("refused")
"""


@pytest.mark.skipif(
    os.uname().machine not in deaf_chromium.SOCKET, reason="the number of its system call is not known"
)
def test_only_sockets_of_netlink_are_refused(repository):
    environment = {**os.environ, "PYTHONPATH": str(repository / "tests")}
    done = subprocess.run(
        [sys.executable, "-c", TRY], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "refused"), done.stderr
