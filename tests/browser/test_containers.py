"""A group on one platform where sessions are containers of the real Lab: each person in a Chromium of their own.

Shared sessions, somebody struck from the list, limits that bite, packages, a full home, volumes: what tests of processes and
of stubs say of these, said here of what a group really uses.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from support import groups
from support.disks import disk
from support.groups import SECOND, ask, id_of, wait_until
from support.oidc import CLIENT, SECRET, OpenID
from support.people import link_of
from support.platform import Platform
from support.wheels import make_wheel

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
OUT_WITHIN = 60
"""Seconds after which whoever is shut out must be out: the promise."""
HOME_MIB = 192

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def quota(tmp_path_factory):
    """A folder on btrfs; or nothing and the reason, where that cannot be mounted."""
    with ExitStack() as mounted:
        try:
            place = mounted.enter_context(disk(tmp_path_factory.mktemp("quota"), "btrfs", 1024))
        except (pytest.skip.Exception, OSError) as why:
            yield None, str(why)
        else:
            yield place, ""


@pytest.fixture(scope="module")
def institute():
    one = OpenID()
    one.person = {"sub": "1001", "preferred_username": "edwin"}
    yield one
    one.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory, images, quota, institute):
    images.have("lab")
    folder = tmp_path_factory.mktemp("group")
    disk_of_homes, _ = quota
    for name in ("kernels", "inbox", "unwanted"):
        (folder / name).mkdir(mode=0o777)
        (folder / name).chmod(0o777)
    make_wheel(folder / "kernels", "asteroids", "1.0", "here = True\n")
    (folder / "people.txt").write_text("# who comes in\ninstitute:edwin\n")
    (folder / "secret").write_text(SECRET + "\n")
    settings = f"""
volumes:
  - {{name: kernels, title: SPICE kernels, path: "{folder}/kernels"}}
  - {{name: inbox, title: Inbox, path: "{folder}/inbox", access: write}}
  - {{name: unwanted, title: Unwanted, path: "{folder}/unwanted"}}
sign_in:
  allow_list: "{folder}/people.txt"
  methods:
    - {{kind: oidc, name: institute, client_id: {CLIENT}, client_secret_file: "{folder}/secret", url: "{institute.url}"}}
