"""Volumes in every state that a page can show."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cupola.models.base import now
from cupola.models.volume import Access, Bucket, CollectionSummary, Visibility, Volume, VolumeKind


def volumes():
    home = Path("/home/ada")
    return [
        Volume(
            name="home",
            title="Home",
            description="Your own files: they stay when a session ends.",
            kind=VolumeKind.HOME,
            source=home,
            access=Access.WRITE,
            size_bytes=734_003_200,
        ),
        Volume(
            name="sample-archive",
            title="Sample archive",
            description="Small made-up images of Earth, a planet and the sky, to try things with.",
            kind=VolumeKind.ARCHIVE,
            source=home,
            licence="CC0-1.0",
            citation="The Cupola developers (2026): sample archive.",
            example="tour.ipynb",
            size_bytes=61_203_456,
            collections=[
                CollectionSummary(
                    id="sentinel-2-l2a",
                    title="Sentinel-2 Level-2A (made up)",
                    items=12,
                    bands=["B02", "B03", "B04", "B08", "B11", "SCL"],
                ),
                CollectionSummary(
                    id="cratered", title="Cratered planet", items=3, bands=["red"], body="Mars"
                ),
            ],
        ),
        Volume(name="bare", title="A folder without metadata", kind=VolumeKind.ARCHIVE, source=home),
        Volume(
            name="mars-archive",
            title="Mars archive",
            kind=VolumeKind.ARCHIVE,
            source=Path("/archive/mars"),
            unavailable="There is no folder /archive/mars: make it, or correct the path in cupola.yaml.",
        ),
        bucket(),
    ]


def bucket():
    return Volume(
        name="hst-acs",
        title="Hubble ACS, public",
        description="Exposures of the *Advanced Camera for Surveys*.\n\n<script>alert(2)</script>",
        kind=VolumeKind.CUSTOM,
        source=Path("/mounts/hst-acs/data"),
        bucket=Bucket(endpoint="https://s3.example.org", bucket="hst-public", prefix="acs/drizzled"),
        mission="Hubble Space Telescope",
        instrument="ACS",
        licence="CC-BY-4.0",
        citation="A. Author, B. Author and C. Author (2026), Exposures of one field, doi:10.0000/example",
        tags=["imaging", "ultraviolet"],
        example="examples/first-look.ipynb",
        owner="ada",
        visibility=Visibility.EVERYBODY,
        pending=True,
        created=now() - timedelta(days=4),
        size_bytes=1_319_413_953_331,
        size_exact=False,
        looking="Collections are being looked for: 1,204 folders and documents so far.",
    )
