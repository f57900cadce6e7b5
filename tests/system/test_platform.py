"""``cupola up`` with everything real: sign-in, sessions, crashes of every part, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx
import psutil
import pytest
import pytest_asyncio

from cupola.client import AsyncClient
from cupola.hub.keys import Keys
from cupola.hub.ports import Ports
from cupola.hub.zygotes import Zygote
from cupola.models.session import LaunchRequest, SessionState
from cupola.monitor.forms import forms_of
from cupola.monitor.visitor import Visitor
from support.platform import OWNER
from support.wheels import make_wheel

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PATIENCE = 90


async def until(question, what, seconds=PATIENCE):
    """Wait until `question` (a function, async or not) says yes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said = question()
        if asyncio.iscoroutine(said):
            said = await said
        if said:
            return said
        await asyncio.sleep(0.1)
    raise AssertionError(f"this did not happen in {seconds} s: {what}")


def hub_of(platform):
    """A client of the hub's API with the portal's own token."""
    ports = Ports.read(platform.paths.ports)
    token = Keys(platform.paths.secrets).portal
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{ports.hub}/hub/api",
        headers={"Authorization": f"token {token}"},
        timeout=60,
    )


async def sign_in(visitor, link):
    """Send the form that a link shows; return the path one lands on."""
    page = await visitor.http.get(link)
    form = forms_of(page.text)[0]
    return (await visitor.http.post(form.action, data=form.fields)).url.path


@asynccontextmanager
async def kernel_in(visitor, session):
    async with asyncio.timeout(PATIENCE):
        kernel = await visitor.open_kernel(session)
    try:
        yield kernel
    finally:
        await kernel.close()


@asynccontextmanager
async def signed_in(platform):
    """A visitor who has signed in, and a client of the portal with a token of theirs."""
    async with Visitor(platform.address) as visitor:
        await sign_in(visitor, platform.link())
        await visitor.http.get("/hub/token")
        answer = await visitor.http.post(
            f"/hub/api/users/{OWNER}/tokens",
            headers={"X-XSRFToken": visitor._cookie("_xsrf", "/hub/")},
            json={"note": "test"},
        )
        async with AsyncClient(f"{platform.address}/services/cupola/api", answer.json()["token"]) as client:
            yield visitor, client


async def launch(client, **request):
    session = await client.launch(LaunchRequest(datalab="lab", **request))
    async for _ in client.session_events(session.id):
        pass
    seen = await client.session(session.id)
    assert seen.state is SessionState.READY, seen.reason
    return seen


async def answers(visitor, session):
    """Whether a session answers through the proxy."""
    try:
        return (await visitor.http.get(f"/user/{OWNER}/{session.id}/api")).status_code == 200
    except httpx.HTTPError:
        return False


async def portal_answers(client):
    try:
        return bool(await client.me())
    except Exception:  # noqa: BLE001 - whatever it says while it is away
        return False


@pytest_asyncio.fixture
async def ours(new_platform):
    one = new_platform()
    one.start()
    return one


@pytest.mark.asyncio
async def test_a_link_signs_in_once(platform):
    link = platform.link()
    async with Visitor(platform.address) as visitor:
        # Looking at it, as a chat program does for its preview, uses nothing up.
        for _ in range(2):
            preview = await visitor.http.get(link)
            assert preview.status_code == 200
            assert preview.headers["Referrer-Policy"] == "no-referrer"
        assert await sign_in(visitor, link) == "/services/cupola/"
        assert (await visitor.http.get("/hub/home")).url.path == "/hub/home"
    async with Visitor(platform.address) as second:
        refused = await second.http.get(link)
        assert refused.status_code == 403
        assert "cupola status --link" in refused.text


@pytest.mark.asyncio
async def test_of_two_who_use_a_link_at_once_one_gets_in(platform):
    link = platform.link()

    async def use(visitor):
        page = await visitor.http.get(link)
        form = forms_of(page.text)[0]
        return (await visitor.http.post(form.action, data=form.fields, follow_redirects=False)).status_code

    async with Visitor(platform.address) as one, Visitor(platform.address) as two:
        assert sorted(await asyncio.gather(use(one), use(two))) == [302, 403]


