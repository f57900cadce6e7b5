"""A real kernel below a guardian is frozen with all it has, and goes on after a while: CRIU itself, no stand-in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
from jupyter_client import BlockingKernelClient

from cupola.exceptions import UnavailableError
from cupola.hub.drivers.criu import Criu
from cupola.lab.guardian.folder import KernelFolder
from support.guarded import Page

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

HAVE = """
import threading, time
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.02)
thread = threading.Thread(target=tick, daemon=True)
thread.start()
file = open({file!r}, "w+")
print("before", file=file, flush=True)
half = iter(range(100, 110))
taken = next(half), next(half)
"""
FAR = """
import socket
listening = socket.create_server(({address!r}, 0))
near = socket.create_connection(listening.getsockname())
far, _ = listening.accept()
"""
LINES = "for number in range(1, 61):\n    print(f'line {number}', flush=True)\n    time.sleep(0.1)"


@pytest.fixture
def kernel(server):
    """A kernel of it, with things in it that no pickle holds."""
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    assert page.run(HAVE.format(file=str(server.folder / "data.txt")), "have") == ""
    page.close()
    return kernel


def guardian(server, kernel):
    return server.record(kernel)["guardian"]


def test_goes_on_in_the_middle_of_a_cell_with_thread_file_and_iterator(criu, server, kernel, tmp_path):
    """Everything the kernel had is there, the running cell goes on, and not one line of it is lost."""
    page = Page(server, kernel)
    long = page.execute(LINES, "long")
    server.until(lambda: "line 10\n" in server.printed(kernel), "the cell does not run")
    record, place = server.record(kernel), tmp_path / "frozen" / kernel

    server.kill()  # its place at the hibernation: a session's own processes are ended too
    tree = criu.freeze(guardian(server, kernel), place)
    assert {record["guardian"], record["kernel"]} <= set(tree.numbers)
    assert not KernelFolder(server.runtime / "kernels" / kernel).alive
    then = server.printed(kernel)
    server.log.write_text("what it printed is cut meanwhile\n")

    assert criu.thaw(place).pid == record["guardian"]
    assert not place.exists(), "the memory of a kernel holds secrets"
    assert "line 60\n" not in then
    server.start()
    assert [one["id"] for one in server.get("api/kernels").json()] == [kernel], server.log.read_text()
    assert server.record(kernel) == record
    again = Page(server, kernel, page.session.session)
    again.until_idle(again.execute(LINES, "long", long))
    assert re.findall(r"line (\d+)\n", server.printed(kernel)) == [str(one) for one in range(1, 61)]
    asked = "print(thread.is_alive(), next(half), file.write('after'), ticks); a = ticks; time.sleep(0.3); print(ticks > a)"
    alive, following, written, ticks, runs = again.run(asked, "look").split()
    assert (alive, following, written, runs) == ("True", "102", "5", "True")
    assert int(ticks) > 0
    assert again.run("file.close(); print(open(file.name).read())", "read").split() == ["before", "after"]


def test_with_the_server_and_a_subscriber_connected(criu, server, kernel, tmp_path):
    """Whoever was connected does not keep it from being frozen; clients of before hear it again after a thaw."""
    client = BlockingKernelClient(
        connection_file=str(server.runtime / "kernels" / kernel / "connection.json")
    )
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    os.kill(server.process.pid, signal.SIGSTOP)  # it would start the kernel anew
    criu.freeze(guardian(server, kernel), tmp_path / "frozen" / kernel)
    server.kill()
    criu.thaw(tmp_path / "frozen" / kernel)
    heard = []
    client.execute_interactive("print('still', next(half))", timeout=60, output_hook=heard.append)
    assert "still 102\n" in [message["content"].get("text") for message in heard]
    client.stop_channels()


def test_a_connection_to_elsewhere_is_closed_and_does_not_keep_it_from_sleeping(
    criu, server, kernel, tmp_path
):
    """After hours nobody is at its other end: the program hears so at once, instead of waiting for an answer."""
    there = psutil.net_if_addrs()
    addresses = [one.address for name in there for one in there[name] if one.family == 2 and name != "lo"]
    if not addresses:
        pytest.skip("this machine has no address but its own")
    page = Page(server, kernel)
    assert page.run(FAR.format(address=addresses[0]), "connect") == ""
    server.kill()
    tree = criu.freeze(guardian(server, kernel), tmp_path / "frozen" / kernel)
    assert not tree.connections
    criu.thaw(tmp_path / "frozen" / kernel)
    server.start()
    page = Page(server, kernel)
    said = page.run(
        "near.settimeout(60)\ntry:\n    print('got', near.recv(1))\nexcept OSError as e:\n    print('error')",
        "ask",
    )
    assert said in {"got b''\n", "error\n"}
    assert page.run("print(next(half))", "still") == "102\n"


def test_a_number_that_is_taken_is_said_and_the_kernel_is_given_up(criu, server, kernel, tmp_path):
    """Nobody else's process is touched."""
    record, place = server.record(kernel), tmp_path / "frozen" / kernel
    server.kill()
    criu.freeze(record["guardian"], place)
    server.until(lambda: not psutil.pid_exists(record["kernel"]), "nobody notices that it ended")
    squatter = at_number(record["kernel"])
    try:
        with pytest.raises(UnavailableError, match=f"number {record['kernel']} belongs to another program"):
            criu.thaw(place)
        assert squatter.poll() is None
        assert not psutil.pid_exists(record["guardian"])
        assert not place.exists()
    finally:
        squatter.kill()
        squatter.wait()


