"""Files on other machines, read in place: addresses as GDAL wants them, and how it asks for them.

``https://`` files are read by ranges, ``s3://`` objects with the usual variables: ``AWS_ACCESS_KEY_ID`` and
``AWS_SECRET_ACCESS_KEY`` (or ``AWS_PROFILE``), ``AWS_REGION``, ``AWS_ENDPOINT_URL`` for a store that is not Amazon's,
``AWS_REQUEST_PAYER=requester`` where the reader pays. Without keys, requests are anonymous.
"""

from __future__ import annotations

import contextlib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, uses_relative

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "anonymous",
    "endpoint",
    "gdal_path",
    "is_address",
    "join",
    "opening",
    "prepare",
    "sentence",
    "status_words",
]

_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Any of these says that there are keys."""
_TOO_MANY = 429
_BROKEN = 500
_SAFE = "%/:?&=#+,;@~!*'()[]$"
_ours: set[str] = set()
"""Variables that were set here, by nobody else."""
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


def anonymous() -> bool:
    """Tell whether object stores are asked without keys: none are given, or the environment says so."""
    asked = os.environ.get("AWS_NO_SIGN_REQUEST", "").upper()
    if asked in ("YES", "TRUE", "1", "ON") and "AWS_NO_SIGN_REQUEST" not in _ours:
        return True
    files = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config",
    ]
    return not any(os.environ.get(name) for name in _KEYS) and not any(
        Path(file).expanduser().is_file() for file in files
    )


def endpoint() -> tuple[str, str] | None:
    """Return scheme and host of the object store that the environment names; nothing for Amazon's own."""
    text = next(
        (os.environ[name] for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if os.environ.get(name)), ""
    )
    if not text:
        return None
    parts = urlsplit(text if "://" in text else f"https://{text}")
    return parts.scheme, parts.netloc


@lru_cache(maxsize=1)
def _prepared(_environment: tuple[str | None, ...]) -> None:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    store = endpoint()
    if store is not None:
        os.environ["AWS_S3_ENDPOINT"] = store[1]
        os.environ["AWS_HTTPS"] = "NO" if store[0] == "http" else "YES"
        os.environ.setdefault("AWS_VIRTUAL_HOSTING", "FALSE")
    if anonymous():
        # Otherwise GDAL looks for the keys of a cloud machine, which takes seconds where there is none.
        os.environ["AWS_NO_SIGN_REQUEST"] = "YES"
        _ours.add("AWS_NO_SIGN_REQUEST")
    elif "AWS_NO_SIGN_REQUEST" in _ours:
        # Keys were given meanwhile.
        _ours.discard("AWS_NO_SIGN_REQUEST")
        os.environ.pop("AWS_NO_SIGN_REQUEST", None)


def prepare() -> None:
    """Tell GDAL how to read from servers; it looks at the environment for each request."""
    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", *_KEYS)
    _prepared(tuple(os.environ.get(name) for name in names))


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

    prepare()
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        yield gdal_path(address)


def sentence(address: str, error: BaseException) -> str:
    """Return why an image on another machine cannot be opened."""
    said = " ".join(str(error).split())
    status = re.search(r"HTTP response code:? (\d{3})|HTTP/[\d.]+ (\d{3})", said)
    code = next((int(group) for group in status.groups() if group), 0) if status else 0
    if code:
        return f"{address} cannot be read: {status_words(code)}."
    if re.search(r"resolve|connect|timed? ?out|CURL error", said, re.IGNORECASE):
        return (
            f"{address} cannot be reached: look whether the address is right and this session has a way out."
        )
    if re.search(r"does not exist|NoSuch|404", said, re.IGNORECASE):
        return f"{address} cannot be read: there is no such file."
    if re.search(r"credentials|AccessDenied|Forbidden|signature|InvalidAccessKey", said, re.IGNORECASE):
        return f"{address} cannot be read: {status_words(403)}."
    return f"{address} is not an image that Cupola can read in place: {said[:200]}"


def status_words(code: int) -> str:
    """Return what a server's refusal means, and what can be done."""
    if code in (401, 403):
        return "the server asks for other rights (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ask its owner)"
    if code in (404, 410):
        return "there is no such file or collection"
    if code == _TOO_MANY:
        return "the server has had too many requests from here; try again in a few minutes"
    if code >= _BROKEN:
        return f"the server is out of order (it answers {code}); try again later"
    return f"the server answers {code}"