@pytest.mark.asyncio
async def test_a_forged_form_does_not_sign_in(platform):
    link = platform.link()
    async with httpx.AsyncClient(base_url=platform.address) as http:
        token = link.partition("token=")[2]
        forged = await http.post("/hub/sign-in", data={"token": token})
        assert forged.status_code == 403
        # It was not used up by that.
        assert (await http.get(link)).status_code == 200


@pytest.mark.asyncio
async def test_who_is_not_signed_in_is_told_how_to(platform):
    async with httpx.AsyncClient(base_url=platform.address, follow_redirects=True) as http:
        page = await http.get("/hub/home")
        assert "cupola status --link" in page.text
        assert (await http.get("/services/cupola/api/me")).status_code == 401
        assert (await http.get(f"/hub/api/users/{OWNER}")).status_code == 403


@pytest.mark.asyncio
async def test_a_start_behind_the_portals_back_is_refused(platform):
    async with hub_of(platform) as hub:
        unknown = await hub.post(f"/users/{OWNER}/servers/lab-12345678")
        assert unknown.status_code in {403, 404}
        assert "did not decide" in unknown.json()["message"]
        default = await hub.post(f"/users/{OWNER}/server")
        assert default.status_code == 403
        assert "catalogue" in default.json()["message"]


@pytest.mark.asyncio
async def test_a_session_starts_forked_runs_a_kernel_and_stops(platform):
    async with signed_in(platform) as (visitor, client):
        session = await launch(client)
        record = json.loads((platform.paths.running / f"{session.id}.json").read_text())
        zygote = Zygote(platform.paths.zygote(OWNER, session.version))
        assert psutil.Process(record["pid"]).ppid() == zygote.process().pid
        async with kernel_in(visitor, session) as kernel:
            seen = await kernel.run(
                "import os, sys; print(os.environ['CUPOLA_PYTHON'] == sys.executable, 'JUPYTERHUB' in str(sys.path))"
            )
        assert seen.text.split() == ["True", "False"]
        await client.stop_session(session.id)

        async def stopped():
            return (await client.session(session.id)).state is SessionState.STOPPED

        await until(stopped, "the session is stopped")
        assert not psutil.pid_exists(record["pid"])
        await until(
            lambda: not (platform.paths.running / f"{session.id}.json").exists(), "its record is removed"
        )


@pytest.mark.asyncio
async def test_a_session_that_is_killed_is_seen_with_its_signal_and_its_kernel_ends(platform):
    async with signed_in(platform) as (visitor, client):
        session = await launch(client)
        async with kernel_in(visitor, session) as kernel:
            pid = int((await kernel.run("import os; print(os.getpid())")).text)
        server = json.loads((platform.paths.running / f"{session.id}.json").read_text())["pid"]
        psutil.Process(server).kill()

        async def ended():
            seen = await client.session(session.id)
            return seen if not seen.state.active else None

        seen = await until(ended, "the portal knows of the end")
        assert "SIGKILL" in (seen.reason or ""), seen
        await until(lambda: not psutil.pid_exists(pid), "the kernel ends too")


@pytest.mark.asyncio
async def test_sessions_survive_the_death_of_every_part(ours):
    """kill -9 of the hub, the portal, the proxy, the fork server and cupola up, one after the other."""
    async with signed_in(ours) as (visitor, client):
        session = await launch(client)
        async with kernel_in(visitor, session) as kernel:
            await kernel.run("counter = 1")
        server = json.loads((ours.paths.running / f"{session.id}.json").read_text())["pid"]

        async def all_well():
            return await answers(visitor, session) and await portal_answers(client)

        old_hub = ours.part("hub")
        old_hub.kill()
        await until(lambda: ours.pid("hub") != old_hub.pid, "a new hub is started")
        assert await answers(visitor, session), "the session answers while the hub is away"
        await until(all_well, "hub and portal are back")

        # The last of the line: hub, then what keeps the portal running, then the portal itself.
        portal = ours.part("hub").children(recursive=True)[-1]
        assert portal.cmdline()[-2:] == ["-m", "cupola.platform"]
        portal.kill()
        await until(all_well, "the portal is back")

        old_proxy = ours.part("proxy")
        old_proxy.kill()
        await until(lambda: ours.pid("proxy") != old_proxy.pid, "a new proxy is started")
        await until(all_well, "the routes are there again")

        psutil.Process(Zygote(ours.paths.zygote(OWNER, session.version)).process().pid).kill()
        assert await answers(visitor, session)

        proxy = ours.part("proxy")
        ours.kill()
        status = ours.run("status")
        assert status.returncode == 1
        assert "was killed" in status.stdout
        assert session.id in status.stdout
        assert await answers(visitor, session), "the session answers without cupola up"
        ours.start()
        assert ours.pid("proxy") == proxy.pid, "the proxy is taken over"
        await until(all_well, "the next cupola up has taken over")

        assert psutil.Process(server).is_running()
        assert (await client.session(session.id)).state is SessionState.READY
        async with kernel_in(visitor, session) as kernel:
            assert (await kernel.run("print(6 * 7)")).text.strip() == "42"
        # The hub knows it still: stopping works.
        await client.stop_session(session.id)
        await until(lambda: not psutil.pid_exists(server), "the session ends when asked to")