"""
    if disk_of_homes:
        settings += f"quotas:\n  kind: btrfs\n  home_gib: {HOME_MIB / 1024}\n"
    one = Platform((disk_of_homes or folder) / "platform", settings=images.settings + settings)
    one.group = folder
    try:
        one.start()
        yield one
    finally:
        one.clean()


@pytest.fixture(scope="module")
def root(place):
    return f"{place.address}/services/cupola"


@pytest.fixture(scope="module")
def chromium():
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield browser
        browser.close()


def new_page(chromium):
    page = chromium.new_context(viewport={"width": 1200, "height": 850}).new_page()
    page.set_default_timeout(90 * SECOND)
    return page


@pytest.fixture(scope="module")
def group(place, chromium):
    """Ada, Mike and Olga, each signed in in a browser of their own."""
    pages = []
    for name in ("ada", "mike", "olga"):
        pages.append(new_page(chromium))
        pages[-1].goto(place.first_link if name == "ada" else link_of(place, name))
        pages[-1].wait_for_url("**/services/cupola/")
    return pages


@pytest.fixture(scope="module")
def ada(group):
    return group[0]


def container_of(engine, lab):
    found = engine.client.containers.list(filters={"label": f"cupola.session={id_of(lab)}"})
    return found[0] if found else None


def picture(page, name):
    """Keep a picture where somebody wants to look at it."""
    if folder := os.environ.get("CUPOLA_LOOK"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


# -- a team in one container ----------------------------------------------------------------------------------


def test_a_team_in_one_session(place, group, root, engine):
    ada, mike, olga = group
    groups.make_team(ada, mike, root)
    lab = groups.play(ada, root)
    assert container_of(engine, lab).labels["cupola.owner"] == "ada"
    groups.put_notebook(ada, lab, "shared.ipynb")
    refused = olga.goto(lab)
    if olga.get_by_role("button", name="Open the session").count():
        with olga.expect_navigation() as going:
            olga.get_by_role("button", name="Open the session").click()
        refused = going.value
    assert refused.status == 403

    groups.share(ada, root, id_of(lab), "full", team="mars-crew")
    groups.open_notebook(ada, lab, "shared.ipynb")
    mike.goto(f"{root}/sessions")
    mike.locator(f"#visit-{id_of(lab)}").click()
    groups.enter(mike, lab)
    groups.open_notebook(mike, lab, "shared.ipynb")
    groups.write_and_run(mike, "import getpass; 6 * 7, getpass.getuser()")
    mike.locator(".jp-OutputArea-output", has_text="(42, 'ada')").wait_for()
    mike.keyboard.press("Control+s")
    saved = place.paths.home("ada") / "shared.ipynb"
    wait_until(lambda: "6 * 7" in saved.read_text(), "the member's edit is saved")
    assert saved.stat().st_uid == place.paths.home("ada").stat().st_uid
    picture(mike, "member-in-the-shared-session")

    # Whoever saves second is asked: nothing is lost in silence.
    groups.write_and_run(ada, "'mine'")
    ada.keyboard.press("Control+s")
    ada.get_by_text(re.compile("has changed on disk|File Changed", re.IGNORECASE)).first.wait_for()
    assert "6 * 7" in saved.read_text()

    look_on(ada, olga, root, lab, saved)
    shut_out(ada, mike, root, lab)
    groups.stop(ada, root, lab)


def look_on(ada, olga, root, lab, saved):
    """Whoever may only look sees the notebook, writes nothing, starts no kernel and reaches none."""
    groups.share(ada, root, id_of(lab), "view", who="olga")
    olga.goto(lab)
    groups.enter(olga, lab)
    groups.open_notebook(olga, lab, "shared.ipynb")
    olga.locator(".jp-Notebook .cm-content", has_text="6 * 7").wait_for()
    before = saved.read_text()
    status, said = ask(olga, lab, "POST", "api/kernels", {})
    assert status == 403
    assert "ask ada for full access" in said["message"]
    status, said = ask(olga, lab, "PUT", "api/contents/mine.txt", {"type": "file", "content": "x"})
    assert status == 403, said
    assert ask(olga, lab, "DELETE", "api/contents/shared.ipynb")[0] == 403
    # The notebook's own kernel runs already; nobody who only looks gets through to it.
    playwright.expect(olga.get_by_text("| Idle")).to_have_count(0)
    assert saved.read_text() == before


def shut_out(ada, mike, root, lab):
    ada.goto(f"{root}/sessions/{id_of(lab)}/shares")
    ada.locator("#revoke-mars-crew").click()
    ada.get_by_text("The share has ended.").wait_for()
    wait_until(
        lambda: ask(mike, lab, "GET", "api/contents")[0] in {401, 403}, "the member is out", OUT_WITHIN
    )
    assert ask(ada, lab, "GET", "api/contents")[0] == 200 or ada.goto(lab).status == 200


# -- struck from the list -------------------------------------------------------------------------------------


def test_whoever_is_struck_from_the_list_is_out_within_the_minute(place, root, chromium, engine):
    edwin = new_page(chromium)
    sockets = []
    edwin.on("websocket", lambda one: "/channels" in one.url and sockets.append(one))
    edwin.goto(f"{place.address}/hub/sign-in/institute/start")
    edwin.wait_for_url("**/services/cupola/")
    token = token_of(edwin, place, "edwin")
    lab = groups.play(edwin, root)
    groups.put_notebook(edwin, lab, "work.ipynb")
    groups.open_notebook(edwin, lab, "work.ipynb")
    groups.write_and_run(edwin, "print('at', 'work')")
    edwin.locator(".jp-OutputArea-output", has_text="at work").wait_for()
    assert container_of(engine, lab) is not None
    kernel = next(one for one in sockets if not one.is_closed())
    assert me(place, token) == 200

    people = place.group / "people.txt"
    people.write_text(people.read_text().replace("institute:edwin\n", ""))

    def out():
        edwin.wait_for_timeout(100)  # Chromium tells of its websockets meanwhile
        return kernel.is_closed() and container_of(engine, lab) is None and me(place, token) in {401, 403}

    wait_until(out, "websocket, container and token are gone", OUT_WITHIN)
    for address in (f"{root}/", lab, f"{lab.removesuffix('/lab')}/api/contents", f"{place.address}/hub/home"):
        answer = edwin.goto(address)
        assert answer.status in {401, 403, 404} or "/hub/login" in edwin.url, f"{address} → {edwin.url}"
    edwin.goto(f"{place.address}/hub/sign-in/institute/start")
    playwright.expect(edwin.get_by_text("have not been let in")).to_be_visible()
    picture(edwin, "struck-from-the-list")
    assert place.paths.home("edwin").joinpath("work.ipynb").exists(), "what was saved is kept"
    edwin.context.close()


def token_of(page, place, name):
    page.goto(f"{place.address}/hub/token")
    address = f"{place.address}/hub/api/users/{name}/tokens"
    status, said = groups.send(page, "POST", address, {"note": "test"})
    assert status in {200, 201}, said
    return said["token"]


def me(place, token):
    headers = {"Authorization": f"token {token}"}
    return httpx.get(
        f"{place.address}/services/cupola/api/me", headers=headers, timeout=30, trust_env=False
    ).status_code


# -- limits and volumes, chosen in the wizard -----------------------------------------------------------------

LOOK = """
import os
print([name for name in ("inbox", "kernels", "unwanted") if os.path.exists(f"volumes/{name}")])
for name in ("kernels", "inbox"):
    try:
        open(f"volumes/{name}/new.txt", "w").write("x")
        print(name, "written")
    except OSError as error:
        print(name, error.strerror)
