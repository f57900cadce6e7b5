"""Whether the machine behind a volume answers, without mounting anything."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from cupola.models.volume import Bucket, Export

__all__ = ["probe_bucket", "probe_export"]

_SECONDS = 6.0
_NFS_PORT = 2049


async def probe_bucket(bucket: Bucket, *, proxy: str | None = None) -> str | None:
    """Return why a bucket cannot be read, in a sentence; nothing where it can, as far as a stranger can tell.

    Parameters
    ----------
    bucket
        The bucket.
    proxy
        What the connection goes through.
    """
    address = f"{bucket.endpoint.rstrip('/')}/{quote(bucket.bucket)}"
    wanted = {"list-type": "2", "max-keys": "1"}
    try:
        async with (
            asyncio.timeout(_SECONDS),
            httpx.AsyncClient(proxy=proxy, timeout=_SECONDS) as http,
            # The status is enough: the body may be as long as the store likes.
            http.stream("GET", address, params=wanted) as answer,
        ):
            return _judged(bucket, answer.status_code)
    except TimeoutError:
        return f"{bucket.endpoint} gives no answer."
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{bucket.endpoint} cannot be reached ({_short(error)})."


def _judged(bucket: Bucket, status: int) -> str | None:
    if status == httpx.codes.NOT_FOUND:
        return f"{bucket.endpoint} has no bucket {bucket.bucket}: check the name."
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN} and bucket.anonymous:
        return f"{bucket.endpoint} lets nobody read the bucket {bucket.bucket} without keys."
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return f"{bucket.endpoint} has trouble of its own (status {status})."
    return None


def _short(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__


async def probe_export(export: Export) -> str | None:
    """Return why an export cannot be reached, in a sentence; nothing where its server answers."""
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(export.server.strip("[]"), _NFS_PORT)
    except TimeoutError:
        return f"{export.server} gives no answer."
    except OSError as error:
        return f"{export.server} cannot be reached ({error.strerror or error})."
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None
