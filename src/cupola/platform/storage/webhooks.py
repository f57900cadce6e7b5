"""Webhooks: JSON for an address that a person named, which may lead to nothing that only this machine can reach.

The address and the secret that signs lie in files for the platform's account only, and nothing ever shows them again:
whoever knows the address of a chat's webhook can write there.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError

from cupola.exceptions import InputError, NotAllowedError, UnavailableError
from cupola.models.base import Model
from cupola.platform.storage.mounts.addresses import AddressRule, is_public

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Hook", "HookStore", "WebhookCaller"]

_ALL_SECONDS = 15.0
"""Longest for a whole call: a server that sends a byte now and then is never silent."""
_ANSWER_BYTES = 4096
_PORTS = range(1, 2**16)
_SHOWN = 120
_FOR_EVER = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.GONE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""Answers that a second try does not change. 404 is none: a proxy says so too while what is behind it restarts."""


class Hook(Model):
    """A person's webhook."""

    address: str
    secret: str = ""


class HookStore:
    """Keeps people's webhooks below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, person: str) -> Hook | None:
        """Return the webhook of a person, if there is one."""
        try:
            return Hook.model_validate_json(self._file(person).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, person: str, hook: Hook | None) -> None:
        """Keep or forget a webhook; a reader sees the old or the new one.

        Raises
        ------
        OSError
            The disk is full; the old one is kept.
        """
        file = self._file(person)
        if hook is None:
            file.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = self._folder / f".{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(hook.model_dump_json().encode())
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)

    def _file(self, person: str) -> Path:
        # A name of any letters is a name of a file then.
        return self._folder / f"{hashlib.sha256(person.encode()).hexdigest()[:40]}.json"


class WebhookCaller:
    """Calls webhooks.

    Parameters
    ----------
    allow
        Hosts and networks that may be called though they are private, or speak http.
    patience
        Longest for one call, in seconds.
    """

    def __init__(self, allow: tuple[str, ...] = (), *, patience: float = _ALL_SECONDS) -> None:
        self._rule = AddressRule(allow)
        self._patience = patience
        self._trust: ssl.SSLContext | None = None

    def check(self, address: str) -> str:
        """Return the host of an address that could be a webhook; where it leads is looked at by each call.

        Raises
        ------
        InputError
            It is none.
        """
        try:
            url = httpx.URL(address)
            port = url.port
        except (httpx.InvalidURL, ValueError) as error:
            raise InputError("This is no address: paste the one that the chat gave you.") from error
        if url.scheme not in {"https", "http"} or not url.host or (port is not None and port not in _PORTS):
            raise InputError("A webhook begins with https://: paste the address that the chat gave you.")
        if url.userinfo:
            raise InputError("A webhook's address has no name and password in it: take them away.")
        if url.scheme == "http" and not self._rule.names(url.host):
            raise InputError(
                f"A webhook begins with https://, so that nobody on the way reads it: {url.host} is not among the hosts "
                "that the platform's administrator allows without."
            )
        return url.host

    async def inspect(self, address: str) -> str:
        """Return the host of an address that may be a webhook as things are now.

        Raises
        ------
        InputError, NotAllowedError
            It may not.
        UnavailableError
            Nobody knows its name.
        """
        host, url = self.check(address), httpx.URL(address)
        await self._judged(url.raw_host.decode("ascii"), url.port or _port(url))
        return host

    async def call(self, hook: Hook, content: dict[str, Any], key: str) -> None:
        """Send JSON to a webhook.

        Parameters
        ----------
        hook
            The webhook.
        content
            What to send.
        key
            Stays the same when the same is sent again.

        Raises
        ------
        InputError, NotAllowedError
            It must not be called, or will never take it.
        UnavailableError
            It does not take it now.
        """
        host, url = self.check(hook.address), httpx.URL(hook.address).copy_with(fragment=None)
        addresses = await self._judged(url.raw_host.decode("ascii"), url.port or _port(url))
        if self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context)
        try:
            async with asyncio.timeout(self._patience):
                status, said = await self._post(
                    url, addresses, hook.secret, json.dumps(content).encode(), key
                )
        except TimeoutError as error:
            raise UnavailableError(
                f"The webhook at {host} took longer than {self._patience:.0f} s."
            ) from error
        except httpx.HTTPError as error:
            raise UnavailableError(f"The webhook at {host} does not answer ({_reason(error)}).") from error
        if HTTPStatus(200) <= status < HTTPStatus(300):
            return
        if HTTPStatus(300) <= status < HTTPStatus(400):
            raise NotAllowedError(
                f"The webhook at {host} leads elsewhere (HTTP {status}): name the address that it leads to."
            )
        kind = NotAllowedError if status in _FOR_EVER else UnavailableError
        raise kind(f"The webhook at {host} answers HTTP {status}{f': {said}' if said else ''}.")

    async def _post(
        self, url: httpx.URL, addresses: list[str], secret: str, body: bytes, key: str
    ) -> tuple[int, str]:
        headers = {
            # The name that was asked for; the connection goes to the address that was judged, and is asked for no name.
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "Cupola",
            "Idempotency-Key": key,
            "X-Cupola-Delivery": key,
            "Accept-Encoding": "identity",
        }
        if secret:
            signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Hub-Signature-256"] = f"sha256={signature}"
        name = url.raw_host.decode("ascii")
        for number, address in enumerate(addresses, start=1):
            try:
                return await self._post_to(url.copy_with(host=address), name, headers, body)
            except httpx.ConnectError:
                if number == len(addresses):
                    raise
        raise UnavailableError(f"The name {name} leads nowhere just now: check it.")

    async def _post_to(
        self, there: httpx.URL, name: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, str]:
        """Send to an address that was judged; nothing looks the name up again."""
        said = b""
        # trust_env: a proxy of the environment would look the name up by itself.
        async with (
            httpx.AsyncClient(verify=self._trust or True, trust_env=False, timeout=self._patience) as client,
            client.stream(
                "POST",
                there,
                content=body,
                headers=headers,
                extensions={"sni_hostname": name},
                follow_redirects=False,
            ) as answer,
        ):
            # What a private host says is for nobody here: the call alone was allowed.
            if answer.status_code >= HTTPStatus.BAD_REQUEST and is_public(ipaddress.ip_address(there.host)):
                async for block in answer.aiter_raw():
                    said += block
                    if len(said) > _ANSWER_BYTES:
                        break
            return answer.status_code, _line(said[:_ANSWER_BYTES])

    async def _judged(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host`, if all of them may be called."""
        try:
            return await self._rule.resolve(host, port)
        except NotAllowedError as error:
            raise NotAllowedError(
                f"{host} lies at a private address, where no webhook may lie: whoever runs this platform can allow it "
                "under notifications.webhooks.allow."
            ) from error


def _port(url: httpx.URL) -> int:
    return 443 if url.scheme == "https" else 80


def _reason(error: httpx.HTTPError) -> str:
    return _line(str(error).encode()) or "it hung up"


def _line(text: bytes) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text.decode("utf-8", "replace"))
    return " ".join(plain.split())[:_SHOWN]