open("large.txt", "wb").truncate(400 * 2**20)
"""


def test_what_was_chosen_is_mounted_and_limits_bite(place, ada, root, engine):
    lab = launch_small(ada, root)
    limits = container_of(engine, lab).attrs["HostConfig"]
    assert limits["Memory"] == 512 * 2**20
    with groups.cells_in(ada, lab) as run:
        assert run(LOOK).splitlines() == [
            "['inbox', 'kernels']",
            "kernels Read-only file system",
            "inbox written",
        ]
    assert (place.group / "inbox" / "new.txt").stat().st_uid == place.paths.home("ada").stat().st_uid
    lose_a_kernel(ada, root, lab)
    lose_the_server(ada, root, lab)
    # It runs, so it is asked first.
    ada.get_by_role("button", name=re.compile("Restart bigger")).click()
    ada.get_by_role("dialog").get_by_role("button", name="Restart it").click()
    larger = groups.arrived(ada)
    assert id_of(larger) != id_of(lab)
    assert container_of(engine, larger).attrs["HostConfig"]["Memory"] == 2**30
    with groups.cells_in(ada, larger) as run:
        assert run(LOOK).splitlines()[0] == "['inbox', 'kernels']", "its choices are kept"
    groups.stop(ada, root, larger)


def launch_small(page, root):
    page.goto(f"{root}/datalabs/lab")
    page.get_by_role("radio", name="512 MiB").check()
    page.get_by_role("checkbox", name="SPICE kernels").check()
    page.get_by_role("checkbox", name="Inbox").check()
    page.get_by_role("checkbox", name="Unwanted").uncheck()
    page.get_by_role("button", name="Launch", exact=True).click()
    return groups.arrived(page)


def lose_a_kernel(page, root, lab):
    """The kernel of a notebook takes all memory: it is ended, the session lives, and its pages say so."""
    groups.put_notebook(page, lab, "hungry.ipynb")
    groups.open_notebook(page, lab, "hungry.ipynb")
    groups.write_and_run(page, "x = b'x' * 2**30")
    # In the notebook, which goes on: no dialog wants an answer.
    page.locator(".cupola-bar-lost", has_text="It was killed, most likely for want of memory").wait_for()
    assert page.locator(".jp-Dialog").count() == 0
    page.goto(f"{root}/sessions")
    row = page.locator(f"#row-{id_of(lab)}")
    row.get_by_text("used up all of the 512 MiB").wait_for()
    playwright.expect(row.get_by_text("Ready", exact=True)).to_be_visible()
    playwright.expect(row.get_by_role("button", name="Restart bigger")).to_be_visible()
    picture(page, "kernel-out-of-memory")
    page.goto(f"{root}/sessions/{id_of(lab)}")
    happened = page.get_by_role("region", name="What happened")
    playwright.expect(happened.get_by_text("used up all of the 512 MiB")).to_be_visible()
    picture(page, "kernel-out-of-memory-session")


def lose_the_server(page, root, lab):
    """The session's server itself takes too much, by opening a file that is too large for it: it is started again."""
    with suppress(playwright.Error):
        ask(page, lab, "GET", "api/contents/large.txt?content=1")
    log = f"{root}/sessions/{id_of(lab)}/log"
    wait_until(
        lambda: "SIGKILL; it is started again" in page.request.get(log).text(), "the server is started again"
    )
    page.goto(f"{root}/sessions/{id_of(lab)}")
    playwright.expect(page.get_by_text("Ready", exact=True).first).to_be_visible()
    playwright.expect(page.get_by_text("Bigger means")).to_contain_text("1 GiB")
    picture(page, "lost-server")


