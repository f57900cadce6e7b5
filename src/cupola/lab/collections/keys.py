"""Which store a bucket lies in, and whose keys open it.

The session's variables hold for all buckets but those that a profile names for itself in ``~/.aws/config``::

    [profile archive]
    cupola_buckets = eodata, sentinel-*
    endpoint_url = https://store.example.org
    region = default

Its keys are beside it, or in ``~/.aws/credentials`` as for any other program. A profile without keys is asked anonymously;
``cupola_request_payer = requester`` says that the reader pays. Addresses stay as they are (``s3://eodata/...``), so that
chains and STAC items that hold them mean the same to everybody, each with their own keys.
"""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from cupola.exceptions import InputError

__all__ = ["Store", "bucket_of", "has_keys", "session_store", "set_here", "store_of"]

_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Any of these says that the session has keys."""
_YES = ("YES", "TRUE", "1", "ON", "REQUESTER")
_OTHER_WAYS = ("role_arn", "sso_session", "sso_account_id", "credential_process", "web_identity_token_file")

set_here: set[str] = set()
"""Variables that were set for GDAL, by nobody else."""


@dataclass(frozen=True)
class Store:
    """An object store as one bucket is asked for there."""

    profile: str = ""
    """The profile that names the bucket; empty where the session's variables hold."""
    scheme: str = "https"
    host: str = ""
    """With its port; empty for Amazon's own."""
    region: str = ""
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    anonymous: bool = False
    payer: bool = False
    """Whether the reader agrees to pay."""

    @property
    def place(self) -> str:
        """How the store is called in a sentence."""
        return self.host or "Amazon S3"


def bucket_of(address: str) -> str:
    """Return the bucket of ``s3://bucket/name``."""
    return address.removeprefix("s3://").lstrip("/").partition("/")[0]


def has_keys() -> bool:
    """Tell whether the session has keys for the buckets that no profile names."""
    if any(os.environ.get(name) for name in _KEYS):
        return True
    said = _profiles().get("default", {})
    return any(said.get(way) for way in ("aws_access_key_id", *_OTHER_WAYS))


def store_of(bucket: str) -> Store:
    """Return where a bucket lies and the keys for it.

    Raises
    ------
    InputError
        When the profile that names it cannot be used.
    """
    for name, said in _profiles().items():
        wanted = [one.strip() for one in said.get("cupola_buckets", "").replace("\n", ",").split(",")]
        if any(one and fnmatchcase(bucket, one) for one in wanted):
            return _of_profile(name, said)
    return session_store()


def session_store() -> Store:
    """Return the store that the session's variables speak of; keys that are no variables are found by who asks there."""
    scheme, host = _split(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    return Store(
        scheme=scheme,
        host=host,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "",
        key=os.environ.get("AWS_ACCESS_KEY_ID", ""),
        secret=os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        token=os.environ.get("AWS_SESSION_TOKEN", ""),
        anonymous=_unsigned() or not has_keys(),
        payer=os.environ.get("AWS_REQUEST_PAYER", "").upper() in _YES,
    )


def _unsigned() -> bool:
    """Tell whether the session is told to leave its keys out; what was set here says nothing of that."""
    name = "AWS_NO_SIGN_REQUEST"
    return name not in set_here and os.environ.get(name, "").upper() in _YES


def _of_profile(name: str, said: dict[str, str]) -> Store:
    key, secret = said.get("aws_access_key_id", ""), said.get("aws_secret_access_key", "")
    other = next((way for way in _OTHER_WAYS if said.get(way)), "")
    if bool(key) != bool(secret) or (other and not key):
        has = f"gets its keys by {other}" if other and not key else "has only half of a pair of keys"
        raise InputError(
            f"The profile {name!r} of ~/.aws/config {has}: a profile with cupola_buckets needs aws_access_key_id and "
            "aws_secret_access_key, or neither for buckets that everybody may read."
        )
    scheme, host = _split(said.get("endpoint_url", ""))
    payer = said.get("cupola_request_payer", "").upper() in _YES
    token = said.get("aws_session_token", "")
    return Store(name, scheme, host, said.get("region", ""), key, secret, token, not key, payer)


def _split(endpoint: str) -> tuple[str, str]:
    if not endpoint:
        return "https", ""
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _credentials_file() -> Path:
    return Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()


def _config_file() -> Path:
    return Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()


def _profiles() -> dict[str, dict[str, str]]:
    """Return what both files say of each profile; keys of the credentials file come first, as for Amazon's tools."""
    found: dict[str, dict[str, str]] = {}
    for file in (_config_file(), _credentials_file()):
        for section, said in _sections(str(file), *_stamp(file)).items():
            found.setdefault(section.removeprefix("profile ").strip(), {}).update(said)
    return found


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _sections(file: str, mtime: int, _size: int) -> dict[str, dict[str, str]]:
    """Return the sections of a file while it does not change.

    Raises
    ------
    InputError
        When it cannot be understood; the text holds nothing of what it says.
    """
    if mtime < 0:
        return {}
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, default_section="\0", comment_prefixes=("#", ";")
    )
    try:
        parser.read_string(Path(file).read_text(encoding="utf-8"))
    except (configparser.Error, OSError, ValueError):
        # The error of the parser would show the line, which may be a key.
        raise InputError(
            f"{file} cannot be read: write profiles as [name], and below it lines as key = value."
        ) from None
    return {name: dict(parser[name]) for name in parser.sections()}
