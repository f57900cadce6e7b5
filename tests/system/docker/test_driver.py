"""The docker driver against a real engine: starts, limits, ends, crashes of hub and engine."""

from __future__ import annotations

import asyncio
import json
import time

import psutil
import pytest

from cupola.hub.containers.engine import sessions_of
from cupola.hub.drivers.base import NotStartedError
from cupola.models.resources import Resources
from cupola.models.session import EndCause
from support.containers import NUMBER, grounds_in

pytestmark = [pytest.mark.system, pytest.mark.asyncio, pytest.mark.timeout(300)]

PATIENCE = 180


@pytest.fixture(scope="module")
def grounds(engine, tmp_path_factory):
    with grounds_in(tmp_path_factory.mktemp("grounds"), engine) as made:
        yield made


async def ended(session):
    """Wait until the session has ended by itself, asking as often as the hub does, but quicker."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if (end := await session.driver.ended()) is not None:
            return end
        await asyncio.sleep(0.05)
    raise AssertionError("the session does not end")


async def answered(session):
    """Return the answer of a session without room for one more thread: the stub's server takes one per question."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return await session.ask("api")
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


async def test_a_session_starts_answers_and_stops(grounds):
    session = await grounds.session("starts").start()
    assert session.address.startswith("http://127.0.0.1:")
    environment = json.loads(await session.ask("environment"))
    assert environment["HOME"] == "/home/starts"
    assert environment["CUPOLA_API_URL"].startswith(f"http://{grounds.network.gateway}:")
    assert environment["JUPYTERHUB_API_TOKEN"] == "a-made-up-token"
    assert "PWD" not in environment
    assert await session.driver.ended() is None
    assert session.driver._lives(), "its life is seen without asking the engine"
    labels = session.container.labels
    assert labels["cupola.session"] == "starts"
    assert labels["cupola.platform"] == grounds.config.paths.key
    end = await session.driver.stop()
    assert end.cause is EndCause.ASKED
    assert sessions_of(grounds.engine.host, grounds.config.paths.key, "starts") == []
    assert "stub session of starts" in session.plan.log.read_text()


PROBES = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
tried = {
    "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare": lambda: libc.unshare(0x10000000),
    "chroot": lambda: os.chroot("/tmp"),
    "mknod": lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0)),
    "setuid": lambda: os.setuid(0),
    "chown": lambda: os.chown("/etc/hostname", 0, 0),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "host name": lambda: socket.sethostname("other"),
    "clock": lambda: os.system("date -s 2001-01-01 >/dev/null 2>&1") and -1,
    "kernel memory": lambda: open("/dev/mem"),
    "kernel log": lambda: open("/dev/kmsg").read(1),
    "engine": lambda: open("/var/run/docker.sock"),
    "sysctl": lambda: open("/proc/sys/kernel/hostname", "w").write("x"),
    "core pattern": lambda: open("/proc/sys/kernel/core_pattern", "w").write("|/x"),
    "cgroup": lambda: open("/sys/fs/cgroup/memory/memory.limit_in_bytes", "w").write("1"),
    "root": lambda: open("/etc/shadow").read(1),
}
for name, act in tried.items():
    try:
        if act() not in (-1, 65535):
            print(name)
    except (OSError, PermissionError):
        pass