# -- packages, and a home that is full ------------------------------------------------------------------------

IMPORT = "import asteroids; print(asteroids.here)"
FILL = """
import os
number = 0
for size in (2**22, 2**16, 2**12):
    try:
        while True:
            with open(f"fill-{number}", "wb") as file:
                file.write(os.urandom(size))
                file.flush()
                os.fsync(file.fileno())
            number += 1
    except OSError as error:
        print(error.strerror)
"""


def test_packages_outlive_the_container_and_a_full_home_opens(place, ada, root, quota):
    lab = groups.launch(ada, root, datalab="lab")
    make_wheel(place.paths.home("ada") / "wheels", "asteroids", "1.0", "here = True\n")
    with groups.cells_in(ada, lab) as run:
        assert "ModuleNotFoundError" in run(IMPORT)
        run("%pip install --no-index --find-links wheels -q --disable-pip-version-check asteroids")
        assert run(IMPORT) == "True"
    # Stopped and begun anew; then in another one, and in one that is to be without them.
    groups.stop(ada, root, lab)
    again = groups.launch(ada, root, f"sessions/{id_of(lab)}/restart")
    clean = groups.launch(ada, root, datalab="lab", clean=True)
    another = groups.launch(ada, root, datalab="lab")
    for session, told in ((again, "True"), (clean, "ModuleNotFoundError"), (another, "True")):
        with groups.cells_in(ada, session) as run:
            assert told in run(IMPORT)
    for session in (clean, another):
        groups.stop(ada, root, session)
    if quota[0] is None:
        pytest.skip(quota[1])
    fill_and_open(ada, root, again)


def fill_and_open(page, root, lab):
    """A home is filled to its last byte: the pages say so, it opens all the same, and what is deleted makes room."""
    with groups.cells_in(page, lab) as run:
        assert "Disk quota exceeded" in run(FILL)
    groups.stop(page, root, lab)
    page.goto(f"{root}/sessions")
    page.get_by_text("It is full: nothing can be saved.").wait_for()
    picture(page, "full-home")
    full = groups.play(page, root)
    status, said = ask(
        page, full, "PUT", "api/contents/more.txt", {"type": "file", "format": "text", "content": "x" * 2**20}
    )
    assert status >= 400, "nothing more can be saved"
    assert re.search("quota|full", str(said)), said
    with groups.cells_in(page, full) as run:
        assert run(IMPORT) == "True"
        picture(page, "full-home-lab")
        run("import glob, os\nfor name in glob.glob('fill-*'): os.remove(name)")

    def has_room():
        page.goto(f"{root}/sessions")
        page.get_by_label("Storage of your home").wait_for()
        return page.get_by_text("It is full").count() == 0

    wait_until(has_room, "the page says that there is room again")
    groups.stop(page, root, full)
