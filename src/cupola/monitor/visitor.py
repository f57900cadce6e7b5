"""A person without a browser: signs in, launches, opens a kernel, looks at tiles, all over HTTP.

Everything goes through the proxy with the cookies and form tokens that a browser would carry, so that what a
visitor sees is what people see.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin

import httpx

from cupola.exceptions import CupolaError, NotFoundError, NotSignedInError, StartError, UnavailableError
from cupola.models.datalab import Datalab
from cupola.models.job import Job
from cupola.models.session import Session, SessionState
from cupola.monitor.forms import forms_of
from cupola.monitor.kernel import Kernel

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Visitor"]

API = "/services/cupola/api"


class Visitor:
    """One signed-in person.

    Parameters
    ----------
    address
        The platform's address, such as ``http://127.0.0.1:8000``.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        # What a browser accepts when a person opens an address; scripts (the REST calls below) accept JSON.
        accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        self.http = httpx.AsyncClient(
            base_url=self.address, headers=accept, follow_redirects=True, timeout=60, trust_env=False
        )
        self._kernels: list[Kernel] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for kernel in self._kernels:
            await kernel.close()
        await self.http.aclose()

    # -- signing in -----------------------------------------------------------------------------------------

    async def sign_in(self, link: str) -> str:
        """Open a one-time link, send the form it shows, and return the address of the page one lands on.

        Raises
        ------
        NotSignedInError
            The link was used before or has ended.
        """
        page = await self.http.get(link)
        forms = [form for form in forms_of(page.text) if form.method == "post"]
        if page.status_code != httpx.codes.OK or not forms:
            raise NotSignedInError(f"the sign-in link was refused (HTTP {page.status_code})")
        landed = await self.http.post(urljoin(str(page.url), forms[0].action), data=forms[0].fields)
        if landed.status_code != httpx.codes.OK:
            raise NotSignedInError(f"signing in ended at {landed.url} with HTTP {landed.status_code}")
        return landed.url.path

    # -- the portal -----------------------------------------------------------------------------------------

    async def get(self, path: str) -> httpx.Response:
        """Fetch an address of the platform, as the browser's address bar or a page's script would."""
        accept = {"Accept": "application/json"} if path.startswith(API) else {}
        return _good(await self.http.get(path, headers=accept))

    async def datalabs(self) -> list[Datalab]:
        """Return the catalogue."""
        answer = await self.get(f"{API}/datalabs")
        return [Datalab.model_validate(item) for item in answer.json()["items"]]

    async def press_play(self, datalab: str) -> str:
        """Press the play button of `datalab` on the catalogue page; return the new session's id.

        Raises
        ------
        NotFoundError
            The catalogue shows no play button for it.
        """
        page = await self.get("/services/cupola/")
        for form in forms_of(page.text):
            if form.method == "post" and form.fields.get("datalab") == datalab:
                landed = _good(await self.http.post(urljoin(str(page.url), form.action), data=form.fields))
                return landed.url.path.split("/sessions/")[1].split("/")[0]
        raise NotFoundError(f"the catalogue shows no play button for {datalab!r}")

    async def session(self, session: str) -> Session:
        """Return one session."""
        return Session.model_validate((await self.get(f"{API}/sessions/{session}")).json())

    async def wait_for(self, session: str, *wanted: SessionState, seconds: float = 120) -> Session:
        """Follow a session until it is in one of the `wanted` states.

        Raises
        ------
        StartError
            It failed, or was in none of the states after `seconds`.
        """
        async with asyncio.timeout(seconds):
            while True:
                seen = await self.session(session)
                if seen.state in wanted:
                    return seen
                if seen.state is SessionState.FAILED:
                    raise StartError(f"session {session} failed: {seen.reason}")
                await asyncio.sleep(0.05)

    async def press(self, page_path: str, action_ends_with: str) -> httpx.Response:
        """Press the button of the form on a page whose action ends with the given text."""
        page = await self.get(page_path)
        for form in forms_of(page.text):
            if form.method == "post" and form.action.endswith(action_ends_with):
                return _good(await self.http.post(urljoin(str(page.url), form.action), data=form.fields))
        raise NotFoundError(f"{page_path} shows no button for {action_ends_with!r}")

    async def job(self, job: str) -> Job:
        """Return one job."""
        return Job.model_validate((await self.get(f"{API}/jobs/{job}")).json())

    # -- inside a session -----------------------------------------------------------------------------------

    async def open_kernel(self, session: Session) -> Kernel:
        """Start a Python kernel in a ready session and connect to it through the proxy.

        Raises
        ------
        StartError
            The session is not ready.
        """
        prefix = f"/user/{session.owner}/{session.id}/"
        await self.get(f"{prefix}lab")  # signs this browser in at the session's own server
        headers = {"X-XSRFToken": self._cookie("_xsrf", prefix)}
        answer = _good(
            await self.http.post(f"{prefix}api/kernels", headers=headers, json={"name": "python3"})
        )
        address = f"{self.address}{prefix}api/kernels/{answer.json()['id']}/channels"
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies(prefix))
        kernel = await Kernel.connect(address.replace("http", "ws", 1), cookies=cookies, origin=self.address)
        self._kernels.append(kernel)
        return kernel

    def _cookies(self, path: str) -> list[tuple[str, str]]:
        """Return the cookies a browser would send to `path`, longest path first."""
        fitting = [cookie for cookie in self.http.cookies.jar if path.startswith(cookie.path)]
        fitting.sort(key=lambda cookie: len(cookie.path), reverse=True)
        return [(cookie.name, cookie.value or "") for cookie in fitting]

    def _cookie(self, name: str, path: str) -> str:
        for found, value in self._cookies(path):
            if found == name:
                return value
        raise NotSignedInError(f"there is no cookie {name!r} for {path}")


def _good(answer: httpx.Response) -> httpx.Response:
    """Return the answer, or raise with what it says."""
    if answer.is_success:
        return answer
    detail = answer.text[:300]
    if "json" in answer.headers.get("content-type", ""):
        detail = answer.json().get("detail") or answer.json().get("message") or detail
    kind: type[CupolaError] = UnavailableError if answer.is_server_error else CupolaError
    raise kind(f"{answer.request.method} {answer.request.url.path}: HTTP {answer.status_code}: {detail}")
