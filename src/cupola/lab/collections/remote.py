"""Files on other machines, read in place: addresses as GDAL wants them, and how it asks for them.

``https://`` files are read by ranges, ``s3://`` objects with the usual variables: ``AWS_ACCESS_KEY_ID`` and
``AWS_SECRET_ACCESS_KEY`` (or ``AWS_PROFILE``), ``AWS_REGION``, ``AWS_ENDPOINT_URL`` for a store that is not Amazon's,
``AWS_REQUEST_PAYER=requester`` where the reader pays. Without keys, requests are anonymous. Buckets that a profile names
have its keys (`keys`).
"""

from __future__ import annotations

import contextlib
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit, uses_relative

from cupola.lab.collections.keys import Store, bucket_of, session_store, set_here, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "gdal_path",
    "is_address",
    "join",
    "named",
    "opening",
    "prepare",
    "sentence",
    "status_words",
]

_TOO_MANY = 429
_BROKEN = 500
_SAFE = "%/:?&=#+,;@~!*'()[]$"
_failed: set[str] = set()
"""Addresses that could not be opened at the last try."""
_SETTINGS = {
    # A server that is busy is asked again; one that hangs must not hang a tile.
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    # Neighbouring blocks in one request, and the header with the first.
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "5000000",
}


def is_address(text: str) -> bool:
    """Tell whether a text names something on another machine."""
    return urlsplit(text).scheme in ("http", "https", "s3", "stac+http", "stac+https")


@lru_cache(maxsize=1)
def _prepared(store: Store) -> None:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if store.host:
        os.environ["AWS_S3_ENDPOINT"] = store.host
        os.environ["AWS_HTTPS"] = "NO" if store.scheme == "http" else "YES"
        os.environ.setdefault("AWS_VIRTUAL_HOSTING", "FALSE")
    if store.anonymous:
        # Otherwise GDAL looks for the keys of a cloud machine, which takes seconds where there is none.
        os.environ["AWS_NO_SIGN_REQUEST"] = "YES"
        set_here.add("AWS_NO_SIGN_REQUEST")
    elif "AWS_NO_SIGN_REQUEST" in set_here:
        # Keys were given meanwhile.
        set_here.discard("AWS_NO_SIGN_REQUEST")
        os.environ.pop("AWS_NO_SIGN_REQUEST", None)


def prepare() -> None:
    """Tell GDAL how to read from servers; it looks at the environment for each request."""
    _prepared(session_store())


def gdal_path(address: str) -> str:
    """Return an address the way GDAL wants it; a local path stays as it is."""
    scheme, _, rest = address.partition("://")
    if scheme == "s3":
        return f"/vsis3/{rest}"
    if scheme in ("http", "https"):
        # Blanks and the like in a name must arrive as a browser would send them.
        return f"/vsicurl/{quote(address, safe=_SAFE)}"
    return address


def join(base: str, address: str) -> str:
    """Return an address that may be relative to another one."""
    scheme, colon, rest = base.partition("://")
    if scheme in uses_relative or not colon:
        return urljoin(base, address)
    joined = urljoin(f"https://{rest}", address)
    there, _, path = joined.partition("://")
    return joined if there != "https" or address.startswith("https:") else f"{scheme}://{path}"


@contextlib.contextmanager
def opening(address: str) -> Iterator[str]:
    """Give the address that GDAL opens; servers are not asked for what lies beside a file."""
    if "://" not in address:
        yield address
        return
    import rasterio
    from rasterio.errors import RasterioError

    prepare()
    path = gdal_path(address)
    with rasterio.Env(session=_session(address), GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        if address in _failed:
            _failed.discard(address)
            # GDAL takes a refusal for good; keys may have been mended, or the server be back. Opened like this, it forgets.
            with contextlib.suppress(RasterioError), rasterio.Env(CPL_VSIL_CURL_NON_CACHED=path):
                rasterio.open(path).close()
        try:
            yield path
        except RasterioError:
            _failed.add(address)
            raise


def _session(address: str) -> Any:
    """Return what gives GDAL the keys of a bucket that a profile names; nothing for other addresses.

    An open file keeps the keys that it was opened with.
    """
    store = store_of(bucket_of(address)) if address.startswith("s3://") else None
    if store is None or not store.profile:
        return None
    from rasterio.session import Session

    options = _options(store)

    class Keys(Session):  # type: ignore[misc]
        def get_credential_options(self) -> dict[str, str]:
            return options

    return Keys()


def _options(store: Store) -> dict[str, str]:
    """Return a store as GDAL's options; each of them, as those of the session would hold otherwise."""
    return {
        "AWS_NO_SIGN_REQUEST": "YES" if store.anonymous else "NO",
        "AWS_ACCESS_KEY_ID": store.key,
        "AWS_SECRET_ACCESS_KEY": store.secret,
        "AWS_SESSION_TOKEN": store.token,
        "AWS_REQUEST_PAYER": "requester" if store.payer else "",
        "AWS_REGION": store.region or "us-east-1",
        "AWS_S3_ENDPOINT": store.host or "s3.amazonaws.com",
        "AWS_HTTPS": "NO" if store.scheme == "http" else "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE" if store.host else "TRUE",
    }


def named(address: str) -> str:
    """Return an address as it may be shown: without a password, and without a signature that opens it."""
    address = re.sub(r"(?<=://)[^/@?#\s]*@", "", address)
    signed = re.search(r"[?&](x-(amz|goog)-|sig=|signature=|token=|key=)", address, re.IGNORECASE)
    return f"{address.partition('?')[0]}?…" if signed else address


def sentence(address: str, error: BaseException) -> str:
    """Return why an image on another machine cannot be opened."""
    place = named(address)
    if address.startswith("s3://"):
        from cupola.lab.collections.objects import trouble

        # GDAL hands on the store's words; whose keys were meant, and what can be done, it does not know.
        if (reason := trouble(address)) is not None:
            return str(reason)
    said = " ".join(str(error).split()).replace(address, place)
    status = re.search(r"HTTP response code:? (\d{3})|HTTP/[\d.]+ (\d{3})", said)
    code = next((int(group) for group in status.groups() if group), 0) if status else 0
    if code:
        return f"{place} cannot be read: {status_words(code)}."
    if re.search(r"resolve|connect|timed? ?out|CURL error", said, re.IGNORECASE):
        return f"{place} cannot be reached: look whether the address is right and this session has a way out."
    if re.search(r"does not exist|NoSuch|404", said, re.IGNORECASE):
        return f"{place} cannot be read: there is no such file."
    if re.search(r"credentials|AccessDenied|Forbidden|signature|InvalidAccessKey", said, re.IGNORECASE):
        return f"{place} cannot be read: {status_words(403)}."
    return f"{place} is not an image that Cupola can read in place: {said[:200]}"


def status_words(code: int) -> str:
    """Return what a server's refusal means, and what can be done."""
    if code in (401, 403):
        return "the server asks for other rights (ask its owner for them)"
    if code in (404, 410):
        return "there is no such file or collection"
    if code == _TOO_MANY:
        return "the server has had too many requests from here; try again in a few minutes"
    if code >= _BROKEN:
        return f"the server is out of order (it answers {code}); try again later"
    return f"the server answers {code}"
