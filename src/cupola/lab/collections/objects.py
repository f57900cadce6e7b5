"""Buckets of object stores: listed, read by ranges, and why one refused, in a sentence."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from cupola.exceptions import CupolaError, InputError, NotFoundError, UnavailableError
from cupola.lab.collections.keys import Store, bucket_of, store_of
from cupola.lab.collections.remote import named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ask", "close_at_exit", "explained", "no_bucket", "refusal", "trouble"]

_Answer = TypeVar("_Answer")

_TIMEOUT_S = 30.0
_CONNECT_S = 10.0
_UNKNOWN_KEY = ("INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "UnsupportedAlgorithm")
_WRONG_SECRET = ("SIGNATURE_DOES_NOT_MATCH", "InvalidSecret", "INVALID_SIGNATURE")
_EXPIRED = (
    "ExpiredToken",
    "EXPIRED_TOKEN",
    "TokenRefreshRequired",
    "REQUEST_EXPIRED",
    "RequestTimeTooSkewed",
)
_NOT_ALLOWED = ("ACCESS_DENIED", "AllAccessDisabled", "HTTP status 403", "HTTP status 401")
_SILENT = ("NETWORK_CONNECTION", "curlCode", "resolve host", "Couldn't connect", "TIMEOUT")
_BUSY = ("SLOW_DOWN", "THROTTLING", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE", "HTTP status 5")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "HTTP status 301", "IllegalLocation")

_regions: dict[tuple[str, str], str] = {}
"""Where buckets turned out to lie, by host and name."""


def ask(address: str, question: Callable[[Any], _Answer]) -> _Answer:
    """Ask the store of an address: `question` is given its file system.

    Where the bucket lies in another region than is said, it is asked there.

    Raises
    ------
    CupolaError
        When the store refuses or cannot be reached; FileNotFoundError is left to who asks.
    """
    bucket = bucket_of(address)
    store = store_of(bucket)
    for _ in range(2):
        said = _regions.get((store.host, bucket), store.region)
        try:
            return question(_files(store, said, os.environ.get("AWS_PROFILE", "")))
        except FileNotFoundError:
            raise
        except OSError as error:
            found = _region_in(str(error)) or (
                _region_of(store, said, bucket) if _says(error, _ELSEWHERE) else ""
            )
            if not found or found == said:
                raise refusal(address, store, error) from error
            _regions[store.host, bucket] = found
    raise UnavailableError(
        f"{named(address)} cannot be read: the store names another region for the bucket each time; set AWS_REGION to "
        "the bucket's."
    )


@lru_cache(maxsize=1)
def _open() -> weakref.WeakSet[Any]:
    """Return the objects that are open; they are closed when the process ends, before the library of stores ends.

    An object that outlives that library crashes the process.
    """
    import pyarrow.fs  # noqa: F401 - registers its own end

    found: weakref.WeakSet[Any] = weakref.WeakSet()

    def close() -> None:
        for one in list(found):
            with contextlib.suppress(OSError, ValueError):
                one.close()
        _files.cache_clear()

    # After the import of the library: what was registered last runs first.
    atexit.register(close)
    return found


def close_at_exit(file: Any) -> None:
    """Close an object when the process ends, if it is open then."""
    _open().add(file)


@lru_cache(maxsize=32)
def _files(store: Store, region: str, _profile: str) -> Any:
    """Return the file system of a store."""
    from pyarrow import fs

    _open()
    options: dict[str, Any] = {"request_timeout": _TIMEOUT_S, "connect_timeout": _CONNECT_S}
    if store.host:
        options |= {"scheme": store.scheme, "endpoint_override": store.host}
    if region or store.host or store.anonymous:
        # Without a region the library asks the machine it runs on, which takes seconds where that is no cloud's.
        options["region"] = region or "us-east-1"
    if store.key and not store.anonymous:
        options |= {"access_key": store.key, "secret_key": store.secret}
        options |= {"session_token": store.token} if store.token else {}
    return fs.S3FileSystem(anonymous=store.anonymous, **options)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)


def _region_in(said: str) -> str:
    """Return the region that an answer names."""
    match = re.search(r"the bucket is located in '([\w-]+)'|expecting '([\w-]+)'", said)
    return next((group for group in match.groups() if group), "") if match else ""


def _region_of(store: Store, region: str, bucket: str) -> str:
    """Return the region of a bucket, from the answer to a question about it."""
    try:
        _files(store, region, os.environ.get("AWS_PROFILE", "")).get_file_info(f"{bucket}/.")
    except OSError as error:
        return _region_in(str(error))
    return ""


def refusal(address: str, store: Store, error: BaseException) -> CupolaError:
    """Return why an object store refused, in a sentence that says what can be done."""
    place, bucket = named(address), bucket_of(address)
    profile = f"the profile {store.profile!r}" if store.profile else ""
    ours = bool(profile)
    whose = profile or "AWS_ACCESS_KEY_ID"
    secret = f"aws_secret_access_key of {profile}" if ours else "AWS_SECRET_ACCESS_KEY"
    where = f"region and endpoint_url in {profile}" if ours else "AWS_REGION and AWS_ENDPOINT_URL"
    at = f"endpoint_url in {profile}" if ours else "AWS_ENDPOINT_URL"
    reasons: tuple[tuple[tuple[str, ...], type[CupolaError], str], ...] = (
        (
            _UNKNOWN_KEY,
            InputError,
            f"{store.place} does not know the access key of {whose}: look whether it is right",
        ),
        (_WRONG_SECRET, InputError, f"the secret does not belong to the access key; look at {secret}"),
        (_EXPIRED, InputError, f"the keys of {profile or 'the session'} are no longer valid; get new ones"),
        (_NOT_ALLOWED, InputError, _rights(store, bucket)),
        (("NO_SUCH_BUCKET",), NotFoundError, _no_bucket(store, bucket)),
        (_ELSEWHERE, InputError, f"the bucket {bucket} lies in another region or store; set {where}"),
        (
            _SILENT,
            UnavailableError,
            f"{store.place} does not answer; look at {at} and whether this session has a way out",
        ),
        (_BUSY, UnavailableError, f"{store.place} is busy or out of order; try again later"),
    )
    for words, kind, reason in reasons:
        if _says(error, words):
            # Stores say of requests without keys that they do not know the key, too.
            keyless = store.anonymous and words in (_UNKNOWN_KEY, _WRONG_SECRET, _EXPIRED)
            return kind(f"{place} cannot be read: {_rights(store, bucket) if keyless else reason}.")
    return UnavailableError(f"{place} cannot be read: {' '.join(str(error).split())[:300]}")


def _rights(store: Store, bucket: str) -> str:
    """Say which rights are missing, and where they are given."""
    if store.anonymous and not store.profile:
        return (
            f"{store.place} asks for other rights to the bucket {bucket}: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or name the bucket in a profile with keys (cupola_buckets in ~/.aws/config)"
        )
    if store.anonymous:
        return f"{store.place} asks for other rights to the bucket {bucket}: give the profile {store.profile!r} keys"
    if store.payer:
        return (
            f"{store.place} refuses: of buckets whose readers pay only single GeoTIFF and JPEG 2000 files are read in "
            f"place; copy others from {bucket} to a volume, or ask its owner whether these keys have the right"
        )
    payer = "cupola_request_payer = requester" if store.profile else "AWS_REQUEST_PAYER=requester"
    return (
        f"{store.place} asks for other rights to the bucket {bucket} than these keys have: ask its owner, or say {payer} "
        "if its readers pay"
    )


def _no_bucket(store: Store, bucket: str) -> str:
    way = "the profile's endpoint_url" if store.profile else "AWS_ENDPOINT_URL"
    return f"there is no bucket {bucket} at {store.place}; look at its name and at {way}"


def no_bucket(address: str) -> NotFoundError | None:
    """Return that the bucket is not there, if it is not."""
    from pyarrow import fs

    bucket = bucket_of(address)
    found = ask(address, lambda files: files.get_file_info(bucket))
    if found.type != fs.FileType.NotFound:
        return None
    return NotFoundError(f"{named(address)} cannot be read: {_no_bucket(store_of(bucket), bucket)}.")


def trouble(address: str) -> CupolaError | None:
    """Ask why an object cannot be read, where another library only said that it cannot; nothing where it can."""
    from pyarrow import fs

    path = address.removeprefix("s3://")
    try:
        found = ask(address, lambda files: files.get_file_info(path))
        if found.type != fs.FileType.NotFound:
            return None
        missing = no_bucket(address)
    except (CupolaError, OSError) as error:
        return _told(address, error)
    where = f"the bucket {bucket_of(address)} at {store_of(bucket_of(address)).place}"
    return missing or NotFoundError(f"{named(address)} cannot be read: there is no such file in {where}.")


def _told(address: str, error: BaseException) -> CupolaError:
    """Return the refusal with its reason: an answer without a body names none, that to a listing does."""
    from pyarrow import fs

    if (
        isinstance(error, InputError)
        and isinstance(error.__cause__, OSError)
        and _says(error.__cause__, _NOT_ALLOWED)
    ):
        path = address.removeprefix("s3://").rstrip("/")
        try:
            ask(address, lambda files: files.get_file_info(fs.FileSelector(path, allow_not_found=True)))
        except CupolaError as reason:
            return reason
        except OSError:
            pass
    return (
        error
        if isinstance(error, CupolaError)
        else UnavailableError(f"{named(address)} cannot be read: {error}")
    )


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turn what the store says while an object is read into a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise trouble(address) or NotFoundError(
            f"{named(address)} cannot be read: there is no such file."
        ) from error
    except OSError as error:
        raise refusal(address, store_of(bucket_of(address)), error) from error
    except InputError as error:
        raise _told(address, error) from error
