from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import pytest_asyncio

from cupola.lab.chains import store
from cupola.lab.tiles.pool import Pool
from cupola.lab.tiles.process import WorkerLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

pytestmark = [pytest.mark.asyncio, pytest.mark.system, pytest.mark.usefixtures("runtime")]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool(WorkerLimits(workers=1, seconds=3, grace_seconds=0.2, memory_mib=1024))
    yield made
    await made.close()


def request(chain: Chain, *, x: int = 128, y: int = 127, z: int = 8, do: str = "npy") -> dict[str, Any]:
    name = store.save(chain)
    return {
        "do": "tile",
        "kind": do,
        "chain": name,
        "revision": "",
        "tms": "WebMercatorQuad",
        "tile": [z, x, y],
        "size": 64,
    }


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process's state: nothing here can set an event
            await asyncio.sleep(0.02)


def loop_forever(band: Any) -> Any:
    while True:
        band += 1


async def test_a_worker_is_started_when_asked_and_used_again(pool: Pool, scene: Collection) -> None:
    assert pool.idle_pids == []
    answer = await pool.ask(request(scene["one"]))
    assert answer.problem is None
    assert answer.body.startswith(b"\x93NUMPY")
    pids = pool.idle_pids
    await pool.ask(request(scene["two"]))
    assert pool.idle_pids == pids


