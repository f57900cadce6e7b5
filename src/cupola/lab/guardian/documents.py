"""Notebooks as files: read with what their kernels said while no page was there."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from typing_extensions import override

from cupola.lab.guardian.notebook import merge

__all__ = ["SurvivingContents"]


class SurvivingContents(AsyncLargeFileManager):
    """The files of a session."""

    @override
    async def get(self, path: str, content: bool = True, **options: Any) -> dict[str, Any]:
        model = await super().get(path, content=content, **options)
        if content and model.get("type") == "notebook":
            path = path.strip("/")
            for ledger in self.parent.kernel_manager.ledgers():
                ledger.poll()
                merge(model["content"], ledger.of(path))
        return model