@pytest.mark.asyncio
async def test_ctrl_c_leaves_nothing_and_the_next_start_finds_the_state(ours):
    async with signed_in(ours) as (visitor, client):
        session = await launch(client)
        async with kernel_in(visitor, session) as kernel:
            # Something that left its process group, as nohup would.
            await kernel.run("import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)")
            await kernel.run("open('kept.txt', 'w').write('mine')")
    assert len(ours.processes()) >= 7
    ours.stop()
    assert ours.process.returncode == 0, ours.output
    assert ours.processes() == []
    assert "Stopped" in ours.output
    ours.start()
    async with signed_in(ours) as (_, client):
        ended = await client.session(session.id)
        assert ended.state is SessionState.STOPPED
    assert (ours.paths.home(OWNER) / "kept.txt").read_text() == "mine"
    down = ours.run("down")
    assert down.returncode == 0, down.stderr
    assert ours.process.wait(timeout=60) == 0
    assert ours.processes() == []


def test_down_ends_what_a_killed_cupola_up_left(ours):
    ours.kill()
    assert ours.processes()
    down = ours.run("down")
    assert down.returncode == 0, down.stderr
    assert ours.processes() == []
    again = ours.run("down")
    assert "Nothing runs" in again.stdout


def test_a_second_start_in_the_same_state_is_refused(platform):
    second = platform.run("up")
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "already runs" in second.stderr
    assert platform.address in second.stderr
    assert platform.run("status").returncode == 0


def test_a_taken_port_is_refused_with_the_way_out(new_platform):
    one = new_platform()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", one.port))
        stranger.listen(1)
        refused = one.run("up")
    assert refused.returncode == 1
    assert f"port {one.port} is taken" in refused.stderr
    assert "--port" in refused.stderr
    assert one.processes() == []


