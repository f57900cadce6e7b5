from __future__ import annotations

import html.parser
import re

import httpx
import pytest
import pytest_asyncio

from cupola.models.job import JobAction
from cupola.platform.handlers.forgery import FIELD
from support import made_up, made_up_jobs

BASE = "http://cupola.test" + made_up.PREFIX
PAGES = [
    "",
    "datalabs/lab",
    "datalabs/topcat",
    "launch",
    "launch?session=lab-7k2m9xq4",
    "launch?datalab=lab&cores=64&memory_mib=8192&volumes=bare,nothing&env=A&title=x&shared=true",
    "launch?product=sha256:gone",
    "sessions",
    "sessions/lab-7k2m9xq4",
    "sessions/lab-big23456",
    "sessions/lab-start123/starting",
    "sessions/lab-fail2345/starting",
    "sessions/lab-old23456/starting",
    "sessions/lab-fail2345/log",
    "data",
    "data?q=hubble&kind=custom",
    "data?q=nothing+at+all",
    "data/home",
    "data/sample-archive",
    "data/hst-acs",
    "data/mars-archive",
    "data/hst-acs/change",
    "data/hst-acs/example/lab-start123",
    "volumes/add",
    "jobs",
    *(f"jobs/{job.id}" for job in made_up.jobs()),
    "jobs/job-partly/tasks/3",
    "design",
]
COOKIE = {"service-cupola": "token-of-ada"}


class Elements(html.parser.HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def app():
    return made_up.application()


@pytest_asyncio.fixture
async def browser(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Accept": "text/html"}
    async with httpx.AsyncClient(
        transport=transport, base_url=BASE, headers=headers, cookies=COOKIE
    ) as client:
        yield client


@pytest.mark.asyncio
@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_whole_and_obeys_its_own_policy(browser, path):
    answer = await browser.get(path)
    assert answer.status_code == 200
    page = Elements(answer.text)
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))
    assert not page.all("style")
    assert all("src" in script for script in page.all("script"))
    for tag, attributes in page.found:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "action", "hx-get", "sse-connect"):
            # Nothing comes from elsewhere.
            assert attributes.get(name, made_up.PREFIX).startswith(("/", "#", "?")), attributes


@pytest.mark.asyncio
async def test_all_files_that_pages_name_are_there_and_change_their_address_with_their_content(browser):
    seen = set()
    for path in PAGES:
        page = Elements((await browser.get(path)).text)
        for _, attributes in page.found:
            seen |= {
                attributes[name] for name in ("src", "href") if "/static/" in (attributes.get(name) or "")
            }
    assert len(seen) > 10
    for address in seen:
        answer = await browser.get("http://cupola.test" + address)
        assert answer.status_code == 200, address
        assert re.search(r"\?v=[0-9a-f]{12}$", address)


@pytest.mark.asyncio
@pytest.mark.parametrize("path", PAGES)
async def test_every_form_that_changes_something_carries_the_token_and_leads_somewhere(app, browser, path):
    posts = re.findall(r'<form[^>]*method="post".*?</form>', (await browser.get(path)).text, re.DOTALL)
    token = re.compile(rf'name="{FIELD}" value="[0-9a-f]{{64}}"')
    scope = {"type": "http", "method": "POST", "root_path": ""}
    for form in posts:
        assert token.search(form), form
        action = re.search(r'action="([^"]+)"', form)[1]
        if not action.endswith("/logout"):
            matches = [route.matches({**scope, "path": action})[0].name for route in routes(app)]
            assert "FULL" in matches, action


def routes(app):
    found, todo = [], list(app.routes)
    while todo:
        route = todo.pop()
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        if inner:
            todo.extend(inner)
        found.append(route)
    return found


@pytest.mark.asyncio
async def test_text_of_people_stays_text(browser):
    assert "albedo &lt;b&gt;map&lt;/b&gt;" in (await browser.get("jobs")).text
    lab = (await browser.get("datalabs/lab")).text
    assert "<script>alert" not in lab
    assert "&lt;script&gt;alert(1)" in lab


@pytest.mark.asyncio
async def test_the_catalogue_says_what_runs_what_can_run_and_why_not(browser):
    text = (await browser.get("")).text
    assert 'href="/user/ada/lab-7k2m9xq4/lab"' in text
    assert "Ready here" in text
    assert "It needs containers, and this platform runs sessions as processes." in text
    plays = re.findall(r'name="datalab" value="([a-z]+)"', text)
    assert plays == ["lab", "aladin"]
    cards = text.count('<article class="card datalab')
    assert f"2 tools to run, {cards - 2} not now" in text