async def test_equal_requests_at_a_time_are_computed_once(
    pool: Pool, scene: Collection, tmp_path: Path
) -> None:
    log = str(tmp_path / "calls")

    def counted(band: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123 - pickled
            file.write("x")
        return band

    chain = scene["one"].map(counted)
    answers = await asyncio.gather(*(pool.ask(request(chain)) for _ in range(5)))
    assert len({answer.body for answer in answers}) == 1
    assert (tmp_path / "calls").read_text() == "x"


async def test_a_function_that_never_ends_is_killed_and_told(pool: Pool, scene: Collection) -> None:
    await pool.ask(request(scene["one"]))
    (pid,) = pool.idle_pids
    answer = await pool.ask(request(scene["one"].map(loop_forever)))
    assert answer.problem is not None
    assert answer.problem.code == "time-limit"
    assert "3 s" in answer.problem.message
    assert not psutil.pid_exists(pid)
    assert (await pool.ask(request(scene["one"]))).problem is None


async def test_a_crash_is_told_and_the_next_tile_is_made(pool: Pool, scene: Collection) -> None:
    def crash(band: Any) -> Any:
        import ctypes

        ctypes.string_at(0)
        return band

    answer = await pool.ask(request(scene["one"].map(crash)))
    assert answer.problem is not None
    assert answer.problem.code == "crash"
    assert "SIGSEGV" in answer.problem.message
    assert "in crash" in answer.problem.traceback
    assert (await pool.ask(request(scene["one"]))).problem is None


async def test_a_function_that_raises_is_told_with_its_own_line(pool: Pool, scene: Collection) -> None:
    def wrong(band: Any) -> Any:
        return band / undefined  # type: ignore[name-defined]  # noqa: F821

    answer = await pool.ask(request(scene["one"].map(wrong)))
    problem = answer.problem
    assert problem is not None
    assert problem.message == "NameError: name 'undefined' is not defined"
    assert problem.line.startswith("wrong:")
    assert "return band / undefined" in problem.line


async def test_too_much_memory_is_told_and_the_worker_replaced(pool: Pool, scene: Collection) -> None:
    def greedy(band: Any) -> Any:
        import numpy as np

        return band + np.ones((40_000, 40_000)).sum()

    answer = await pool.ask(request(scene["one"].map(greedy)))
    assert answer.problem is not None
    assert answer.problem.code == "memory"
    assert "1024 MiB" in answer.problem.message
    assert (await pool.ask(request(scene["one"]))).problem is None


async def test_what_a_function_prints_or_exits_does_no_harm(pool: Pool, scene: Collection) -> None:
    def chatty(band: Any) -> Any:
        import os as system

        print("x" * 200_000)  # noqa: T201
        system.write(1, b"not a frame" * 10_000)
        return band

    def leaves(band: Any) -> Any:
        raise SystemExit(int(band.size > 0) * 3)

    assert (await pool.ask(request(scene["one"].map(chatty)))).problem is None
    answer = await pool.ask(request(scene["one"].map(leaves)))
    assert answer.problem is not None
    assert "sys.exit(3)" in answer.problem.message


async def test_a_waiting_request_that_nobody_wants_is_dropped(pool: Pool, scene: Collection) -> None:
    running = asyncio.create_task(pool.ask(request(scene["one"].map(loop_forever))))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(pool.ask(request(scene["two"])))
    await asyncio.sleep(0)
    assert pool.waiting == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pool.waiting == 0
    assert (await running).problem is not None


def deaf(band: Any) -> Any:
    import signal as signals

    signals.signal(signals.SIGUSR1, signals.SIG_IGN)
    return loop_forever(band)


async def abandon(pool: Pool, chain: Chain, pid: int) -> None:
    """Ask for a tile that never ends, and go away when it has begun."""
    before = psutil.Process(pid).cpu_times().user
    running = asyncio.create_task(pool.ask(request(chain)))
    await until(lambda: not pool.idle_pids and psutil.Process(pid).cpu_times().user > before + 0.05)
    running.cancel()


async def test_running_work_that_nobody_wants_is_interrupted_and_its_worker_stays(scene: Collection) -> None:
    pool = Pool(WorkerLimits(workers=1, seconds=600, soft_seconds=0.1, grace_seconds=600))
    try:
        await pool.ask(request(scene["one"]))
        (pid,) = pool.idle_pids
        await abandon(pool, scene["one"].map(loop_forever), pid)
        await until(lambda: pool.idle_pids == [pid])
        assert (await pool.ask(request(scene["two"]))).problem is None
        assert pool.idle_pids == [pid]
    finally:
        await pool.close()


async def test_work_that_is_asked_for_again_while_it_is_given_up_is_done(
    scene: Collection, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")

    def waits(band: Any) -> Any:
        import os.path as paths

        while not paths.exists(gate):  # noqa: PTH110 - pickled
            band = band + 0
        return band

    pool = Pool(WorkerLimits(workers=1, seconds=600, soft_seconds=0.1, grace_seconds=600))
    try:
        await pool.ask(request(scene["one"]))
        (pid,) = pool.idle_pids
        chain = scene["one"].map(waits)
        await abandon(pool, chain, pid)
        again = asyncio.create_task(pool.ask(request(chain)))
        await asyncio.sleep(0.3)
        (tmp_path / "gate").touch()
        assert (await again).problem is None
    finally:
        await pool.close()


async def test_running_work_that_hears_nothing_is_killed_after_its_grace_but_not_too_often(
    scene: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cupola.lab.tiles.pool.KILLS", 1)
    pool = Pool(WorkerLimits(workers=1, seconds=3, soft_seconds=0.1, grace_seconds=0.2))
    try:
        await pool.ask(request(scene["one"]))
        (pid,) = pool.idle_pids
        await abandon(pool, scene["one"].map(deaf), pid)
        await until(lambda: not psutil.pid_exists(pid))
        # Somebody else's work goes on, in a new process.
        assert (await pool.ask(request(scene["one"]))).problem is None
        (other,) = pool.idle_pids
        assert other != pid
        await abandon(pool, scene["two"].map(deaf), other)
        await asyncio.sleep(1)
        assert psutil.pid_exists(other)
        # It ends at its time limit, as any other.
        await until(lambda: not psutil.pid_exists(other))
    finally:
        await pool.close()


async def test_cheap_work_that_nobody_wants_is_finished(scene: Collection) -> None:
    pool = Pool(WorkerLimits(workers=1, grace_seconds=600))
    try:
        await pool.ask(request(scene["one"]))
        pids = pool.idle_pids
        unwanted = asyncio.create_task(pool.ask(request(scene["two"])))
        await asyncio.sleep(0)
        unwanted.cancel()
        await until(lambda: pool.idle_pids == pids)
    finally:
        await pool.close()


def command(process: psutil.Process) -> str:
    """Return the command line; nothing for a process that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


async def test_an_idle_worker_ends_and_close_ends_all(scene: Collection) -> None:
    pool = Pool(WorkerLimits(workers=2, idle_seconds=0.1))
    await pool.ask(request(scene["one"]))
    await until(lambda: not pool.idle_pids)
    busy = asyncio.create_task(pool.ask(request(scene["one"].map(loop_forever))))
    me = psutil.Process()
    await until(lambda: any("tiles.worker" in command(child) for child in me.children()))
    await pool.close()
    with pytest.raises(asyncio.CancelledError):
        await busy
    assert not [child for child in me.children() if "tiles.worker" in command(child)]


async def test_an_interpreter_that_does_not_work_is_told(
    pool: Pool, scene: Collection, monkeypatch: Any
) -> None:
    monkeypatch.setenv("CUPOLA_PYTHON", "/nowhere/python")
    answer = await pool.ask(request(scene["one"]))
    assert answer.problem is not None
    assert answer.problem.code == "worker"
    assert "/nowhere/python" in answer.problem.message
    monkeypatch.setenv("CUPOLA_PYTHON", "/bin/false")
    assert (await pool.ask(request(scene["one"]))).problem is not None
    monkeypatch.delenv("CUPOLA_PYTHON")
    assert (await pool.ask(request(scene["one"]))).problem is None


async def test_a_worker_killed_while_idle_is_replaced(pool: Pool, scene: Collection) -> None:
    await pool.ask(request(scene["one"]))
    (pid,) = pool.idle_pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    answers = [await pool.ask(request(scene["one"])) for _ in range(2)]
    assert answers[-1].problem is None


async def test_a_worker_does_not_outlive_its_server(scene: Collection) -> None:
    name = store.save(scene["one"].map(loop_forever))
    code = f"""
        import asyncio
        from cupola.lab.tiles.pool import Pool
        asyncio.run(Pool().ask({{"do": "tile", "kind": "npy", "chain": "{name}", "revision": "", "tms": "WebMercatorQuad",
                                 "tile": [8, 128, 127], "size": 64}}))
    """
    server = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])  # noqa: ASYNC220
    try:
        process = psutil.Process(server.pid)
        await until(lambda: bool(process.children()))
        (worker,) = process.children()
        await until(lambda: worker.cpu_times().user > 0.5)
    finally:
        server.kill()
        server.wait()
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


HOG = "while True: pass"


def burn_a_second(band: Any) -> Any:
    import time

    end = time.process_time() + 1.3
    while time.process_time() < end:
        band = band + 0
    return band


async def test_time_without_a_processor_is_not_counted(scene: Collection) -> None:
    made = Pool(WorkerLimits(workers=1, seconds=2, grace_seconds=0.2, memory_mib=1024))
    core = {min(os.sched_getaffinity(0))}
    hogs: list[asyncio.subprocess.Process] = []
    try:
        await made.ask(request(scene["one"]))
        (worker,) = made.idle_pids
        os.sched_setaffinity(worker, core)
        for _ in range(3):
            hogs.append(await asyncio.create_subprocess_exec(sys.executable, "-c", HOG))
            os.sched_setaffinity(hogs[-1].pid, core)
        # With a part of a processor that takes longer than the limit.
        answer = await made.ask(request(scene["one"].map(burn_a_second)))
        assert answer.problem is None
    finally:
        for hog in hogs:
            hog.kill()
            await hog.wait()
        await made.close()