def test_an_interrupted_start_leaves_nothing(new_platform):
    one = new_platform()
    process = subprocess.Popen(
        [sys.executable, "-m", "cupola.cli", "up", "--config", str(one.config_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=one.environment(),
        text=True,
    )
    with process:
        for line in process.stdout:
            if "Starting the hub" in line:
                process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert one.processes() == []
    assert one.run("status").returncode == 1


def test_status_says_what_runs(platform):
    status = platform.run("status", "--json")
    assert status.returncode == 0, status.stderr
    said = json.loads(status.stdout)
    assert said["address"] == platform.address
    assert said["hub"]
    assert said["proxy"]
    assert platform.address in platform.run("status").stdout


INSTALL = """
import os, subprocess, sys
pip = os.path.join(os.path.dirname(os.environ['CUPOLA_PYTHON']), 'pip')
done = subprocess.run([pip, 'install', '-q', '--no-index', '--disable-pip-version-check', {wheels}],
    capture_output=True, text=True)
print(done.returncode, done.stderr)
"""
LOOK = "import madeup, wcwidth; print(madeup.__file__, wcwidth.__version__)"


@pytest.mark.asyncio
async def test_what_a_user_installs_stays_in_the_overlay_and_wins_in_kernels(platform, tmp_path):
    wheels = [
        make_wheel(tmp_path, "madeup", "1.0", "x = 1\n"),
        make_wheel(tmp_path, "wcwidth", "99.0", "__version__ = '99.0'\n"),
    ]
    async with signed_in(platform) as (visitor, client):
        session = await launch(client)
        version = session.version.removeprefix("sha256:")[:12]
        locked = platform.paths.environments / "lab" / version / "lib" / "python3.11" / "site-packages"
        before = sorted(file.name for file in locked.iterdir())
        async with kernel_in(visitor, session) as kernel:
            said = await kernel.run(INSTALL.format(wheels=", ".join(repr(str(wheel)) for wheel in wheels)))
            assert said.text.startswith("0"), said
        async with kernel_in(visitor, session) as kernel:
            place, found = (await kernel.run(LOOK)).text.split()
        overlay = platform.paths.home(OWNER) / ".cupola" / "environments" / version
        assert place.startswith(f"{overlay}/")
        assert found == "99.0"
        assert sorted(file.name for file in locked.iterdir()) == before
        await client.stop_session(session.id)
        clean = await launch(client, clean=True)
        async with kernel_in(visitor, clean) as kernel:
            found = (await kernel.run("import wcwidth; print(wcwidth.__version__)")).text.strip()
            assert found != "99.0"
        await client.stop_session(clean.id)


@pytest.mark.asyncio
async def test_an_address_with_odd_characters_reaches_the_session_as_it_is(platform):
    async with signed_in(platform) as (visitor, client):
        session = await launch(client)
        name = "50% of #1; a b/ü?"
        folder = platform.paths.home(OWNER) / name.partition("/")[0]
        folder.mkdir(exist_ok=True)
        (folder / "ü?").write_text("here")
        await visitor.http.get(f"/user/{OWNER}/{session.id}/lab")
        answer = await visitor.http.get(f"/user/{OWNER}/{session.id}/api/contents/{quote(name)}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["content"] == "here"
        await client.stop_session(session.id)


def test_a_hub_that_cannot_start_is_said_in_one_sentence_and_leaves_nothing(new_platform):
    one = new_platform()
    one.paths.hub.mkdir(parents=True)
    (one.paths.hub / "jupyterhub.sqlite").write_text("this is no database")
    refused = one.run("up", seconds=240)
    assert refused.returncode == 1
    assert refused.stderr.startswith("the hub does not start")
    assert refused.stderr.count("\n") == 1
    assert "hub.log" in refused.stderr
    assert one.processes() == []


TERMINAL = """
import pathlib, subprocess
pathlib.Path("salt.txt").write_text("NaCl")
pathlib.Path("jobs.py").write_text("def size(path): return len(open(path).read())")
for told in (
    ["run", "jobs.py:size", "salt.txt", "--name", "sizes", "--wait"],
    ["run", "--command", "cp {input} {output}", "--output", "{stem}.copy", "salt.txt", "--wait"],
    ["ps"],
):
    done = subprocess.run(["cupola", *told], capture_output=True, text=True)
    print(done.returncode, done.stderr)
print(*(path.read_text() for path in pathlib.Path().glob("salt.copy")))
"""


@pytest.mark.asyncio
async def test_jobs_from_a_sessions_terminal_and_from_elsewhere(platform):
    async with signed_in(platform) as (visitor, client):
        session = await launch(client)
        async with kernel_in(visitor, session) as kernel:
            said = (await kernel.run(TERMINAL)).text
        assert [line[:2] for line in said.splitlines() if line[:1].isdigit()] == ["0 ", "0 ", "0 "], said
        assert said.rstrip().endswith("NaCl")
        job = next(job for job in (await client.jobs()).items if job.name == "sizes")
        assert (job.counts.done, job.session, job.version) == (1, session.id, session.version)
        elsewhere = {
            "CUPOLA_API_URL": client.url,
            "CUPOLA_TOKEN": client._http.headers["authorization"].split()[1],
        }
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "cupola.cli", "ps", "--all", "--json"],
            env={**platform.environment(), **elsewhere},
            capture_output=True,
            check=True,
        )
        assert {one["name"] for one in json.loads(done.stdout)["jobs"]} >= {"sizes", "cp"}
        await client.stop_session(session.id)