def at_number(number):
    """Start a process that has this number."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    for _ in range(200):
        last.write_text(str(number - 1))
        made = subprocess.Popen(["sleep", "600"])
        if made.pid == number:
            return made
        made.kill()
        made.wait()
    pytest.skip("this machine starts processes too fast for one number to be had")


def test_a_full_disk_leaves_the_kernel_running(criu, server, kernel, small_disk):
    """The words say how much is missing; what was written is removed."""
    page = Page(server, kernel)
    page.run("held = bytearray(200_000_000)\nheld[::4096] = b'x' * len(held[::4096])", "big")
    with pytest.raises(UnavailableError, match=r"needs \d+ MiB on the disk, and \d+ MiB are free"):
        criu.freeze(guardian(server, kernel), small_disk / "frozen" / kernel)
    assert page.run("print(next(half), thread.is_alive())", "still") == "102 True\n"
    assert [one for one in (small_disk / "frozen").iterdir() if one.is_dir()] == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 100 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m,mode=700", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_two_at_once_and_again(criu, server, kernel, tmp_path):
    """One of two freezes it, and one of two thaws it."""
    place = tmp_path / "frozen" / kernel
    pid = guardian(server, kernel)
    server.kill()
    for act, others in ((lambda: criu.freeze(pid, place), "frozen already"), (lambda: criu.thaw(place), "")):
        outcomes = []

        def one(act=act, outcomes=outcomes):
            try:
                outcomes.append(act())
            except UnavailableError as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(refused) == 1, outcomes
        assert others in refused[0]
    assert psutil.pid_exists(pid)


def test_a_freeze_whose_program_is_killed_leaves_nothing_to_thaw(criu, server, kernel, tmp_path):
    """Half of a memory is never taken for a whole one."""
    place = tmp_path / "frozen" / kernel
    wrapper = tmp_path / "criu"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = dump ] || exec {criu.program} "$@"\n'
        f'{criu.program} "$@" & sleep 0.05; kill -9 $!\n'
        f"sleep 120 & echo $! > {tmp_path}/helper; exit 137\n"
    )
    wrapper.chmod(0o755)
    server.kill()
    with pytest.raises(UnavailableError):
        Criu(str(wrapper)).freeze(guardian(server, kernel), place)
    # Like criu's own, it lives on with all that it has open; nobody waits for it.
    helper = psutil.Process(int((tmp_path / "helper").read_text()))
    assert helper.status() != psutil.STATUS_ZOMBIE
    helper.kill()
    assert not place.exists()
    with pytest.raises(UnavailableError, match="nothing is frozen"):
        criu.thaw(place)
