"""The threads of the SQLite driver."""

from __future__ import annotations

import asyncio
import threading


async def sqlite_threads_end():
    """Wait a moment for the driver's threads: one whose connection failed answers once more, to a loop that must still run."""
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 1)