@pytest.mark.asyncio
async def test_play_launches_and_leads_to_the_page_that_watches(app, browser):
    form = {FIELD: "x", "datalab": "lab", "key": "abc"}
    answer = await browser.post("sessions", data=form)
    assert answer.status_code == 303
    assert answer.headers["location"] == made_up.PREFIX + "sessions/lab-start123/starting"
    [(_, request, key)] = app.state.factory.sessions.asked
    assert (request.datalab, request.version, request.volumes, request.clean) == ("lab", None, None, False)
    assert key == "abc"


@pytest.mark.asyncio
async def test_a_launch_with_choices(app, browser):
    form = {"datalab": "lab", "version": made_up.OLDER, "chosen": "true", "clean": "true", "key": "k"}
    await browser.post("sessions", data=form | {"volumes": ["bare", "sample-archive"]})
    await browser.post("sessions", data=form)
    first, second = (request for _, request, _ in app.state.factory.sessions.asked)
    assert first.version == made_up.OLDER
    assert first.volumes == ["bare", "sample-archive"]
    assert first.clean
    # All boxes empty is a choice too.
    assert second.volumes == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "form",
    [{}, {"datalab": "No Slug!"}, {"datalab": "lab", "cpus": "64"}, {"datalab": "lab", "key": "k" * 65}],
)
async def test_a_form_that_is_none_of_ours_is_refused_with_a_page(app, browser, form):
    answer = await browser.post("sessions", data=form)
    assert answer.status_code == 422
    assert "press play there" in answer.text
    assert not app.state.factory.sessions.asked


@pytest.mark.asyncio
async def test_a_limit_says_the_way_out(browser):
    for _ in range(6):
        answer = await browser.post("sessions", data={"datalab": "lab"})
    assert answer.status_code == 429
    assert "stop one first" in answer.text
    assert f'href="{made_up.PREFIX}sessions">See your sessions' in answer.text


@pytest.mark.asyncio
async def test_a_session_that_is_ready_is_opened(browser):
    answer = await browser.get("sessions/lab-7k2m9xq4/starting")
    assert (answer.status_code, answer.headers["location"]) == (303, "/user/ada/lab-7k2m9xq4/lab")
    steps = await browser.get("sessions/lab-7k2m9xq4/steps")
    assert steps.headers["hx-redirect"] == "/user/ada/lab-7k2m9xq4/lab"


@pytest.mark.asyncio
async def test_a_session_that_starts_is_followed_with_and_without_scripts(browser):
    text = (await browser.get("sessions/lab-start123/starting")).text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in text
    assert 'hx-trigger="every 4s, sse:session-event, look"' in text
    assert f'sse-connect="{made_up.PREFIX}api/sessions/lab-start123/events"' in text
    assert "Preparing your home" in text
    assert 'value="45"' in text


@pytest.mark.asyncio
async def test_a_session_that_failed_says_why_with_its_last_lines_and_a_way_to_try_again(browser):
    text = (await browser.get("sessions/lab-fail2345/starting")).text
    assert "The session ended before it answered (exit code 1): its log says why." in text
    assert "ModuleNotFoundError: numpy" in text
    assert "line 22" in text
    assert "line 20" not in text
    assert "Restart" in text
    assert "http-equiv" not in text
    assert "sse-connect" not in text
    # A page that watched it is loaded anew, which is the one above.
    assert (await browser.get("sessions/lab-fail2345/steps")).headers["hx-refresh"] == "true"


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["sessions/live", "jobs/job-done/live", "jobs/job-partly/failures"])
async def test_a_part_comes_again_only_when_it_changed(browser, path):
    answer = await browser.get(path)
    seen = re.search(r'data-seen="([0-9a-f]+)"', answer.text)[1]
    assert (await browser.get(path, params={"seen": seen})).status_code == 204
    assert (await browser.get(path, params={"seen": "0" * 16})).status_code == 200


@pytest.mark.asyncio
async def test_only_what_can_change_is_asked_for_again(browser):
    assert "hx-get" in (await browser.get("jobs/job-running/live")).text
    assert "hx-get" not in (await browser.get("jobs/job-done/live")).text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("job", "deeds"),
    [
        ("job-running", {"hold", "cancel"}),
        ("job-queued", {"hold", "cancel"}),
        ("job-held", {"release", "cancel"}),
        ("job-partly", {"retry"}),
        ("job-cancelled", {"retry"}),
        ("job-done", set()),
    ],
)
async def test_a_job_offers_what_its_state_allows(app, browser, job, deeds):
    text = (await browser.get(f"jobs/{job}/live")).text
    assert set(re.findall(r'name="action" value="([a-z]+)"', text)) == deeds
    assert (f"jobs/{job}/delete" in text) == (not made_up_job(job).state.active)
    for deed in deeds:
        answer = await browser.post(f"jobs/{job}/act", data={"action": deed})
        assert answer.headers["location"] == f"{made_up.PREFIX}jobs/{job}?said={deed}"
        assert app.state.factory.jobs.asked[-1] == (JobAction(deed), job)