"""


@pytest.mark.row(21)
async def test_what_only_an_administrator_may_do_is_denied(grounds, matrix):
    session = await grounds.session("probes").start()
    escapes = (await session.run(PROBES)).splitlines()
    status = await session.run("print(open('/proc/self/status').read())")
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    # The same probes in a container as the engine makes it by itself: they do find something to do.
    told = grounds.engine.client.containers.run(
        session.container.image.id,
        ["/opt/cupola/bin/python", "-c", PROBES],
        entrypoint=[],
        user="0",
        network_mode="none",
        remove=True,
    )
    red = {"chroot", "setuid", "raw socket"} <= set(told.decode().splitlines())
    assert red, told
    await session.driver.stop()
    assert not escapes
    matrix("escapes of 17 probes", len(escapes), limit=0, seen_red=red)
    matrix("effective capabilities", int(effective, 16), limit=0, seen_red=red)


async def test_limits_and_rights_are_those_of_the_plan(grounds):
    session = await grounds.session("rights").start()
    host = session.container.attrs["HostConfig"]
    assert host["NanoCpus"] == 500_000_000
    assert host["Memory"] == host["MemorySwap"] == 128 * 2**20
    assert host["PidsLimit"] == 64
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["LogConfig"]["Config"] == {"max-size": "8m", "max-file": "2"}
    status = await session.run("print(open('/proc/self/status').read())")
    seen = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(seen[kind], 16) == 0, kind
    assert seen["NoNewPrivs"] == "1"
    assert seen["Seccomp"] == "2"
    assert seen["Uid"].split() == [str(NUMBER)] * 4
    written = await session.run(
        "import os\n"
        "for place in ('/x', '/etc/x', '/opt/cupola/x', '/tmp/x', '/run/x', os.environ['HOME'] + '/x'):\n"
        "    try:\n        open(place, 'w').write('1')\n        print(place, 'yes')\n"
        "    except OSError as e:\n        print(place, e.errno)"
    )
    assert written.splitlines() == [
        "/x 30",
        "/etc/x 30",
        "/opt/cupola/x 30",
        "/tmp/x yes",  # noqa: S108 - in the container
        "/run/x 13",
        "/home/rights/x yes",
    ]
    assert (session.home / "x").stat().st_uid == NUMBER
    first = await session.run("print(open('/proc/1/cmdline').read().split('\\0')[0])")
    assert "init" in first
    assert await session.run("import os; print(os.path.exists('/proc/sys/net/ipv6/conf/eth0'))") in {
        "True",
        "False",
    }
    assert (
        await session.run("import os; print(open('/proc/net/if_inet6').read().strip() or 'none')") == "none"
    )
    full = await session.run(
        "try:\n    open('/tmp/big', 'wb').write(bytes(20 * 2**20))\nexcept OSError as e:\n    print(e.errno)"
    )
    assert full == "28"
    await session.driver.stop()


BOMB = """
import os, sys
made = 0
try:
    for _ in range(500):
        if os.fork() == 0:
            import time
            time.sleep(600)  # to the end of the test: the session answers beside them, not after them
            os._exit(0)
        made += 1
except OSError as error:
    print("refused", made < 64, error.errno)
