"""Limits on homes and team volumes: btrfs, XFS, loop images, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.config import QuotaKind
from cupola.platform.storage.quotas.base import Held, Limit, LimitInUseError, Owner, Quota, QuotaError, places
from cupola.platform.storage.quotas.btrfs import BtrfsQuota
from cupola.platform.storage.quotas.loop import LoopQuota
from cupola.platform.storage.quotas.none import NoQuota
from cupola.platform.storage.quotas.xfs import XfsQuota

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "BtrfsQuota",
    "Held",
    "Limit",
    "LimitInUseError",
    "LoopQuota",
    "NoQuota",
    "Owner",
    "Quota",
    "QuotaError",
    "XfsQuota",
    "open_quota",
    "places",
]

_KINDS: dict[QuotaKind, type[Quota]] = {
    QuotaKind.NONE: NoQuota,
    QuotaKind.BTRFS: BtrfsQuota,
    QuotaKind.XFS: XfsQuota,
    QuotaKind.LOOP: LoopQuota,
}


def open_quota(kind: QuotaKind, roots: list[Path]) -> Quota:
    """Return what holds the folders in `roots` below their limits."""
    return _KINDS[kind](roots)