@pytest.mark.asyncio
async def test_a_button_says_what_it_does_and_why_not_now(browser):
    text = (await browser.get("jobs/job-partly/live")).text
    assert "Run again the inputs that failed or were cancelled" in text
    assert re.search(r'id="hold" disabled aria-describedby="says-hold"', text)
    assert "Not now: It does not wait or run now." in text


@pytest.mark.asyncio
async def test_hints_rate_and_where_a_job_runs_are_told(browser):
    text = (await browser.get("jobs/job-running/live")).text
    assert made_up_jobs.HINT in html.unescape(text)
    assert "<dt>inputs a minute</dt><dd>760</dd>" in text
    assert "Runs on <strong>local</strong>" in text
    assert "at most <strong>412</strong> of 1,024 MiB" in text


@pytest.mark.asyncio
async def test_the_list_is_asked_for_by_state_and_text_and_stays_so(app, browser, monkeypatch):
    asked = []
    jobs = app.state.factory.jobs
    found = jobs.jobs

    async def remembered(person, **wish):
        asked.append(wish)
        return await found(person, **wish)

    monkeypatch.setattr(jobs, "jobs", remembered, raising=False)
    text = (await browser.get("jobs?state=failed&text=crater+%26+co")).text
    assert asked[-1]["text"] == "crater & co"
    assert {str(state) for state in asked[-1]["states"]} == {"failed", "partly-failed"}
    assert 'value="crater &amp; co"' in text
    assert "jobs/live?state=failed&amp;text=crater+%26+co&amp;seen=" in text
    assert "jobs?state=failed&amp;text=crater+%26+co&amp;cursor=older" in text
    await browser.get("jobs?state=unheard-of")
    assert asked[-1]["states"] == ()


@pytest.mark.asyncio
async def test_the_page_of_a_task_names_its_inputs(browser):
    assert "<code>scene-3.tif</code>" in (await browser.get("jobs/job-partly/tasks/3")).text


def made_up_job(name):
    return next(job for job in made_up.jobs() if job.id == name)


@pytest.mark.asyncio
async def test_failures_are_told_with_line_inputs_and_traceback(browser):
    text = (await browser.get("jobs/job-partly")).text
    assert "ValueError: operands could not be broadcast" in text
    assert "crater_count:17: return image - background" in text
    assert "M1234567_red.cub" in text
    assert "41, 42, 43, 44, 45" in text
    assert "~~~~~~^~~~~~~~~~~~" in text


@pytest.mark.asyncio
async def test_the_grid_of_10000_tasks_is_small(browser):
    text = (await browser.get("jobs/job-running/live")).text
    assert 'data-runs="done 6120,failed 3,running 8,queued 3869"' in text
    assert 'data-tasks="10000"' in text
    assert len(text) < 20_000


@pytest.mark.asyncio
async def test_what_was_done_is_said_and_nothing_that_a_link_makes_up(browser):
    assert "The session is forgotten." in (await browser.get("sessions?said=deleted")).text
    assert "You won" not in (await browser.get("sessions?said=You+won")).text


@pytest.mark.asyncio
async def test_stop_and_delete(browser):
    answer = await browser.post("sessions/lab-7k2m9xq4/stop")
    assert answer.headers["location"] == made_up.PREFIX + "sessions?said=stopping"
    answer = await browser.post("sessions/lab-7k2m9xq4/delete")
    assert answer.status_code == 409
    assert "stop it first" in answer.text
    answer = await browser.post("sessions/lab-old23456/delete")
    assert answer.headers["location"] == made_up.PREFIX + "sessions?said=deleted"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("nope", 404, "There is no page or thing at this address"),
        ("jobs/nope", 404, "You have no job &#39;nope&#39;"),
        ("jobs/job-done/tasks/2000", 404, "has tasks 0 to 1999, and no task 2000"),
        ("jobs/job-done/tasks/first", 422, "task` is wrong"),
        ("down", 503, "The hub does not answer"),
    ],
)
async def test_errors_look_like_the_other_pages(browser, path, status, sentence):
    answer = await browser.get(path)
    assert answer.status_code == status
    assert sentence in answer.text
    assert "css/tokens.css" in answer.text
    assert ("Try again" in answer.text) == (status == 503)


@pytest.mark.asyncio
async def test_nothing_there_says_what_to_do(app, browser):
    for service in ("sessions", "jobs", "catalogue"):
        getattr(app.state.factory, service).things = list
    assert "Nothing is running" in (await browser.get("sessions")).text
    assert "cupola.map(" in (await browser.get("jobs")).text
    assert "cupola check" in (await browser.get("")).text