"""


async def test_a_fork_bomb_is_refused_and_the_session_lives(grounds):
    session = await grounds.session("bomb").start()
    assert await session.ask("inside", BOMB) == "refused True 11\n"
    assert await answered(session) == "{}"
    assert await session.driver.ended() is None
    await session.driver.stop()


async def test_a_server_that_needs_too_much_memory_leaves_its_post_mortem(grounds):
    session = await grounds.session("hungry").start()
    with pytest.raises(OSError):  # noqa: PT011 - the connection ends with the server
        await session.ask("inside", "x = [bytearray(2**20) for _ in range(500)]")
    end = await ended(session)
    assert end.cause is EndCause.OUT_OF_MEMORY, end
    assert end.peak_memory_mib == end.memory_limit_mib == 128
    assert end.signal == "SIGKILL"
    assert any("stub session of hungry" in line for line in end.log)
    await session.driver.forget()
    assert "stub session of hungry" in session.plan.log.read_text()


async def test_a_program_in_it_that_needs_too_much_memory_ends_alone(grounds):
    session = await grounds.session("greedy").start()
    said = await session.run("x = [bytearray(2**20) for _ in range(500)]")
    assert said == "exit -9"
    assert await session.driver.ended() is None
    lost = session.driver.lost_inside()
    assert lost.cause is EndCause.OUT_OF_MEMORY
    assert lost.peak_memory_mib == lost.memory_limit_mib == 128
    assert session.driver.lost_inside() is None, "it is told once"
    later = session.another_driver()
    later.load(session.driver.state())
    assert await later.ended() is None
    assert later.lost_inside() is None, "a hub that was restarted does not tell it again"
    end = await session.driver.stop()
    assert end.cause is EndCause.ASKED


async def test_peak_memory_is_known_after_a_crash(grounds):
    session = await grounds.session("crash", resources=Resources(cores=1, memory_mib=256)).start()
    await session.ask("inside", "import builtins; builtins.kept = bytearray(b'x' * (80 * 2**20))")
    assert await session.driver.ended() is None
    with pytest.raises(OSError):  # noqa: PT011
        await session.ask("inside", "import os, sys; print('bye', file=sys.stderr, flush=True); os._exit(3)")
    end = await ended(session)
    assert end.cause is EndCause.CRASH
    assert end.exit_code == 3
    assert 80 <= end.peak_memory_mib < 256
    assert end.log[-1] == "bye"
    await session.driver.forget()


async def test_a_kill_is_no_lack_of_memory(grounds):
    session = await grounds.session("killed").start()
    psutil.Process(session.driver.known.pid).kill()
    end = await ended(session)
    assert end.cause is EndCause.CRASH
    assert end.signal == "SIGKILL"
    await session.driver.forget()


async def test_a_container_that_somebody_removed_is_lost(grounds):
    session = await grounds.session("lost").start()
    session.container.remove(force=True)
    assert (await ended(session)).cause is EndCause.LOST
    await session.driver.forget()


async def test_an_end_while_it_starts_is_told_with_its_output(grounds):
    session = grounds.session(
        "early", command=["/opt/cupola/bin/python", "-c", "import sys; sys.exit('no way')"]
    )
    with pytest.raises(NotStartedError, match=r"ended with exit code 1 while it started.*no way") as caught:
        await session.start()
    assert caught.value.end.cause is EndCause.CRASH
    assert caught.value.end.log == ["no way"]
    await session.driver.forget()


async def test_who_does_not_answer_in_time_is_told(grounds):
    session = grounds.session("late", command=["/opt/cupola/bin/python", "-c", "import time; time.sleep(99)"])
    with pytest.raises(NotStartedError, match="did not answer") as caught:
        await session.start(seconds=1)
    assert caught.value.end.cause is EndCause.TIMEOUT
    await session.driver.stop()


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        ({"image": "sha256:" + "ab" * 32}, EndCause.NO_IMAGE, "cupola build"),
        ({"resources": Resources(cores=1, memory_mib=64, gpus=1)}, EndCause.REFUSED, "knows no GPUs"),
    ],
)
async def test_what_the_engine_refuses_is_one_sentence(grounds, changes, cause, words):
    session = grounds.session("refused", **changes)
    with pytest.raises(NotStartedError) as caught:
        await session.start()
    assert caught.value.end.cause is cause
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sessions_of(grounds.engine.host, grounds.config.paths.key, "refused") == []


async def test_a_folder_that_is_not_there_is_named(grounds, tmp_path):
    session = grounds.session("missing")
    mounts = [*session.plan.container.mounts, {"source": tmp_path / "gone", "target": "/volumes/gone"}]
    session = grounds.session(
        "missing",
        mounts=type(session.plan.container)
        .model_validate({**session.plan.container.model_dump(), "mounts": mounts})
        .mounts,
    )
    with pytest.raises(NotStartedError, match=f"{tmp_path}/gone is not there"):
        await session.start()


async def test_a_new_hub_finds_the_session_by_what_was_noted_and_by_its_label(grounds):
    session = await grounds.session("found").start()
    pid = session.driver.known.pid
    noted = session.another_driver()
    noted.load(json.loads(json.dumps(session.driver.state())))
    assert await noted.ended() is None
    assert noted.known.pid == pid
    unnoted = session.another_driver()
    unnoted.load({})
    assert await unnoted.ended() is None
    assert unnoted.identity == session.driver.identity
    assert (await unnoted.stop()).cause is EndCause.ASKED
    assert await ended(session)


async def test_a_start_after_a_crash_between_making_and_noting_makes_one_container(grounds):
    first = await grounds.session("twice").start()
    # The hub was killed before it noted anything, and starts the session anew.
    first.driver = first.another_driver()
    before = first.container.id
    await first.start()
    left = sessions_of(grounds.engine.host, grounds.config.paths.key, "twice")
    assert [found.identity for found in left] == [first.driver.identity]
    assert left[0].identity != before
    await first.driver.stop()


async def test_twenty_at_once_all_start(grounds):
    sessions = [grounds.session(f"many-{number}") for number in range(20)]
    await asyncio.gather(*(session.start() for session in sessions))
    assert len({session.address for session in sessions}) == 20
    assert await asyncio.gather(*(session.ask("api") for session in sessions)) == ["{}"] * 20
    await asyncio.gather(*(session.driver.stop() for session in sessions))


async def test_an_internal_network_reaches_the_door_alone(engine, tmp_path):
    with grounds_in(tmp_path, engine, network="internal") as grounds:
        session = await grounds.session("inner").start()
        assert "127.0.0.1" not in session.address
        assert await session.ask("api") == "{}"
        assert await session.reaches(grounds.network.gateway, grounds.network.door) == "open"
        assert await session.reaches("198.51.100.7", 80) != "open"
        await session.driver.stop()
