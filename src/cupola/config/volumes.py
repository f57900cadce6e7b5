"""Settings of volumes: the data areas that sessions can mount."""

from __future__ import annotations

from pydantic import Field

from cupola.config.base import Settings, UserPath
from cupola.models.base import Slug
from cupola.models.volume import Access

__all__ = ["VolumeSettings"]


class VolumeSettings(Settings):
    """A folder of this machine that is offered in the data catalogue."""

    name: Slug = Field(
        title="Name",
        description="The name in addresses and in sessions, where the volume is found as `~/volumes/NAME`.",
        examples=["mars-archive"],
        json_schema_extra={
            "expects": "small letters, digits and single hyphens, a letter first, at most 40 characters"
        },
    )
    title: str = Field(
        title="Title",
        description="The name for people.",
        examples=["Mars archive"],
        min_length=1,
        max_length=100,
        json_schema_extra={"expects": "text of 1 to 100 characters"},
    )
    description: str = Field(
        default="",
        title="Description",
        description="What lies in it, in Markdown.",
        examples=["Calibrated images of one orbiter, as ISIS cubes with STAC items."],
        json_schema_extra={"expects": "text"},
    )
    path: UserPath = Field(
        title="Folder",
        description="Where it lies on this machine; a relative path starts at the folder of cupola.yaml.",
        examples=["/data/mars"],
        json_schema_extra={"expects": "a folder"},
    )
    access: Access = Field(
        default=Access.READ,
        strict=False,
        title="Access",
        description="Whether sessions may change it.",
        examples=["read"],
        json_schema_extra={"expects": "one of read, write"},
    )
    licence: str = Field(
        default="",
        title="Licence",
        description="The licence of the data, as people should quote it.",
        examples=["CC-BY-4.0"],
        json_schema_extra={"expects": "text"},
    )
    citation: str = Field(
        default="",
        title="Citation",
        description="How to cite the data.",
        examples=["A. Author (2026), Mars archive, doi:10.0000/example"],
        json_schema_extra={"expects": "text"},
    )
    example: str | None = Field(
        default=None,
        title="Example",
        description="A notebook that shows how to use it, relative to the volume.",
        examples=["examples/first-look.ipynb"],
        json_schema_extra={"expects": "a relative path"},
    )
